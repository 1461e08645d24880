//! What metrics and labels may be called.

use std::collections::HashSet;

use cqi_core::{Error, Result, name};

/// The most labels of one metric.
const MAX_LABELS: usize = 20;

/// The prefix of a service's metrics (OP-19).
pub(super) fn prefix(service: &str) -> Result<String> {
    name::check_name(service, "service name")?;
    Ok(service.replace('-', "_"))
}

/// Checks a subsystem or the last part of a metric's name: `[a-z][a-z0-9_]*`, at most 100 bytes.
pub(super) fn check_part(part: &str, what: &str) -> Result<()> {
    let valid = part.len() <= 100
        && part.starts_with(|c: char| c.is_ascii_lowercase())
        && part
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if valid {
        Ok(())
    } else {
        Err(refuse(
            format!("{what} must be [a-z][a-z0-9_]*, at most 100 bytes"),
            part,
        ))
    }
}

/// Checks label names: `[a-z_][a-z0-9_]*`, not beginning with `__`, each once, and none that Prometheus sets itself.
pub(super) fn check_labels(labels: &[&str]) -> Result<()> {
    if labels.len() > MAX_LABELS {
        return Err(Error::invalid_input(format!(
            "a metric has at most {MAX_LABELS} labels"
        )));
    }
    let mut seen = HashSet::new();
    for label in labels {
        check_part(label, "a label")?;
        if matches!(*label, "le" | "quantile") {
            return Err(refuse("the label's name is taken".into(), label));
        }
        if !seen.insert(label) {
            return Err(refuse("a label stands twice".into(), label));
        }
    }
    Ok(())
}

/// Checks bucket bounds: 1 to 100 of them, finite and rising.
pub(super) fn check_buckets(buckets: &[f64]) -> Result<()> {
    let rising = buckets.is_sorted_by(|a, b| a < b) && buckets.iter().all(|bound| bound.is_finite());
    if rising && (1..=100).contains(&buckets.len()) {
        return Ok(());
    }
    Err(Error::invalid_input(
        "buckets must be 1 to 100 rising finite bounds",
    ))
}

fn refuse(why: String, name: &str) -> Error {
    let shown: String = name.chars().take(100).collect();
    Error::invalid_input(why).with_context("name", shown)
}
