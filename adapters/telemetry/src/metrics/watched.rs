//! Counters that somebody else keeps, read at each scrape: what telemetry itself has lost.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use cqi_core::{Error, Result};
use prometheus::{
    core::{Collector, Desc},
    proto,
};

use super::Metrics;
use crate::{log::Output, trace::Counts};

type Read = Box<dyn Fn() -> u64 + Send + Sync>;

/// One counter, with a series for each value of its label, or a single one.
struct Watched {
    desc: Desc,
    label: &'static str,
    series: Vec<(&'static str, Read)>,
}

impl Metrics {
    /// Shows what became of spans (L-09).
    pub(crate) fn watch_exporter(&self, counts: &Arc<Counts>) -> Result<()> {
        let read = |of: fn(&Counts) -> u64| -> Read {
            let counts = Arc::clone(counts);
            Box::new(move || of(&counts))
        };
        self.watch(
            "tracing",
            "spans_exported_total",
            "Spans the collector took.",
            "",
            vec![("", read(|counts| counts.exported.load(Relaxed)))],
        )?;
        self.watch(
            "tracing",
            "spans_dropped_total",
            "Recorded spans that were not exported.",
            "reason",
            vec![
                ("queue_full", read(|counts| counts.full.load(Relaxed))),
                ("export_failed", read(|counts| counts.failed.load(Relaxed))),
                ("refused", read(|counts| counts.refused.load(Relaxed))),
            ],
        )
    }

    /// Shows what the log has lost (ML-LOG-10).
    pub(crate) fn watch_log(&self, output: &Arc<Output>) -> Result<()> {
        // Weak: the writer ends with the log, not with the metrics.
        let output = Arc::downgrade(output);
        self.watch(
            "log",
            "lines_dropped_total",
            "Log lines that were not written.",
            "",
            vec![(
                "",
                Box::new(move || output.upgrade().map_or(0, |output| output.dropped())),
            )],
        )
    }

    /// A counter read at each scrape.
    fn watch(
        &self,
        subsystem: &str,
        name: &str,
        help: &str,
        label: &'static str,
        series: Vec<(&'static str, Read)>,
    ) -> Result<()> {
        let labels = if label.is_empty() {
            Vec::new()
        } else {
            vec![label.to_owned()]
        };
        let full = format!("{}_{subsystem}_{name}", self.prefix());
        let cannot = |error| Error::permanent("a metric cannot be made").with_source(error);
        let desc =
            Desc::new(full, help.to_owned(), labels, std::collections::HashMap::new()).map_err(cannot)?;
        self.register(subsystem, Box::new(Watched { desc, label, series }))
    }
}

impl Collector for Watched {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let metrics = self.series.iter().map(|(value, read)| {
            let mut counter = proto::Counter::default();
            counter.set_value(read() as f64);
            let mut metric = proto::Metric::default();
            if !self.label.is_empty() {
                let mut pair = proto::LabelPair::default();
                pair.set_name(self.label.to_owned());
                pair.set_value((*value).to_owned());
                metric = proto::Metric::from_label(vec![pair]);
            }
            metric.set_counter(counter);
            metric
        });
        let mut family = proto::MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(proto::MetricType::COUNTER);
        family.set_metric(metrics.collect());
        vec![family]
    }
}
