//! Metrics in Prometheus' text format.
//!
//! Every service has a registry of its own, so two services in one process do not clash. Names are
//! `{service_name}_{subsystem}_{name}`, with `-` in the service's name as `_` (OP-19). A metric has at most
//! `max_series` series: further label values are counted as `other`. What is thrown away (a series over the limit, a
//! NaN, a counter that would fall, a wrong number of label values) is counted in `{service_name}_metrics_dropped_total`,
//! by `metric` and `reason`; nothing here panics.
//!
//! On a hot path, keep the handle that `with` gives: updating it is a few atomic operations.

mod buckets;
mod family;
mod names;
mod process;
mod registry;
mod series;
mod standard;
mod watched;

pub(crate) use self::standard::Standard;
pub use self::{
    family::{Counter, CounterHandle, Gauge, GaugeHandle, Histogram, HistogramHandle},
    registry::Metrics,
};

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Buckets for durations in seconds: 1 ms to 10 s.
pub const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Buckets for sizes in bytes: 256 B to 16 MiB, by factors of four.
pub const BYTES: &[f64] = &[
    256.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
];
