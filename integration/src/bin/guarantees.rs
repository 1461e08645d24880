//! Makes `docs/guarantees.md` of what the conformance suites wrote down: `guarantees FOLDER > docs/guarantees.md`.
//!
//! The suites write one JSON line for each case and for each adapter's capabilities into the folder that
//! `CQI_EVIDENCE` names; see `cqi_testkit::conformance`.
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

/// The ports: as the evidence names them, as a reader does, and their adapters in the order of the columns.
const PORTS: [(&str, &str, &[&str]); 5] = [
    ("event_bus", "Event bus", &["memory", "NATS JetStream", "Kafka"]),
    ("cache", "Cache", &["memory", "Redis", "Redis Cluster"]),
    (
        "database",
        "Database",
        &["SQLite in memory", "SQLite", "PostgreSQL"],
    ),
    ("registry", "Registry", &["memory", "Redis", "Redis Cluster"]),
    (
        "checker",
        "Checker",
        &["function", "NATS JetStream", "Kafka", "Redis", "PostgreSQL"],
    ),
];

/// What proves a claim: the cases, or the fault test where a case in one process cannot.
const PROOFS: [(&str, &str); 11] = [
    ("delivery", "an unsettled event returns after its deadline"),
    (
        "durability",
        "what was done before close lasts; a killed broker, in reliability.md",
    ),
    (
        "order",
        "order holds per key under many members; strict order holds across a retry",
    ),
    ("delayed redelivery", "a delayed nack has a floor and a ceiling"),
    (
        "deduplication window",
        "a second event of the same id follows the dedup window",
    ),
    ("largest payload", "an oversized event is refused and not stored"),
    ("replay", "a new group starts with the oldest or says unsupported"),
    ("smallest time to live", "sub second times follow the resolution"),
    ("largest value", "a larger value is refused and changes nothing"),
    (
        "shared by processes",
        "a second handle sees what capabilities say",
    ),
    ("arrays", "arrays round trip or are unsupported"),
];

#[derive(Debug, Deserialize)]
struct Line {
    port: String,
    adapter: String,
    #[serde(flatten)]
    what: What,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum What {
    Case {
        at: usize,
        theme: String,
        case: String,
        verdict: String,
    },
    Capabilities {
        capabilities: Vec<(String, String)>,
    },
}

/// What is known of one port.
#[derive(Debug, Default)]
struct Port {
    /// Theme and case, by their place in the suite.
    cases: BTreeMap<usize, (String, String)>,
    verdicts: BTreeMap<(String, String), String>,
    capabilities: Vec<String>,
    values: BTreeMap<(String, String), String>,
}

impl Port {
    fn add(&mut self, adapter: &str, what: What) {
        match what {
            What::Case {
                at,
                theme,
                case,
                verdict,
            } => {
                self.cases.insert(at, (theme, case.clone()));
                self.verdicts.insert((adapter.to_owned(), case), verdict);
            }
            What::Capabilities { capabilities } => {
                for (name, value) in capabilities {
                    if !self.capabilities.contains(&name) {
                        self.capabilities.push(name.clone());
                    }
                    self.values.insert((adapter.to_owned(), name), value);
                }
            }
        }
    }

    fn write(&self, title: &str, adapters: &[&str], out: &mut String) -> fmt::Result {
        let columns: Vec<&str> = adapters
            .iter()
            .copied()
            .filter(|adapter| self.verdicts.keys().any(|(own, _)| own == adapter))
            .collect();
        writeln!(out, "## {title}\n")?;
        if !self.capabilities.is_empty() {
            row(out, "guarantee", columns.iter().copied(), "proven by")?;
            row(out, "---", columns.iter().map(|_| "---"), "---")?;
            for name in &self.capabilities {
                let values = columns.iter().map(|adapter| {
                    self.values
                        .get(&((*adapter).to_owned(), name.clone()))
                        .map_or("", String::as_str)
                });
                let proof = PROOFS
                    .iter()
                    .find(|(claim, _)| claim == name)
                    .map_or("", |(_, proof)| proof);
                row(out, name, values, proof)?;
            }
            writeln!(out)?;
        }
        row(out, "case", columns.iter().copied(), "theme")?;
        row(out, "---", columns.iter().map(|_| "---"), "---")?;
        for (theme, case) in self.cases.values() {
            let verdicts = columns.iter().map(|adapter| {
                self.verdicts
                    .get(&((*adapter).to_owned(), case.clone()))
                    .map_or("**not run**", String::as_str)
            });
            row(out, &case.replace('_', " "), verdicts, theme)?;
        }
        writeln!(out)
    }
}

fn row<'a>(out: &mut String, first: &str, cells: impl Iterator<Item = &'a str>, last: &str) -> fmt::Result {
    write!(out, "| {first} |")?;
    for cell in cells {
        write!(out, " {cell} |")?;
    }
    writeln!(out, " {last} |")
}

fn read(folder: &Path) -> io::Result<BTreeMap<String, Port>> {
    let mut ports: BTreeMap<String, Port> = BTreeMap::new();
    let mut files: Vec<_> = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()?;
    // What fault tests found stands in a document of its own.
    files.retain(|file| !file.ends_with("faults.jsonl"));
    files.sort();
    for file in files {
        for (at, line) in fs::read_to_string(&file)?.lines().enumerate() {
            let line: Line = serde_json::from_str(line)
                .map_err(|error| io::Error::other(format!("{}:{}: {error}", file.display(), at + 1)))?;
            ports.entry(line.port).or_default().add(&line.adapter, line.what);
        }
    }
    Ok(ports)
}

fn document(ports: &BTreeMap<String, Port>) -> Result<String, fmt::Error> {
    let mut out = String::from(HEAD);
    for (name, title, adapters) in PORTS {
        if let Some(port) = ports.get(name) {
            port.write(title, adapters, &mut out)?;
        }
    }
    Ok(out.trim_end().to_owned() + "\n")
}

const HEAD: &str = "# Guarantees

What each adapter promises, and the case that proves it. Every adapter passes the same suite; `n/a` marks a case about a
capability that the adapter declares absent, and that is tested as absent. Delivery is at least once everywhere.

Made by `scripts/guarantees`, which runs the suites on real servers. The broken adapters that the suites must catch are
in [conformance.md](conformance.md), the faults that need a killed server or a cut link in
[reliability.md](reliability.md).

";

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("usage: guarantees FOLDER");
        return ExitCode::from(2);
    };
    match read(Path::new(&folder)).map(|ports| document(&ports)) {
        Ok(Ok(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Ok(Err(error)) => {
            eprintln!("guarantees: {error}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("guarantees: {}: {error}", Path::new(&folder).display());
            ExitCode::FAILURE
        }
    }
}
