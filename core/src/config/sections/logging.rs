use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;

use super::super::{Validate, Violations};
use crate::{Error, Result};

/// Log lines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogConfig {
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`, and levels for parts of the program after commas:
    /// `info,cqi_core=debug`. Default `info`.
    pub level: String,
    /// `json` or `text`. Default `json`.
    pub format: LogFormat,
    /// `stdout`, `stderr` or the path of a file, which is appended to. Default `stdout`.
    pub output: String,
    /// How many bytes of lines may wait for a slow output, 64 KiB to 1 GiB; further lines are dropped and counted.
    /// Default 4 MiB.
    pub buffer: usize,
    /// The names of further fields whose values are hidden in lines and spans, beside `password`, `token` and the like;
    /// case and separators aside, also as a part of a name. Default none.
    pub redact_fields: Vec<String>,
    /// Whether secrets are looked for in texts as well. Default true.
    pub redact_patterns: bool,
    /// Whether e-mail addresses in texts are hidden as well. Default false.
    pub redact_emails: bool,
}

/// What a log line looks like (OP-38).
#[allow(clippy::exhaustive_enums)] // settled by OP-38
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object per line.
    #[default]
    Json,
    /// Plain text for people, while developing.
    Text,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            level: "info".into(),
            format: LogFormat::Json,
            output: "stdout".into(),
            buffer: 4 << 20,
            redact_fields: Vec::new(),
            redact_patterns: true,
            redact_emails: false,
        }
    }
}

impl Validate for LogConfig {
    fn validate(&self, violations: &mut Violations) {
        if let Err(error) = self.level.parse::<LogFilter>() {
            violations.add("level", error.message());
        }
        violations.required("output", &self.output);
        violations.range("buffer", self.buffer, 64 << 10..=1 << 30);
        for (i, name) in self.redact_fields.iter().enumerate() {
            let is_name = name.len() <= 64 && name.bytes().any(|byte| byte.is_ascii_alphanumeric());
            violations.rule(
                &format!("redact_fields[{i}]"),
                is_name,
                "must have an ASCII letter or digit, and at most 64 bytes",
            );
        }
        let emails = self.redact_patterns || !self.redact_emails;
        violations.rule("redact_emails", emails, "needs redact_patterns");
    }
}

/// A level, and other levels for parts of the program: `info,cqi_core=debug`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter {
    /// The level where no target fits.
    pub level: LevelFilter,
    /// Targets (module paths such as `cqi_core::event`) with their levels, the longest first: the first that fits a
    /// target or one of its parents decides.
    pub targets: Vec<(String, LevelFilter)>,
}

impl FromStr for LogFilter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        const EXPECTED: &str =
            "must be off, error, warn, info, debug or trace, then target=level for parts of the program";
        let wrong = || Error::invalid_input(EXPECTED);
        let mut filter = Self {
            level: LevelFilter::OFF,
            targets: Vec::new(),
        };
        for (i, part) in text.split(',').map(str::trim).enumerate() {
            match part.split_once('=') {
                None if i == 0 => filter.level = level(part).ok_or_else(wrong)?,
                Some((target, name)) if i > 0 && !target.is_empty() => {
                    filter
                        .targets
                        .push((target.trim().to_owned(), level(name.trim()).ok_or_else(wrong)?));
                }
                _ => return Err(wrong()),
            }
        }
        filter
            .targets
            .sort_by_key(|(target, _)| std::cmp::Reverse(target.len()));
        Ok(filter)
    }
}

fn level(name: &str) -> Option<LevelFilter> {
    let levels = [
        ("off", LevelFilter::OFF),
        ("error", LevelFilter::ERROR),
        ("warn", LevelFilter::WARN),
        ("info", LevelFilter::INFO),
        ("debug", LevelFilter::DEBUG),
        ("trace", LevelFilter::TRACE),
    ];
    levels
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, level)| *level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_2_levels_and_targets_are_read() {
        let filter: LogFilter = "INFO,cqi=debug, cqi::event = trace".parse().unwrap();
        assert_eq!(filter.level, LevelFilter::INFO);
        let expected = [("cqi::event", LevelFilter::TRACE), ("cqi", LevelFilter::DEBUG)];
        assert_eq!(
            filter.targets,
            expected.map(|(target, level)| (target.to_owned(), level))
        );
    }

    #[test]
    fn op_17_an_unknown_level_is_an_error() {
        for bad in [
            "",
            "loud",
            "info,",
            "cqi=debug",
            "info,debug",
            "info,=debug",
            "info,cqi=loud",
            "3",
        ] {
            assert!(bad.parse::<LogFilter>().is_err(), "{bad}");
        }
    }
}
