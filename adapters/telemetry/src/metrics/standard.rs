//! The metrics every service has, fed by what core and the adapters observe.

use cqi_core::{Error, Result, observe::Observation};

use super::{
    BYTES, Counter, CounterHandle, Gauge, Histogram, HistogramHandle, Metrics, SECONDS, series::Series,
};

/// `error_type` where nothing failed.
const NO_ERROR: &str = "none";

/// The ports whose calls are measured; each is a subsystem.
const PORTS: [&str; 4] = ["bus", "cache", "database", "registry"];

/// The standard metrics (MET-5, MET-6, OP-12, OP-37).
#[derive(Debug)]
pub(crate) struct Standard {
    http: Http,
    grpc_duration: Histogram,
    grpc_count: Counter,
    handler_duration: Histogram,
    published: Counter,
    consumed: Counter,
    dead_lettered: Counter,
    lookups: [CounterHandle; 2],
    calls: [Histogram; PORTS.len()],
    attempts: Counter,
    retries: Counter,
    panics: Counter,
    key_fetches: Counter,
    keys_fetched: Gauge,
}

impl Standard {
    pub(crate) fn new(metrics: &Metrics) -> Result<Self> {
        let bus = ["topic", "error_type"];
        let lookups = metrics.new_counter("cache", "lookups_total", "Cache lookups.", &["result"])?;
        let calls = |port| {
            let help = "Duration of calls, all attempts included.";
            metrics.new_histogram(
                port,
                "call_duration_seconds",
                help,
                &["method", "error_type"],
                SECONDS,
            )
        };
        let [a, b, c, d] = PORTS;
        Ok(Self {
            http: Http::new(metrics)?,
            grpc_duration: metrics.new_histogram(
                "grpc",
                "call_duration_seconds",
                "Duration of calls.",
                &["method", "status_code"],
                SECONDS,
            )?,
            grpc_count: metrics.new_counter(
                "grpc",
                "call_count_total",
                "Calls.",
                &["method", "status_code"],
            )?,
            handler_duration: metrics.new_histogram(
                "bus",
                "handler_duration_seconds",
                "Duration of handlers.",
                &bus,
                SECONDS,
            )?,
            published: metrics.new_counter("bus", "messages_published_total", "Events published.", &bus)?,
            consumed: metrics.new_counter("bus", "messages_consumed_total", "Events handled.", &bus)?,
            dead_lettered: metrics.new_counter(
                "bus",
                "messages_dead_lettered_total",
                "Events given up.",
                &bus,
            )?,
            lookups: [lookups.with(&["miss"])?, lookups.with(&["hit"])?],
            calls: [calls(a)?, calls(b)?, calls(c)?, calls(d)?],
            attempts: metrics.new_counter("retry", "attempts_total", "Attempts of calls.", &["operation"])?,
            retries: metrics.new_counter(
                "retry",
                "retries_total",
                "Attempts that failed and are repeated.",
                &["operation", "error_type"],
            )?,
            panics: metrics.new_counter("errors", "panics_recovered_total", "Panics caught.", &["place"])?,
            key_fetches: metrics.new_counter(
                "auth",
                "key_fetches_total",
                "Requests for the public keys of an issuer of tokens.",
                &["issuer", "error_type"],
            )?,
            keys_fetched: metrics.new_gauge(
                "auth",
                "keys_fetched_timestamp_seconds",
                "When the public keys in use were fetched, in seconds since 1970.",
                &["issuer"],
            )?,
        })
    }

