//! The metrics of one service.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cqi_core::{Code, Error, Result, config::MetricsConfig};
use prometheus::{CounterVec, GaugeVec, IntCounterVec, Opts, TextEncoder, core::Collector};
use tokio::time::Instant;

use super::{
    Counter, Gauge, Histogram,
    buckets::BucketsVec,
    family::Family,
    names::{check_buckets, check_labels, check_part, prefix},
    process::Process,
};

/// The metrics of one service. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    prefix: String,
    config: MetricsConfig,
    registry: prometheus::Registry,
    dropped: IntCounterVec,
    known: Mutex<BTreeMap<String, Known>>,
    /// What was answered to a scrape last, and when.
    last: Mutex<Option<(Instant, String)>>,
}

/// A metric that was made, and what must be the same when it is asked for again.
struct Known {
    labels: Vec<String>,
    buckets: Vec<f64>,
    metric: Metric,
}

#[derive(Clone)]
enum Metric {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
}

impl Metrics {
    /// The metrics of the service named `service`, none yet beside the process's own.
    ///
    /// # Errors
    /// `InvalidInput` when `service` is no name of a service.
    pub fn new(config: &MetricsConfig, service: &str) -> Result<Self> {
        let prefix = prefix(service)?;
        let registry = prometheus::Registry::new();
        let opts = Opts::new(
            format!("{prefix}_metrics_dropped_total"),
            "Observations that were not recorded.",
        );
        let dropped = IntCounterVec::new(opts, &["metric", "reason"]).map_err(cannot)?;
        if config.enabled {
            registry.register(Box::new(dropped.clone())).map_err(cannot)?;
        }
        if config.records("process") {
            registry
                .register(Box::new(Process::new(&prefix)?))
                .map_err(cannot)?;
        }
        let (config, known) = (config.clone(), Mutex::default());
        Ok(Self(Arc::new(Inner {
            prefix,
            config,
            registry,
            dropped,
            known,
            last: Mutex::default(),
        })))
    }

    /// A counter named `{service_name}_{subsystem}_{name}`. Asking again gives the same one.
    ///
    /// # Errors
    /// `InvalidInput` for a name, help or label outside the rules, and `AlreadyExists` when the name is taken by a
    /// metric of another type or with other labels.
    pub fn new_counter(&self, subsystem: &str, name: &str, help: &str, labels: &[&str]) -> Result<Counter> {
        let spec = Spec {
            subsystem,
            name,
            help,
            labels,
            buckets: &[],
        };
        let made = self.make(&spec, Metric::Counter(Counter(None)), |full, dropped| {
            let vec = CounterVec::new(Opts::new(full, help), labels).map_err(cannot)?;
            let raw = vec.clone();
            let make = Box::new(move |values: &[&str]| raw.get_metric_with_label_values(values));
            let family = Family::new(labels.len(), self.0.config.max_series, dropped, make);
            Ok((
                Box::new(vec) as Box<dyn Collector>,
                Metric::Counter(Counter(Some(Arc::new(family)))),
            ))
        })?;
        if let Metric::Counter(counter) = made {
            Ok(counter)
        } else {
            Err(self.taken(&spec))
        }
    }

    /// A gauge named `{service_name}_{subsystem}_{name}`. Asking again gives the same one.
    ///
    /// # Errors
    /// As [`Metrics::new_counter`].
    pub fn new_gauge(&self, subsystem: &str, name: &str, help: &str, labels: &[&str]) -> Result<Gauge> {
        let spec = Spec {
            subsystem,
            name,
            help,
            labels,
            buckets: &[],
        };
        let made = self.make(&spec, Metric::Gauge(Gauge(None)), |full, dropped| {
            let vec = GaugeVec::new(Opts::new(full, help), labels).map_err(cannot)?;
            let raw = vec.clone();
            let make = Box::new(move |values: &[&str]| raw.get_metric_with_label_values(values));
            let family = Family::new(labels.len(), self.0.config.max_series, dropped, make);
            Ok((
                Box::new(vec) as Box<dyn Collector>,
                Metric::Gauge(Gauge(Some(Arc::new(family)))),
            ))
        })?;
        if let Metric::Gauge(gauge) = made {
            Ok(gauge)
        } else {
            Err(self.taken(&spec))
        }
    }

    /// A histogram named `{service_name}_{subsystem}_{name}`, with the upper bounds of its buckets, for example
    /// [`SECONDS`](super::SECONDS). Asking again gives the same one.
    ///
    /// # Errors
    /// As [`Metrics::new_counter`], and for buckets that do not rise.
    pub fn new_histogram(
        &self,
        subsystem: &str,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<Histogram> {
        check_buckets(buckets)?;
        let spec = Spec {
            subsystem,
            name,
            help,
            labels,
            buckets,
        };
        let made = self.make(&spec, Metric::Histogram(Histogram(None)), |full, dropped| {
            let vec = BucketsVec::new(full, help, labels, buckets).map_err(cannot)?;
            let raw = vec.clone();
            let make = Box::new(move |values: &[&str]| Ok(raw.create(values)));
            let family = Family::new(labels.len(), self.0.config.max_series, dropped, make);
            Ok((
                Box::new(vec) as Box<dyn Collector>,
                Metric::Histogram(Histogram(Some(Arc::new(family)))),
            ))
        })?;
        if let Metric::Histogram(histogram) = made {
            Ok(histogram)
        } else {
            Err(self.taken(&spec))
        }
    }

    /// What is answered to a scrape: [`Metrics::render`], made at most every quarter of a second, however many ask (L-12).
    pub fn scrape(&self) -> String {
        const FRESH: Duration = Duration::from_millis(250);
        // Held while rendering: whoever asks meanwhile gets the same.
        let mut last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((at, text)) if at.elapsed() < FRESH => text.clone(),
            _ => {
                let text = self.render();
                *last = Some((Instant::now(), text.clone()));
                text
            }
        }
    }

