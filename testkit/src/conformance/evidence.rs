//! What the suites write down of themselves, for `docs/guarantees.md`.
//!
//! With `CQI_EVIDENCE=folder`, each case that was run on an adapter with a name adds one JSON line to the file of its
//! port and adapter there.

use std::{fs, io::Write as _, path::PathBuf};

use serde_json::{Value, json};

use super::Outcome;

/// Adds the verdict on a case, the `at`-th of its suite.
pub(crate) fn case(port: &str, adapter: &str, at: usize, theme: &str, name: &str, outcome: &Outcome) {
    let verdict = match outcome {
        Ok(()) => "pass",
        Err(failure) if failure.is_not_applicable() => "n/a",
        Err(_) => "**fail**",
    };
    add(
        port,
        adapter,
        &json!({"at": at, "theme": theme, "case": name, "verdict": verdict}),
    );
}

/// Adds what an adapter says of itself.
pub(crate) fn capabilities(port: &str, adapter: &str, values: &[(&str, String)]) {
    add(port, adapter, &json!({ "capabilities": values }));
}

fn add(port: &str, adapter: &str, what: &Value) {
    let Some(folder) = folder().filter(|_| !adapter.is_empty()) else {
        return;
    };
    let mut line = json!({"port": port, "adapter": adapter});
    if let (Some(line), Some(what)) = (line.as_object_mut(), what.as_object()) {
        line.extend(what.clone());
    }
    // One write of one short line to a file opened for appending: lines of several processes do not mix.
    let file = folder.join(format!("{port}-{}.jsonl", adapter.replace(' ', "-")));
    let written = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&file)
        .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    if let Err(error) = written {
        panic!("{}: {error}", file.display());
    }
}

#[allow(clippy::disallowed_methods)] // a switch of the test run, not configuration of a service
pub(crate) fn folder() -> Option<PathBuf> {
    std::env::var_os("CQI_EVIDENCE")
        .filter(|folder| !folder.is_empty())
        .map(PathBuf::from)
}
