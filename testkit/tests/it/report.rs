//! The report: every suite on the memory default and through the faulty wrapper, and every liar.
//!
//! With `CQI_WRITE_REPORT=path` it is written there; `docs/conformance.md` is made so.

use std::fmt::Write as _;

use cqi_testkit::{
    conformance::{
        cache::{self, CacheHarness},
        checker::{self, CheckerHarness},
        database::{self, DatabaseHarness},
        event_bus::{self, EventBusHarness},
        registry::{self, RegistryHarness},
    },
    liars::{BusLie, CacheLie, CheckerLie, DatabaseLie, RegistryLie},
    report::Report,
};

use crate::{
    faulty,
    harness::{Bus, Check, Entries, Services, Sqlite},
    liars,
};

/// Adds every liar of a port.
macro_rules! add_liars {
    ($report:ident, $lies:ident, $run:path) => {
        for lie in $lies::ALL {
            $report.add_liar(lie, lie.caught_by(), &$run(*lie));
        }
    };
}

fn reports() -> Vec<Report> {
    let mut bus = Report::new("EventBus");
    let cases = event_bus::cases();
    bus.run_suite("memory", &cases, Bus::profile, || Bus::quick(|inner| inner));
    bus.run_suite("memory, faulty wrapper", &cases, Bus::profile, || {
        Bus::quick(faulty::bus)
    });
    add_liars!(bus, BusLie, liars::event_bus);

    let mut cache = Report::new("Cache");
    let cases = cache::cases();
    cache.run_suite("memory", &cases, Entries::profile, || {
        Entries::quick(|inner| inner)
    });
    cache.run_suite("memory, faulty wrapper", &cases, Entries::profile, || {
        Entries::quick(faulty::cache)
    });
    add_liars!(cache, CacheLie, liars::cache);

    let mut database = Report::new("Database");
    let cases = database::cases();
    database.run_suite("SQLite, file", &cases, Sqlite::profile, || {
        Sqlite::quick(|inner| inner)
    });
    database.run_suite("SQLite, memory", &cases, Sqlite::profile, Sqlite::memory);
    database.run_suite("SQLite, faulty wrapper", &cases, Sqlite::profile, || {
        Sqlite::quick(faulty::database)
    });
    add_liars!(database, DatabaseLie, liars::database);

    let mut registry = Report::new("Registry");
    let cases = registry::cases();
    registry.run_suite("memory", &cases, Services::profile, || {
        Services::quick(|inner| inner)
    });
    registry.run_suite("memory, faulty wrapper", &cases, Services::profile, || {
        Services::quick(faulty::registry)
    });
    add_liars!(registry, RegistryLie, liars::registry);

    let mut checker = Report::new("Checker");
    let cases = checker::cases();
    checker.run_suite("function", &cases, Check::profile, Check::function);
    checker.run_suite("function, faulty wrapper", &cases, Check::profile, || {
        Check::quick(faulty::checker)
    });
    add_liars!(checker, CheckerLie, liars::checker);

    vec![bus, cache, database, registry, checker]
}

#[test]
fn the_report_tells_no_failure() {
    let reports = reports();
    let mut text = String::from("# Conformance\n\n");
    text.push_str("Made by `CQI_WRITE_REPORT=<file> cargo test -p cqi-testkit --test it report`.\n\n");
    for report in &reports {
        let _ = write!(text, "{}", report.markdown());
    }
    println!("{text}");
    #[allow(clippy::disallowed_methods)] // a switch of the test run, not configuration of a service
    if let Ok(path) = std::env::var("CQI_WRITE_REPORT") {
        std::fs::write(path, text).unwrap();
    }
    let failures: Vec<String> = reports.iter().flat_map(Report::failures).collect();
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn a_report_shows_failures_and_free_liars() {
    let mut report = Report::new("Checker");
    let cases = checker::cases();
    report.run_suite("liar", &cases, Check::profile, || {
        Check::quick(|inner| cqi_testkit::liars::lying_checker(inner, CheckerLie::LatchesUp))
    });
    report.add_liar(CheckerLie::LatchesUp, "some_case", &Ok(()));
    let text = report.markdown();
    assert!(
        text.contains("| answers | up down and up again are all reported | **fail** |"),
        "{text}"
    );
    assert!(
        text.contains("| answers | a working dependency is up | pass |"),
        "{text}"
    );
    assert!(text.contains("| LatchesUp | **nobody** |"), "{text}");
    assert!(
        report
            .failures()
            .iter()
            .any(|line| line.contains("LatchesUp was not caught by some_case"))
    );
}
