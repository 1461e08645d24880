//! Who a service is: the names under which logs, traces, the registry and operators know it.

use uuid::Uuid;

use crate::{Error, Result};

/// The identity of a service (ML-CORE-1). [`App::new`](super::App::new) checks all of it at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceMetadata {
    /// The service, `[a-z][a-z0-9-]*`, at most 63 bytes, for example `asset-registry`.
    pub name: String,
    /// Its semantic version, for example `1.4.0`.
    pub version: String,
    /// This process among its equals: 1 to 128 visible characters. Default: a new UUID.
    pub instance: String,
    /// Free text about the build, at most 128 bytes. Default: empty.
    pub build: String,
    /// Where it runs, `[a-z0-9-]`, 1 to 32 bytes. Default: `development`.
    pub environment: String,
}

impl ServiceMetadata {
    /// The identity of service `name` in `version`, with defaults for the rest.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            instance: Uuid::new_v4().to_string(),
            build: String::new(),
            environment: "development".to_owned(),
        }
    }

    /// Names this process.
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }

    /// Says what was built, for example a commit.
    pub fn with_build(mut self, build: impl Into<String>) -> Self {
        self.build = build.into();
        self
    }

    /// Says where the service runs, for example `production`.
    pub fn with_environment(mut self, environment: impl Into<String>) -> Self {
        self.environment = environment.into();
        self
    }

    /// Checks every field.
    ///
    /// # Errors
    /// `InvalidInput` listing every faulty field with its rule (ML-CORE-3).
    pub fn validate(&self) -> Result<()> {
        let instance_ok =
            (1..=128).contains(&self.instance.len()) && self.instance.bytes().all(|b| b.is_ascii_graphic());
        let build_ok = self.build.len() <= 128 && !self.build.contains(char::is_control);
        let faults: Vec<&str> = [
            (
                is_name(&self.name),
                "name must be 1 to 63 of a-z, 0-9 and -, starting with a letter",
            ),
            (
                is_semver(&self.version),
                "version must be a semantic version such as 1.2.3",
            ),
            (instance_ok, "instance must be 1 to 128 visible ASCII characters"),
            (
                build_ok,
                "build must be at most 128 bytes without control characters",
            ),
            (
                is_environment(&self.environment),
                "environment must be 1 to 32 of a-z, 0-9 and -",
            ),
        ]
        .into_iter()
        .filter_map(|(ok, rule)| (!ok).then_some(rule))
        .collect();
        if faults.is_empty() {
            return Ok(());
        }
        Err(Error::invalid_input(format!(
            "service metadata: {}",
            faults.join("; ")
        )))
    }
}

fn is_lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

/// Whether a service can have this name.
pub(crate) fn is_name(name: &str) -> bool {
    name.len() <= 63 && name.starts_with(|c: char| c.is_ascii_lowercase()) && name.bytes().all(is_lower)
}

/// Whether this names a place where services run.
pub(crate) fn is_environment(environment: &str) -> bool {
    (1..=32).contains(&environment.len()) && environment.bytes().all(is_lower)
}

/// `MAJOR.MINOR.PATCH[-pre][+build]` as in <https://semver.org>, version 2.0.0.
pub(crate) fn is_semver(version: &str) -> bool {
    let number = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_digit())
            && (part == "0" || !part.starts_with('0'))
    };
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let (rest, build) = match version.split_once('+') {
        Some((rest, build)) => (rest, Some(build)),
        None => (version, None),
    };
    let (core, pre) = match rest.split_once('-') {
        Some((core, pre)) => (core, Some(pre)),
        None => (rest, None),
    };
    version.len() <= 128
        && core.split('.').count() == 3
        && core.split('.').all(number)
        && pre.is_none_or(|pre| {
            pre.split('.')
                .all(|part| word(part) && (!digits(part) || number(part)))
        })
        && build.is_none_or(|build| build.split('.').all(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ml_core_1_defaults_are_valid_and_instances_differ() {
        let (one, two) = (
            ServiceMetadata::new("a", "0.1.0"),
            ServiceMetadata::new("a", "0.1.0"),
        );
        one.validate().unwrap();
        assert_ne!(one.instance, two.instance);
    }

    #[test]
    fn ml_core_3_every_fault_is_listed_at_once() {
        let error = ServiceMetadata::new("Bad_Name", "one")
            .with_instance("a\nb")
            .with_build("x".repeat(129))
            .with_environment("")
            .validate()
            .unwrap_err();
        for field in ["name", "version", "instance", "build", "environment"] {
            assert!(error.message().contains(&format!("{field} must")), "{error}");
        }
        let error = ServiceMetadata::new("fine", "1").validate().unwrap_err();
        assert!(!error.message().contains("name must"), "{error}");
    }

    #[test]
    fn ml_core_1_versions_are_semantic() {
        for good in [
            "0.0.0",
            "1.22.333",
            "1.0.0-rc.1",
            "1.0.0-alpha-1.0+build.5",
            "1.0.0+01",
        ] {
            assert!(is_semver(good), "{good}");
        }
        for bad in [
            "", "1", "1.2", "1.2.3.4", "01.2.3", "1.2.x", "v1.2.3", "1.2.3-", "1.2.3-01", "1.2.3+", "1.2.3-é",
        ] {
            assert!(!is_semver(bad), "{bad}");
        }
    }
}
