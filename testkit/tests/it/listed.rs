//! Every case that is written is listed, and no name is listed twice.

use std::{collections::BTreeSet, fs, path::Path};

use cqi_testkit::conformance::{Case, cache, checker, database, event_bus, registry};

use crate::harness::{Bus, Check, Entries, Services, Sqlite};

/// The `pub async fn`s in the files of a suite, as `theme::name`.
fn written(suite: &str) -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/conformance")
        .join(suite);
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let theme = path.file_stem().unwrap().to_str().unwrap().to_owned();
        for line in fs::read_to_string(&path).unwrap().lines() {
            if let Some(rest) = line.strip_prefix("pub async fn ") {
                names.insert(format!("{theme}::{}", rest.split(['<', '(']).next().unwrap()));
            }
        }
    }
    assert!(!names.is_empty(), "no cases found");
    names
}

fn same<H>(suite: &str, cases: &[Case<H>]) {
    let listed: BTreeSet<String> = cases.iter().map(|case| format!("{case:?}")).collect();
    assert_eq!(listed.len(), cases.len(), "a case is listed twice");
    assert_eq!(listed, written(suite), "cases listed, and cases written");
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
}

#[test]
fn every_written_case_is_listed_once() {
    same("event_bus", &event_bus::cases::<Bus>());
    same("cache", &cache::cases::<Entries>());
    same("database", &database::cases::<Sqlite>());
    same("registry", &registry::cases::<Services>());
    same("checker", &checker::cases::<Check>());
}
