//! What a caller must be allowed to do.

use super::AuthContext;
use crate::{Code, Error, Result};

/// The permissions a caller needs, all of them, and the roles, one of them (P-AUTH-2).
///
/// ```
/// # use cqi_core::auth::Requirement;
/// let write = Requirement::permission("positions:write").or_role("admin");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requirement {
    permissions: Vec<String>,
    roles: Vec<String>,
}

impl Requirement {
    /// A caller that has proved who it is.
    pub fn authenticated() -> Self {
        Self::default()
    }

    /// A caller with this permission.
    pub fn permission(permission: impl Into<String>) -> Self {
        Self::default().and_permission(permission)
    }

    /// A caller with this role.
    pub fn role(role: impl Into<String>) -> Self {
        Self::default().or_role(role)
    }

    /// It needs this permission as well.
    pub fn and_permission(mut self, permission: impl Into<String>) -> Self {
        self.permissions.push(permission.into());
        self
    }

    /// This role is enough by itself.
    pub fn or_role(mut self, role: impl Into<String>) -> Self {
        self.roles.push(role.into());
        self
    }

    /// Checks a caller.
    ///
    /// # Errors
    /// `Unauthorized`/`PermissionDenied` when it lacks a permission and has none of the roles. What it lacks is not said.
    pub fn check(&self, caller: &AuthContext) -> Result<()> {
        let has_role = self.roles.iter().any(|role| caller.has_role(role));
        // Roles alone are a demand; beside permissions they are another way.
        let by_permission = !self.permissions.is_empty() || self.roles.is_empty();
        let permitted = by_permission
            && self
                .permissions
                .iter()
                .all(|permission| caller.has_permission(permission));
        if has_role || permitted {
            return Ok(());
        }
        Err(Error::unauthorized("the caller may not do this").with_code(Code::PermissionDenied))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::AuthType;

    fn caller(claims: serde_json::Value) -> AuthContext {
        let serde_json::Value::Object(claims) = claims else {
            panic!("claims are an object")
        };
        AuthContext::new(AuthType::Jwt).with_claims(claims)
    }

    #[test]
    fn p_auth_2_permissions_and_roles_are_demanded() {
        let reader = caller(json!({"scope": "positions:read orders:read"}));
        let writer = caller(json!({"permissions": ["positions:write", "positions:read"]}));
        let admin = caller(json!({"roles": ["admin"]}));
        let nobody = caller(json!({"scope": 7, "roles": {"admin": true}, "permissions": "positions:write2"}));
        let write = Requirement::permission("positions:write").or_role("admin");
        let both = Requirement::permission("positions:read").and_permission("orders:read");
        let role = Requirement::role("admin");
        for (requirement, allowed) in [
            (&write, [false, true, true, false]),
            (&both, [true, false, false, false]),
            (&role, [false, false, true, false]),
            (&Requirement::authenticated(), [true, true, true, true]),
        ] {
            let found = [&reader, &writer, &admin, &nobody].map(|caller| requirement.check(caller).is_ok());
            assert_eq!(found, allowed, "{requirement:?}");
        }
        let error = write.check(&nobody).unwrap_err();
        assert_eq!(error.code(), Some(Code::PermissionDenied));
        assert!(!error.to_string().contains("positions"));
    }
}
