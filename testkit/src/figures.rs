//! The line of figures of a fault test.
//!
//! ```
//! use std::time::Duration;
//!
//! use cqi_testkit::figures::Figures;
//!
//! let figures = Figures::new("F-DB-01", "server killed under 16 workers", "PostgreSQL")
//!     .counts(1000, 1000, 0, 0)
//!     .unknown(3)
//!     .recovery(Duration::from_millis(12));
//! figures.report();
//! ```

use std::{fmt, fs, io::Write as _, path::Path, thread, time::Duration};

use serde::Serialize;

use crate::conformance::evidence;

/// What a fault test found. What has no meaning in a test is left out.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    fault: &'static str,
    what: &'static str,
    server: &'static str,
    /// The name of the test, which is how it is run again.
    test: String,
    /// The package it belongs to.
    package: &'static str,
    acked: Option<usize>,
    delivered: Option<usize>,
    lost: Option<usize>,
    duplicated: Option<usize>,
    unknown: Option<usize>,
    recovery_ms: Option<u64>,
    note: String,
}

impl Figures {
    /// Figures of the test that runs on this thread: the id in the catalogue of faults, what is done in a few words, and
    /// on which server.
    pub fn new(fault: &'static str, what: &'static str, server: &'static str) -> Self {
        Self {
            fault,
            what,
            server,
            test: thread::current().name().unwrap_or_default().to_owned(),
            package: "cqi-integration",
            acked: None,
            delivered: None,
            lost: None,
            duplicated: None,
            unknown: None,
            recovery_ms: None,
            note: String::new(),
        }
    }

    /// With the package the test belongs to. Default `cqi-integration`.
    #[must_use]
    pub fn package(mut self, package: &'static str) -> Self {
        self.package = package;
        self
    }

    /// With how many were acknowledged, delivered, lost of those acknowledged, and delivered again.
    #[must_use]
    pub fn counts(mut self, acked: usize, delivered: usize, lost: usize, duplicated: usize) -> Self {
        (self.acked, self.delivered) = (Some(acked), Some(delivered));
        (self.lost, self.duplicated) = (Some(lost), Some(duplicated));
        self
    }

    /// With how many ended with an outcome that is not known.
    #[must_use]
    pub fn unknown(mut self, unknown: usize) -> Self {
        self.unknown = Some(unknown);
        self
    }

    /// With the time from a server that is there again to the first success.
    #[must_use]
    pub fn recovery(mut self, recovery: Duration) -> Self {
        self.recovery_ms = Some(u64::try_from(recovery.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// With more that was measured.
    #[must_use]
    pub fn note(mut self, note: impl fmt::Display) -> Self {
        if !self.note.is_empty() {
            self.note.push_str("; ");
        }
        self.note.push_str(&note.to_string());
        self
    }

    /// Prints the line on the standard error of the process itself, so that it is seen when the test passes, and adds it
    /// to `faults.jsonl` in the folder that `CQI_EVIDENCE` names.
    ///
    /// # Panics
    /// When that file cannot be written.
    pub fn report(&self) {
        // Where standard error is closed nobody can be told.
        let _ = std::io::stderr().write_all(format!("{self}\n").as_bytes());
        let Some(folder) = evidence::folder() else { return };
        if let Err(error) = self.add(&folder) {
            panic!("{}: {error}", folder.display());
        }
    }

    fn add(&self, folder: &Path) -> std::io::Result<()> {
        fs::create_dir_all(folder)?;
        let line = serde_json::to_string(self)? + "\n";
        // One write of one short line to a file opened for appending: lines of several processes do not mix.
        let file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.join("faults.jsonl"));
        file?.write_all(line.as_bytes())
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}, {}:", self.fault, self.what, self.server)?;
        let numbers = [
            ("acked", self.acked),
            ("delivered", self.delivered),
            ("lost", self.lost),
            ("duplicated", self.duplicated),
            ("unknown", self.unknown),
        ];
        for (name, number) in numbers
            .into_iter()
            .filter_map(|(name, number)| Some((name, number?)))
        {
            write!(f, " {name} {number}")?;
        }
        if let Some(recovery) = self.recovery_ms {
            write!(f, " recovery {recovery} ms")?;
        }
        if self.note.is_empty() {
            Ok(())
        } else {
            write!(f, " ({})", self.note)
        }
    }
}
