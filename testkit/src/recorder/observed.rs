//! An observation that can be kept.

use std::{collections::BTreeMap, time::Duration};

use cqi_core::{Error, observe::Observation};

/// An observation as owned values.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct Observed {
    /// The variant in snake case: `called`, `retrying`, `published`, `handled`, `dead_lettered`, `panic_recovered`,
    /// `served`, `cache_lookup`; `other` for one that this version does not know.
    pub name: &'static str,
    /// Labels and counts by the names of their fields.
    pub labels: BTreeMap<&'static str, String>,
    /// How long it took, or the pause before a retry.
    pub elapsed: Option<Duration>,
    /// The error, if there was one.
    pub error: Option<Error>,
}

impl Observed {
    /// A label's text; empty if there is none of this name.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    pub(super) fn contains(&self, text: &str) -> bool {
        self.labels.values().any(|value| value.contains(text))
            || self
                .error
                .as_ref()
                .is_some_and(|error| error.chain().to_string().contains(text))
    }

    pub(super) fn new(observation: &Observation<'_>) -> Self {
        let made = |name, labels: &[(&'static str, &dyn ToString)]| Self {
            name,
            labels: labels
                .iter()
                .map(|(name, value)| (*name, value.to_string()))
                .collect(),
            elapsed: None,
            error: None,
        };
        match observation {
            Observation::Called {
                operation,
                elapsed,
                attempts,
                error,
            } => made("called", &[("operation", operation), ("attempts", attempts)])
                .took(*elapsed)
                .failed(*error),
            Observation::Retrying {
                operation,
                attempt,
                delay,
                error,
            } => made("retrying", &[("operation", operation), ("attempt", attempt)])
                .took(*delay)
                .failed(Some(error)),
            Observation::Published { topic, error } => made("published", &[("topic", topic)]).failed(*error),
            Observation::Handled {
                topic,
                group,
                elapsed,
                error,
            } => made("handled", &[("topic", topic), ("group", group)])
                .took(*elapsed)
                .failed(*error),
            Observation::DeadLettered { topic, group, error } => {
                made("dead_lettered", &[("topic", topic), ("group", group)]).failed(Some(error))
            }
            Observation::PanicRecovered { place } => made("panic_recovered", &[("place", place)]),
            Observation::Served {
                protocol,
                method,
                route,
                status,
                elapsed,
                request_bytes,
                response_bytes,
            } => made(
                "served",
                &[
                    ("protocol", protocol),
                    ("method", method),
                    ("route", route),
                    ("status", status),
                    ("request_bytes", request_bytes),
                    ("response_bytes", response_bytes),
                ],
            )
            .took(*elapsed),
            Observation::CacheLookup { hit } => made("cache_lookup", &[("hit", hit)]),
            _ => made("other", &[]),
        }
    }

    fn took(self, elapsed: Duration) -> Self {
        Self {
            elapsed: Some(elapsed),
            ..self
        }
    }

    fn failed(self, error: Option<&Error>) -> Self {
        Self {
            error: error.cloned(),
            ..self
        }
    }
}
