//! What a scraper gets.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

use cqi_core::config::MetricsConfig;

use super::{Rig, metrics::observe_everything};
use crate::{metrics::Metrics, trace::Counts};

#[test]
fn met_2_3_promtool_has_no_complaint() {
    let rig = Rig::new("info");
    observe_everything(&*rig.telemetry.observer());
    let metrics = rig.telemetry.metrics();
    metrics
        .watch_exporter(&std::sync::Arc::<Counts>::default())
        .unwrap();
    let own = metrics
        .new_gauge("orders", "open", "Open orders.", &["country"])
        .unwrap();
    own.set(&["a\"b\\c\nd"], 1.0);
    own.set(&[], 1.0);
    let command = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = command else {
        eprintln!("SKIPPED: there is no promtool here");
        return;
    };
    let text = metrics.render();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    let complaint = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
    assert!(
        said.status.success() && complaint.is_empty(),
        "{complaint}\n{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn l_12_many_scrapers_share_one_rendering() {
    let metrics = Metrics::new(&MetricsConfig::default(), "shop").unwrap();
    let count = metrics.new_counter("a", "b_total", "h", &[]).unwrap();
    count.inc(&[]);
    let first = metrics.scrape();
    count.inc(&[]);
    assert_eq!(metrics.scrape(), first);
    assert!(
        metrics.render().contains("shop_a_b_total 2"),
        "whoever renders gets what is now"
    );
    tokio::time::advance(Duration::from_millis(250)).await;
    assert!(metrics.scrape().contains("shop_a_b_total 2"));
}
