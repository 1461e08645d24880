//! Makes `docs/reliability.md` of what the fault tests wrote down: `reliability FOLDER > docs/reliability.md`.
//!
//! Each fault test writes one JSON line into `faults.jsonl` in the folder that `CQI_EVIDENCE` names; see
//! `cqi_testkit::figures`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "printing is what this program is for"
)]

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    fs, io,
    path::Path,
    process::ExitCode,
};

use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Line {
    fault: String,
    what: String,
    server: String,
    test: String,
    package: String,
    acked: Option<u64>,
    delivered: Option<u64>,
    lost: Option<u64>,
    duplicated: Option<u64>,
    unknown: Option<u64>,
    recovery_ms: Option<u64>,
    note: String,
}

impl Line {
    /// In the order of the catalogue: by the kind of server's part, then by number, then by server.
    fn place(&self) -> (usize, String, String, String) {
        const PARTS: [&str; 5] = ["F-BUS", "F-KAF", "F-CACHE", "F-DB", "F-LIFE"];
        let part = PARTS.iter().position(|part| self.fault.starts_with(part));
        let own = |text: &String| text.clone();
        (
            part.unwrap_or(PARTS.len()),
            own(&self.fault),
            own(&self.what),
            own(&self.server),
        )
    }

    fn row(&self, out: &mut String) -> fmt::Result {
        let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
        let recovery = self.recovery_ms.map(|ms| format!("{ms} ms")).unwrap_or_default();
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {recovery} | {} |",
            self.fault,
            self.what,
            self.server,
            number(self.acked),
            number(self.delivered),
            number(self.lost),
            number(self.duplicated),
            number(self.unknown),
            self.note.replace('|', "\\|"),
        )
    }
}

fn read(folder: &Path) -> io::Result<Vec<Line>> {
    let file = folder.join("faults.jsonl");
    let text = fs::read_to_string(&file)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))?;
    let lines = text.lines().enumerate().map(|(at, line)| {
        serde_json::from_str(line)
            .map_err(|error| io::Error::other(format!("{}:{}: {error}", file.display(), at + 1)))
    });
    lines.collect()
}

fn document(mut lines: Vec<Line>) -> Result<String, fmt::Error> {
    // The last run of a test counts.
    let mut newest = BTreeMap::new();
    for line in lines.drain(..) {
        newest.insert((line.place(), line.test.clone()), line);
    }
    let mut out = String::from(HEAD);
    writeln!(
        out,
        "| fault | what was done | server | acked | delivered | lost | duplicated | unknown | recovery | also measured |"
    )?;
    writeln!(
        out,
        "| --- | --- | --- | --: | --: | --: | --: | --: | --: | --- |"
    )?;
    for line in newest.values() {
        line.row(&mut out)?;
    }
    writeln!(out, "\n## Run one again\n")?;
    writeln!(out, "| fault | server | command |")?;
    writeln!(out, "| --- | --- | --- |")?;
    for line in newest.values() {
        writeln!(
            out,
            "| {} | {} | `cargo test -p {} {}` |",
            line.fault, line.server, line.package, line.test
        )?;
    }
    out.push_str(TAIL);
    Ok(out)
}

const HEAD: &str = include_str!("head.md");
const TAIL: &str = include_str!("tail.md");

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("usage: reliability FOLDER");
        return ExitCode::from(2);
    };
    match read(Path::new(&folder)).map(document) {
        Ok(Ok(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Ok(Err(error)) => {
            eprintln!("reliability: {error}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("reliability: {error}");
            ExitCode::FAILURE
        }
    }
}
