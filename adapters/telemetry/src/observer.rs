//! The observer that core and the adapters report to.

use cqi_core::{
    Result,
    observe::{Observation, Observer},
    trace::TraceContext,
};

use tracing::Span;

use crate::{
    metrics::{Metrics, Standard},
    trace,
};

/// Counts observations and knows the current trace.
#[derive(Debug)]
pub(crate) struct TelemetryObserver {
    standard: Standard,
}

impl TelemetryObserver {
    pub(crate) fn new(metrics: &Metrics) -> Result<Self> {
        Ok(Self {
            standard: Standard::new(metrics)?,
        })
    }
}

impl Observer for TelemetryObserver {
    fn observe(&self, observation: &Observation<'_>) {
        self.standard.record(observation);
    }

    fn current_trace(&self) -> Option<TraceContext> {
        trace::current()
    }

    fn records_trace(&self) -> bool {
        trace::is_recorded()
    }

    fn continue_trace(&self, parent: Option<TraceContext>, open: &mut dyn FnMut() -> Span) -> Span {
        trace::outside::continued(parent, open)
    }
}
