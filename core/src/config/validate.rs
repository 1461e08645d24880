//! The rules of a configuration, and what breaks them.

use std::{fmt, fmt::Write as _, ops::RangeInclusive, time::Duration};

use crate::{Error, Result};

/// The longest duration a setting may have: a year. Longer ones are slips of the pen.
const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 3600);

/// A configuration that knows its rules. All broken rules are reported, not the first.
pub trait Validate {
    /// Adds what is wrong to `violations`, under keys relative to this struct.
    fn validate(&self, violations: &mut Violations);
}

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The full key, for example `database.port`. Empty when a source as a whole is meant.
    pub key: String,
    /// What is expected, for example `must be from 1 to 65535`.
    pub rule: String,
    /// Where the value came from: `config.yaml`, `CQI_DATABASE_PORT`, `default`.
    pub source: String,
    /// The value, where there is one to show; `***` for a secret.
    pub value: Option<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => write!(f, "{}: {}", self.source, self.rule)?,
            key => write!(f, "{key} ({}): {}", self.source, self.rule)?,
        }
        self.value
            .as_ref()
            .map_or(Ok(()), |value| write!(f, ", got {value}"))
    }
}

/// Collects broken rules.
#[derive(Debug, Default)]
pub struct Violations {
    prefix: String,
    found: Vec<(String, String)>,
}

impl Violations {
    /// Adds a broken rule at `key`: a sentence such as `must not be below min_connections (5)`.
    pub fn add(&mut self, key: &str, rule: impl Into<String>) {
        self.found.push((format!("{}{key}", self.prefix), rule.into()));
    }

    /// Adds `rule` unless it holds.
    pub fn rule(&mut self, key: &str, holds: bool, rule: impl Into<String>) {
        if !holds {
            self.add(key, rule);
        }
    }

    /// The text must not be empty (CFG-19).
    pub fn required(&mut self, key: &str, value: &str) {
        self.rule(key, !value.is_empty(), "is required");
    }

    /// The value must be within the range, both ends included.
    #[allow(clippy::needless_pass_by_value)] // the values are plain numbers
    pub fn range<N: PartialOrd + fmt::Display>(&mut self, key: &str, value: N, range: RangeInclusive<N>) {
        if !range.contains(&value) {
            self.add(key, format!("must be from {} to {}", range.start(), range.end()));
        }
    }

    /// The port must be from 1 to 65535 (CFG-20).
    pub fn port(&mut self, key: &str, value: u16) {
        self.rule(key, value > 0, "must be a port from 1 to 65535");
    }

    /// The duration must be longer than zero and no longer than a year.
    pub fn positive_duration(&mut self, key: &str, value: Duration) {
        self.rule(key, !value.is_zero(), "must be longer than zero");
        self.max_duration(key, value);
    }

    /// The duration may be zero but no longer than a year.
    pub fn max_duration(&mut self, key: &str, value: Duration) {
        self.rule(key, value <= MAX_DURATION, "must not be longer than a year");
    }

    /// Validates a section under its key.
    pub fn nested(&mut self, key: &str, section: &impl Validate) {
        let outer = self.prefix.len();
        self.prefix.push_str(key);
        self.prefix.push('.');
        section.validate(self);
        self.prefix.truncate(outer);
    }

    /// One error for everything found, for a configuration that was put together in code.
    ///
    /// # Errors
    /// `InvalidInput` naming every key and rule, if there are any.
    pub fn into_result(self) -> Result<()> {
        if self.found.is_empty() {
            return Ok(());
        }
        let violation = |(key, rule)| Violation {
            key,
            rule,
            source: "configuration".to_owned(),
            value: None,
        };
        Err(into_error(self.found.into_iter().map(violation).collect()))
    }

    /// The full key and the rule of everything found so far.
    pub fn found(&self) -> impl Iterator<Item = (&str, &str)> {
        self.found.iter().map(|(key, rule)| (key.as_str(), rule.as_str()))
    }
}

/// Every violation behind an error of [`load`](super::load); empty for other errors (P-ERR-1).
pub fn violations(error: &Error) -> &[Violation] {
    let source = std::error::Error::source(error);
    source
        .and_then(|source| source.downcast_ref::<Invalid>())
        .map_or(&[], |invalid| &invalid.0)
}

/// The cause of a configuration error: the list.
#[derive(Debug)]
struct Invalid(Vec<Violation>);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid configuration")
    }
}

impl std::error::Error for Invalid {}

/// One error out of many violations; its text is one line that names them all.
pub(super) fn into_error(violations: Vec<Violation>) -> Error {
    let mut text = match violations.len() {
        1 => "1 error".to_owned(),
        n => format!("{n} errors"),
    };
    for (i, violation) in violations.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{} {violation}", if i == 0 { ":" } else { ";" });
    }
    Error::invalid_input(text)
        .with_operation("configuration")
        .with_source(Invalid(violations))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pool(u16);

    impl Validate for Pool {
        fn validate(&self, violations: &mut Violations) {
            violations.port("port", self.0);
            violations.positive_duration("timeout", Duration::ZERO);
            violations.positive_duration("timeout", Duration::MAX);
        }
    }

    #[test]
    fn ml_cfg_6_all_violations_are_found_under_their_full_keys() {
        let mut violations = Violations::default();
        violations.nested("database", &Pool(0));
        violations.required("name", "");
        violations.range("rate", f64::NAN, 0.0..=1.0);
        let keys: Vec<_> = violations.found().map(|(key, _)| key).collect();
        assert_eq!(
            keys,
            [
                "database.port",
                "database.timeout",
                "database.timeout",
                "name",
                "rate"
            ]
        );
    }

    #[test]
    fn p_err_1_many_violations_are_one_error_of_one_line() {
        let violation = |key: &str, value: Option<&str>| Violation {
            key: key.into(),
            rule: "is\nbad".into(),
            source: "default".into(),
            value: value.map(Into::into),
        };
        let error = into_error(vec![violation("a", None), violation("", Some("1"))]);
        assert_eq!(
            error.to_string(),
            "configuration: 2 errors: a (default): is\\nbad; default: is\\nbad, got 1"
        );
        assert!(error.is_invalid_input());
        assert_eq!(violations(&error).len(), 2);
        assert!(violations(&Error::permanent("x")).is_empty());
    }
}
