//! What was proven for which adapter, as Markdown.

use std::fmt::{self, Write as _};

use crate::conformance::{Case, Outcome, Profile, run};

/// The results of one suite on several adapters, and of the liars that tried to pass it.
#[derive(Debug, Default)]
pub struct Report {
    title: String,
    columns: Vec<(String, Vec<Verdict>)>,
    cases: Vec<(&'static str, &'static str)>,
    liars: Vec<(String, &'static str, bool)>,
}

#[derive(Debug)]
enum Verdict {
    Passed,
    NotApplicable,
    Failed(String),
}

impl From<Outcome> for Verdict {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Ok(()) => Self::Passed,
            Err(failure) if failure.is_not_applicable() => Self::NotApplicable,
            Err(failure) => Self::Failed(failure.to_string()),
        }
    }
}

impl Report {
    /// An empty report of a port.
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            ..Self::default()
        }
    }

    /// Runs every case, each on a harness of its own, and adds a column with the results. All columns must be of one
    /// suite. Blocks the thread, as [`run`] does.
    pub fn run_suite<H>(
        &mut self,
        adapter: impl Into<String>,
        cases: &[Case<H>],
        profile: impl Fn(&H) -> Profile,
        mut harness: impl FnMut() -> H,
    ) {
        let results = cases.iter().map(|case| {
            let harness = harness();
            Verdict::from(run(profile(&harness), &harness, case))
        });
        self.columns.push((adapter.into(), results.collect()));
        self.cases = cases.iter().map(|case| (case.theme, case.name)).collect();
    }

    /// Adds a liar, the case that has to catch it, and what that case said of it.
    pub fn add_liar(&mut self, liar: impl fmt::Debug, case: &'static str, outcome: &Outcome) {
        let caught = outcome
            .as_ref()
            .is_err_and(|failure| !failure.is_not_applicable());
        self.liars.push((format!("{liar:?}"), case, caught));
    }

    /// The failures: adapter, case and why.
    pub fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for (adapter, verdicts) in &self.columns {
            for ((_, case), verdict) in self.cases.iter().zip(verdicts) {
                if let Verdict::Failed(why) = verdict {
                    failures.push(format!("{adapter}: {case}: {why}"));
                }
            }
        }
        let free = self.liars.iter().filter(|(_, _, caught)| !caught);
        failures.extend(free.map(|(liar, case, _)| format!("{liar} was not caught by {case}")));
        failures
    }

    /// The report as Markdown.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "## {}\n", self.title)?;
        write!(out, "| theme | case |")?;
        for (adapter, _) in &self.columns {
            write!(out, " {adapter} |")?;
        }
        writeln!(out, "\n| --- | --- |{}", " --- |".repeat(self.columns.len()))?;
        for (at, (theme, case)) in self.cases.iter().enumerate() {
            write!(out, "| {theme} | {} |", case.replace('_', " "))?;
            for (_, verdicts) in &self.columns {
                let shown = match verdicts.get(at) {
                    Some(Verdict::Passed) => "pass",
                    Some(Verdict::NotApplicable) => "n/a",
                    Some(Verdict::Failed(_)) | None => "**fail**",
                };
                write!(out, " {shown} |")?;
            }
            writeln!(out)?;
        }
        if !self.liars.is_empty() {
            writeln!(out, "\n| liar | caught by |\n| --- | --- |")?;
            for (liar, case, caught) in &self.liars {
                let by = if *caught {
                    case.replace('_', " ")
                } else {
                    "**nobody**".to_owned()
                };
                writeln!(out, "| {liar} | {by} |")?;
            }
        }
        writeln!(out)
    }
}
