//! Logs, metrics and traces of a cqi service.
//!
//! [`Telemetry::init`] installs the log and the traces for the whole process and makes the service's metrics. Code
//! logs with the [`tracing`] macros; whatever core and the adapters observe is counted through
//! [`Telemetry::observer`].
//!
//! ```
//! use cqi_core::config::{LogConfig, MetricsConfig, TracingConfig};
//! use cqi_telemetry::{ServiceIdentity, Telemetry};
//!
//! let service = ServiceIdentity::new("shop").with_version("1.4.2");
//! let telemetry =
//!     Telemetry::init(&LogConfig::default(), &MetricsConfig::default(), &TracingConfig::default(), service)?;
//! let orders = telemetry.metrics().new_counter("orders", "placed_total", "Orders placed.", &["country"])?;
//! let from_france = orders.with(&["fr"])?;
//! from_france.inc();
//! tracing::info!(order = 17, "placed");
//! assert!(telemetry.metrics().render().contains("shop_orders_placed_total{country=\"fr\"} 1"));
//! # Ok::<(), cqi_core::Error>(())
//! ```

pub mod log;
pub mod metrics;
pub mod trace;

mod home;
mod mask;
mod observer;
mod telemetry;
#[cfg(test)]
mod tests;

pub use self::{
    log::LogHandle,
    mask::Redaction,
    metrics::Metrics,
    telemetry::{ServiceIdentity, Telemetry, TelemetryOptions},
    trace::{AttributeValue, ExportOptions, FinishedSpan, SpanAttributes, SpanSink},
};
