//! What a probe answers.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    sync::Arc,
};

use serde::{Serialize, Serializer};

use crate::Error;

/// Healthy or not.
#[allow(clippy::exhaustive_enums)] // the format knows two words
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All required checks passed.
    Healthy,
    /// A required check failed, or the service is not to be sent work.
    Unhealthy,
}

/// The answer of a probe. As JSON (HLT-7):
/// `{"status":"unhealthy","checks":{"cache":"error: connection refused","database":"ok"}}`.
/// Checks stand in the order of their names; a report without checks has no `checks` (OP-26).
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Healthy or not.
    pub status: Status,
    /// The outcome of each check by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<Arc<str>, Outcome>,
}

impl Report {
    /// A healthy report without checks.
    pub fn healthy() -> Self {
        Self {
            status: Status::Healthy,
            checks: BTreeMap::new(),
        }
    }

    /// Whether the status is [`Status::Healthy`].
    pub fn is_healthy(&self) -> bool {
        self.status == Status::Healthy
    }

    /// The HTTP status of this report: 200 or 503 (HLT-5).
    pub fn http_status(&self) -> u16 {
        if self.is_healthy() { 200 } else { 503 }
    }

    pub(super) fn add(&mut self, name: Arc<str>, outcome: Outcome, required: bool) {
        if required && !outcome.is_ok() {
            self.status = Status::Unhealthy;
        }
        self.checks.insert(name, outcome);
    }
}

/// How a check ended; displays as `ok` or `error: ` and the error's one line.
#[derive(Clone)]
pub struct Outcome(Result<(), Error>);

impl Outcome {
    /// Whether the check passed.
    pub fn is_ok(&self) -> bool {
        self.0.is_ok()
    }

    /// Why it did not.
    pub fn error(&self) -> Option<&Error> {
        self.0.as_ref().err()
    }
}

impl From<Result<(), Error>> for Outcome {
    fn from(result: Result<(), Error>) -> Self {
        Self(result)
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Ok(()) => f.write_str("ok"),
            Err(error) => write!(f, "error: {error}"),
        }
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

impl PartialEq for Outcome {
    /// Outcomes are equal when they read the same.
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for Outcome {}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hlt_7_op_26_reports_have_the_promised_form() {
        let mut report = Report::healthy();
        let json = |report: &Report| serde_json::to_string(report).unwrap();
        assert_eq!(json(&report), r#"{"status":"healthy"}"#);
        report.add("database".into(), Ok(()).into(), true);
        assert_eq!(
            json(&report),
            r#"{"status":"healthy","checks":{"database":"ok"}}"#
        );
        let refused = Error::temporary("connection refused");
        report.add("cache".into(), Err(refused).into(), true);
        let expected =
            r#"{"status":"unhealthy","checks":{"cache":"error: connection refused","database":"ok"}}"#;
        assert_eq!((json(&report).as_str(), report.http_status()), (expected, 503));
    }
}
