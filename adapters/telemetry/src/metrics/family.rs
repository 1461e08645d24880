//! Counters, gauges and histograms, and the handles of their series.

use std::{fmt, sync::Arc};

use cqi_core::{Error, Result};

use super::{buckets::Buckets, registry::Dropped, series::Series};

type Make<M> = Box<dyn Fn(&[&str]) -> prometheus::Result<M> + Send + Sync>;

/// A metric with all its series.
pub(super) struct Family<M> {
    make: Make<M>,
    series: Series<M>,
    dropped: Dropped,
}

impl<M> Family<M> {
    pub(super) fn new(labels: usize, max_series: usize, dropped: Dropped, make: Make<M>) -> Self {
        Self {
            make,
            series: Series::new(labels, max_series, dropped.clone()),
            dropped,
        }
    }

    fn with<T>(&self, values: &[&str], work: impl FnOnce(&M) -> T) -> Result<T> {
        if values.len() != self.series.labels() {
            self.dropped.count("wrong_labels");
            let why = format!(
                "the metric has {} labels, got {} values",
                self.series.labels(),
                values.len()
            );
            return Err(Error::invalid_input(why).with_context("metric", self.dropped.metric()));
        }
        let failed = |error| Error::permanent("a series cannot be made").with_source(error);
        self.series
            .with(values, |values| (self.make)(values).map_err(failed), work)
    }

    /// Runs `work` if `value` may be recorded; else counts it as dropped.
    fn checked(&self, valid: bool, work: impl FnOnce()) {
        if valid {
            work()
        } else {
            self.dropped.count("invalid_value")
        }
    }
}

impl<M> fmt::Debug for Family<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Family")
            .field("metric", &self.dropped.metric())
            .finish_non_exhaustive()
    }
}

/// Declares a metric and the handle of one of its series. Both are empty when the subsystem is not enabled.
macro_rules! metric {
    ($(#[$doc:meta])* $metric:ident, $(#[$handle_doc:meta])* $handle:ident, $raw:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $metric(pub(super) Option<Arc<Family<$raw>>>);

        $(#[$handle_doc])*
        #[derive(Debug, Clone)]
        pub struct $handle(Option<(Arc<Family<$raw>>, $raw)>);

        impl $metric {
            /// The series of these label values, in the order of the labels. Keep it where speed counts.
            ///
            /// # Errors
            /// `InvalidInput` for a wrong number of values.
            pub fn with(&self, values: &[&str]) -> Result<$handle> {
                let Some(family) = &self.0 else { return Ok($handle(None)) };
                let raw = family.with(values, Clone::clone)?;
                Ok($handle(Some((Arc::clone(family), raw))))
            }

            /// A wrong number of label values is counted by the family, so the error says nothing new.
            fn run(&self, values: &[&str], valid: bool, work: impl FnOnce(&$raw)) {
                if let Some(family) = &self.0 {
                    family.checked(valid, || drop(family.with(values, work)));
                }
            }
        }

        impl $handle {
            fn run(&self, valid: bool, work: impl FnOnce(&$raw)) {
                if let Some((family, raw)) = &self.0 {
                    family.checked(valid, || work(raw));
                }
            }
        }
    };
}

metric! {
    /// A number that only rises. Cheap to clone.
    Counter,
    /// One series of a [`Counter`].
    CounterHandle, prometheus::Counter
}

metric! {
    /// A number that rises and falls. Cheap to clone.
    Gauge,
    /// One series of a [`Gauge`].
    GaugeHandle, prometheus::Gauge
}

metric! {
    /// How values are distributed over buckets. Cheap to clone.
    Histogram,
    /// One series of a [`Histogram`].
    HistogramHandle, Buckets
}

impl Counter {
    /// How many series there may be, and where to count what is over it. `None` when nothing is recorded.
    pub(super) fn budget(&self) -> Option<(usize, Dropped)> {
        self.0
            .as_ref()
            .map(|family| (family.series.max(), family.dropped.clone()))
    }

    /// Adds one.
    pub fn inc(&self, values: &[&str]) {
        self.run(values, true, prometheus::core::GenericCounter::inc);
    }

    /// Adds `amount`; a negative or infinite one, or NaN, is dropped.
    pub fn add(&self, values: &[&str], amount: f64) {
        self.run(values, is_amount(amount), |raw| raw.inc_by(amount));
    }
}

impl CounterHandle {
    /// Adds one.
    pub fn inc(&self) {
        self.run(true, prometheus::core::GenericCounter::inc);
    }

    /// Adds `amount`; a negative or infinite one, or NaN, is dropped.
    pub fn add(&self, amount: f64) {
        self.run(is_amount(amount), |raw| raw.inc_by(amount));
    }

    /// The count so far; 0 when the subsystem is not enabled.
    pub fn get(&self) -> f64 {
        self.0.as_ref().map_or(0.0, |(_, raw)| raw.get())
    }
}

impl Gauge {
    /// Sets the number; NaN is dropped.
    pub fn set(&self, values: &[&str], value: f64) {
        self.run(values, !value.is_nan(), |raw| raw.set(value));
    }

    /// Adds to the number, or takes from it; NaN and infinity are dropped.
    pub fn add(&self, values: &[&str], amount: f64) {
        self.run(values, amount.is_finite(), |raw| raw.add(amount));
    }
}

impl GaugeHandle {
    /// Sets the number; NaN is dropped.
    pub fn set(&self, value: f64) {
        self.run(!value.is_nan(), |raw| raw.set(value));
    }

    /// Adds to the number, or takes from it; NaN and infinity are dropped.
    pub fn add(&self, amount: f64) {
        self.run(amount.is_finite(), |raw| raw.add(amount));
    }

    /// The number now; 0 when the subsystem is not enabled.
    pub fn get(&self) -> f64 {
        self.0.as_ref().map_or(0.0, |(_, raw)| raw.get())
    }
}

impl Histogram {
    /// Takes note of a value; NaN and infinity are dropped.
    pub fn observe(&self, values: &[&str], value: f64) {
        self.run(values, value.is_finite(), |raw| raw.observe(value));
    }
}

impl HistogramHandle {
    /// Takes note of a value; NaN and infinity are dropped.
    pub fn observe(&self, value: f64) {
        self.run(value.is_finite(), |raw| raw.observe(value));
    }

    /// How many values were observed; 0 when the subsystem is not enabled.
    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, |(_, raw)| raw.count())
    }
}

fn is_amount(amount: f64) -> bool {
    amount.is_finite() && amount >= 0.0
}