    pub(crate) fn record(&self, observation: &Observation<'_>) {
        match observation {
            Observation::Served {
                protocol: "grpc",
                method,
                status,
                elapsed,
                ..
            } => {
                self.grpc_duration
                    .observe(&[method, status], elapsed.as_secs_f64());
                self.grpc_count.inc(&[method, status]);
            }
            Observation::Served {
                method,
                route,
                status,
                elapsed,
                request_bytes,
                response_bytes,
                ..
            } => {
                let sizes = [*request_bytes as f64, *response_bytes as f64];
                self.http
                    .record(&[method, route, status], elapsed.as_secs_f64(), sizes);
            }
            Observation::Handled {
                topic,
                elapsed,
                error,
                ..
            } => {
                let labels = [*topic, error_type(*error)];
                self.handler_duration.observe(&labels, elapsed.as_secs_f64());
                self.consumed.inc(&labels);
            }
            Observation::Published { topic, error } => self.published.inc(&[topic, error_type(*error)]),
            Observation::DeadLettered { topic, error, .. } => {
                self.dead_lettered.inc(&[topic, error.wire_code()]);
            }
            Observation::CacheLookup { hit } => self.lookups[usize::from(*hit)].inc(),
            Observation::Called {
                operation,
                elapsed,
                attempts,
                error,
            } => {
                let (port, method) = operation.split_once('.').unwrap_or((operation, ""));
                let port = if port == "event_bus" { "bus" } else { port };
                if let Some(at) = PORTS.iter().position(|known| *known == port) {
                    self.calls[at].observe(&[method, error_type(*error)], elapsed.as_secs_f64());
                }
                self.attempts.add(&[operation], f64::from(*attempts));
            }
            Observation::Retrying { operation, error, .. } => {
                self.retries.inc(&[operation, error.wire_code()]);
            }
            Observation::KeysFetched { issuer, error } => {
                self.key_fetches.inc(&[issuer, error_type(*error)]);
                if error.is_none() {
                    let now = jiff::Timestamp::now().as_millisecond() as f64 / 1000.0;
                    self.keys_fetched.set(&[issuer], now);
                }
            }
            Observation::PanicRecovered { place } => self.panics.inc(&[place]),
            _ => {}
        }
    }
}

fn error_type(error: Option<&Error>) -> &'static str {
    error.map_or(NO_ERROR, Error::wire_code)
}

/// The four metrics of a request share their labels, so they are looked up together.
#[derive(Debug)]
struct Http {
    duration: Histogram,
    count: Counter,
    sizes: [Histogram; 2],
    routes: Option<Series<Route>>,
}

#[derive(Debug)]
struct Route {
    duration: HistogramHandle,
    count: CounterHandle,
    sizes: [HistogramHandle; 2],
}

impl Http {
    fn new(metrics: &Metrics) -> Result<Self> {
        let labels = ["method", "path", "status_code"];
        let duration = "request_duration_seconds";
        let (request, response) = (
            "Size of request bodies, in bytes.",
            "Size of response bodies, in bytes.",
        );
        let count = metrics.new_counter("http", "request_count_total", "Requests.", &labels)?;
        let budget = count.budget();
        Ok(Self {
            duration: metrics.new_histogram("http", duration, "Duration of requests.", &labels, SECONDS)?,
            sizes: [
                metrics.new_histogram("http", "request_size_bytes", request, &labels, BYTES)?,
                metrics.new_histogram("http", "response_size_bytes", response, &labels, BYTES)?,
            ],
            count,
            routes: budget.map(|(max, dropped)| Series::new(labels.len(), max, dropped)),
        })
    }

    fn record(&self, labels: &[&str; 3], seconds: f64, sizes: [f64; 2]) {
        let Some(routes) = &self.routes else { return };
        let make = |labels: &[&str]| {
            Ok(Route {
                duration: self.duration.with(labels)?,
                count: self.count.with(labels)?,
                sizes: [self.sizes[0].with(labels)?, self.sizes[1].with(labels)?],
            })
        };
        let recorded = routes.with(labels, make, |route| {
            route.duration.observe(seconds);
            route.count.inc();
            route.sizes[0].observe(sizes[0]);
            route.sizes[1].observe(sizes[1]);
        });
        // The number of labels is fixed above, and a family over its limit answers with another series.
        debug_assert!(recorded.is_ok(), "{recorded:?}");
    }
}
