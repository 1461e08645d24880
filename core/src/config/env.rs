//! Environment variables. This is the only place that reads the process environment.

use std::{collections::BTreeMap, ffi::OsString};

use super::{
    Keys, Settings, Source,
    keys::{join, nearest},
};
use crate::{Error, Result};

/// The variable that sets the log level beside the prefixed one (LOG-7), and the key it sets.
const LOG_LEVEL: (&str, &str) = ("LOG_LEVEL", "logging.level");

/// One reading of the environment. A variable whose value is not UTF-8 is `None`.
#[derive(Clone, Default)]
pub(super) struct Vars(BTreeMap<String, Option<String>>);

impl Vars {
    /// The environment of this process, now.
    pub(super) fn of_process() -> Self {
        Self::from_pairs(std::env::vars_os())
    }

    pub(super) fn from_pairs<K: Into<OsString>, V: Into<OsString>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let text =
            |(name, value): (K, V)| Some((name.into().into_string().ok()?, value.into().into_string().ok()));
        Self(pairs.into_iter().filter_map(text).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_deref()
    }
}

impl std::fmt::Debug for Vars {
    /// Names only: the values may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Variables with a prefix, resolved against the known keys.
#[derive(Debug)]
pub(super) struct Env {
    pub(super) prefix: String,
    pub(super) vars: Vars,
    /// A variable with the prefix that sets nothing, and is no mistake either.
    pub(super) not_a_setting: Option<String>,
}

impl Env {
    /// Checks the prefix: capital letters, digits and `_`, beginning with a letter.
    pub(super) fn check_prefix(prefix: &str) -> Result<()> {
        let valid = prefix.starts_with(|c: char| c.is_ascii_uppercase())
            && prefix
                .bytes()
                .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        let refuse = || Error::invalid_input("the prefix of environment variables must be [A-Z][A-Z0-9_]*");
        if valid {
            Ok(())
        } else {
            Err(refuse().with_context("prefix", prefix))
        }
    }

    /// The variable of a key: `CQI_DATABASE_MAX_CONNECTIONS` for `database.max_connections`.
    pub(super) fn variable(&self, key: &str) -> String {
        join(&self.prefix, key)
            .replace(['.', '-'], "_")
            .to_ascii_uppercase()
    }
}

impl Source for Env {
    fn name(&self) -> &str {
        "environment"
    }

    fn priority(&self) -> i32 {
        300
    }

    fn read(&self, keys: &Keys, settings: &mut Settings) {
        let mut known: BTreeMap<String, &str> = BTreeMap::new();
        for key in keys.iter() {
            let variable = self.variable(key);
            if let Some(other) = known.get(variable.as_str()) {
                settings.refuse(key, format!("has the same variable as `{other}`"), variable);
            } else {
                known.insert(variable, key);
            }
        }
        let prefix = format!("{}_", self.prefix);
        for (name, value) in self
            .vars
            .0
            .range(prefix.clone()..)
            .take_while(|(name, _)| name.starts_with(&prefix))
        {
            match (known.get(name), value) {
                (Some(key), Some(text)) => settings.set_text(*key, text, name),
                (Some(key), None) => settings.refuse(*key, "must be UTF-8", name),
                (None, _) if self.not_a_setting.as_ref() == Some(name) || settings.named.contains(name) => {}
                (None, _) => settings.warn(match nearest(name, known.keys().map(String::as_str)) {
                    Some(near) => format!("unknown variable {name}, did you mean {near}?"),
                    None => format!("unknown variable {name}"),
                }),
            }
        }
        let (variable, key) = LOG_LEVEL;
        if let Some(level) = self.vars.get(variable)
            && keys.contains(key)
            && self.vars.get(&self.variable(key)).is_none()
        {
            settings.set_text(key, level, variable);
        }
    }
}