    /// Every metric in Prometheus' text format as of now; the content type is [`CONTENT_TYPE`](super::CONTENT_TYPE).
    pub fn render(&self) -> String {
        let families = self.0.registry.gather();
        TextEncoder::new()
            .encode_to_string(&families)
            .unwrap_or_else(|error| {
                tracing::error!(error = %error, "metrics cannot be rendered");
                String::new()
            })
    }

    fn make(
        &self,
        spec: &Spec<'_>,
        silent: Metric,
        build: impl FnOnce(&str, Dropped) -> Result<(Box<dyn Collector>, Metric)>,
    ) -> Result<Metric> {
        spec.check()?;
        let full = self.full(spec);
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(&full) {
            let same = known.labels.iter().eq(spec.labels) && known.buckets == spec.buckets;
            return if same {
                Ok(known.metric.clone())
            } else {
                Err(self.taken(spec))
            };
        }
        if clashes(&known, &full, &silent) {
            return Err(self.taken(spec));
        }
        let mut metric = silent;
        if self.0.config.records(spec.subsystem) {
            let dropped = Dropped {
                all: self.0.dropped.clone(),
                metric: full.as_str().into(),
            };
            let (collector, built) = build(&full, dropped)?;
            self.0.registry.register(collector).map_err(cannot)?;
            metric = built;
        }
        let labels = spec.labels.iter().map(|label| (*label).to_owned()).collect();
        known.insert(
            full,
            Known {
                labels,
                buckets: spec.buckets.to_vec(),
                metric: metric.clone(),
            },
        );
        Ok(metric)
    }

    /// The service's name as metrics begin with it.
    pub(super) fn prefix(&self) -> &str {
        &self.0.prefix
    }

    /// Shows what `collector` collects, if its subsystem records.
    pub(super) fn register(&self, subsystem: &str, collector: Box<dyn Collector>) -> Result<()> {
        if self.0.config.records(subsystem) {
            self.0.registry.register(collector).map_err(cannot)?;
        }
        Ok(())
    }

    fn full(&self, spec: &Spec<'_>) -> String {
        format!("{}_{}_{}", self.0.prefix, spec.subsystem, spec.name)
    }

    fn taken(&self, spec: &Spec<'_>) -> Error {
        Error::invalid_input("the metric's name is taken, with another type, other labels or buckets")
            .with_code(Code::AlreadyExists)
            .with_context("metric", self.full(spec))
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics")
            .field("prefix", &self.0.prefix)
            .finish_non_exhaustive()
    }
}

/// What a new metric is to be.
struct Spec<'a> {
    subsystem: &'a str,
    name: &'a str,
    help: &'a str,
    labels: &'a [&'a str],
    buckets: &'a [f64],
}

impl Spec<'_> {
    fn check(&self) -> Result<()> {
        check_part(self.subsystem, "a subsystem")?;
        check_part(self.name, "a metric's name")?;
        check_labels(self.labels)?;
        if self.help.is_empty() {
            return Err(Error::invalid_input("a metric needs a help text").with_context("metric", self.name));
        }
        Ok(())
    }
}

/// Whether two metrics would print lines of the same name: a histogram `x` prints `x_bucket`, `x_count` and `x_sum`.
fn clashes(known: &BTreeMap<String, Known>, full: &str, new: &Metric) -> bool {
    const PARTS: [&str; 3] = ["_bucket", "_count", "_sum"];
    let is_histogram = |name: &str| {
        known
            .get(name)
            .is_some_and(|known| matches!(known.metric, Metric::Histogram(_)))
    };
    PARTS.iter().any(|part| {
        let beside = matches!(new, Metric::Histogram(_)) && known.contains_key(&format!("{full}{part}"));
        beside || full.strip_suffix(part).is_some_and(is_histogram)
    })
}

/// Counts what a metric did not record.
#[derive(Clone)]
pub(super) struct Dropped {
    all: IntCounterVec,
    metric: Arc<str>,
}

impl Dropped {
    #[cold]
    pub(super) fn count(&self, reason: &str) {
        if let Ok(counter) = self.all.get_metric_with_label_values(&[&*self.metric, reason]) {
            counter.inc();
        }
    }

    /// The metric's full name.
    pub(super) fn metric(&self) -> &str {
        &self.metric
    }
}

fn cannot(error: prometheus::Error) -> Error {
    Error::invalid_input("the metric cannot be made").with_source(error)
}
