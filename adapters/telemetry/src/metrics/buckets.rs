//! A histogram in two atomic operations per value.
//!
//! The `prometheus` crate's takes four, so that a scrape never sees a value in the sum but not in the buckets. Here a
//! scrape may be a few values apart in the two, which the next one mends; counting costs half.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use prometheus::{
    Result,
    core::{Collector, Desc},
    proto,
};

/// One series: a count per bucket, the last for what is above all bounds, and the sum.
#[derive(Debug, Clone)]
pub(super) struct Buckets(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bounds: Arc<[f64]>,
    counts: Box<[AtomicU64]>,
    /// The bits of a float.
    sum: AtomicU64,
}

impl Buckets {
    fn new(bounds: Arc<[f64]>) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Inner {
            bounds,
            counts,
            sum: AtomicU64::new(0),
        }))
    }

    /// Takes note of a value: in the first bucket whose bound is not below it.
    pub(super) fn observe(&self, value: f64) {
        let Inner { bounds, counts, sum } = &*self.0;
        let at = bounds.partition_point(|bound| *bound < value);
        counts[at].fetch_add(1, Relaxed);
        let mut before = sum.load(Relaxed);
        while let Err(changed) = sum.compare_exchange_weak(
            before,
            (f64::from_bits(before) + value).to_bits(),
            Relaxed,
            Relaxed,
        ) {
            before = changed;
        }
    }

    /// How many values there were.
    pub(super) fn count(&self) -> u64 {
        self.0.counts.iter().map(|count| count.load(Relaxed)).sum()
    }

    fn proto(&self) -> proto::Histogram {
        let mut total = 0;
        let counts = self.0.bounds.iter().zip(&self.0.counts);
        let buckets = counts.map(|(bound, count)| {
            total += count.load(Relaxed);
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(total);
            bucket
        });
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets.collect());
        let above = self.0.counts.last().map_or(0, |count| count.load(Relaxed));
        histogram.set_sample_count(total + above);
        histogram.set_sample_sum(f64::from_bits(self.0.sum.load(Relaxed)));
        histogram
    }
}

/// All series of one histogram.
#[derive(Clone)]
pub(super) struct BucketsVec(Arc<Shared>);

struct Shared {
    desc: Desc,
    bounds: Arc<[f64]>,
    series: Mutex<Vec<(Vec<proto::LabelPair>, Buckets)>>,
}

impl BucketsVec {
    pub(super) fn new(name: &str, help: &str, labels: &[&str], bounds: &[f64]) -> Result<Self> {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let desc = Desc::new(name.to_owned(), help.to_owned(), labels, HashMap::new())?;
        Ok(Self(Arc::new(Shared {
            desc,
            bounds: bounds.into(),
            series: Mutex::default(),
        })))
    }

    /// A new series. The caller sees to it that the label values are new and as many as the labels.
    pub(super) fn create(&self, values: &[&str]) -> Buckets {
        let pairs = self
            .0
            .desc
            .variable_labels
            .iter()
            .zip(values)
            .map(|(name, value)| {
                let mut pair = proto::LabelPair::default();
                pair.set_name(name.clone());
                pair.set_value((*value).to_owned());
                pair
            });
        let buckets = Buckets::new(Arc::clone(&self.0.bounds));
        let mut series = self.0.series.lock().unwrap_or_else(PoisonError::into_inner);
        series.push((pairs.collect(), buckets.clone()));
        buckets
    }
}

impl Collector for BucketsVec {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.desc]
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let series = self.0.series.lock().unwrap_or_else(PoisonError::into_inner);
        let metrics = series.iter().map(|(labels, buckets)| {
            let mut metric = proto::Metric::from_label(labels.clone());
            metric.set_histogram(buckets.proto());
            metric
        });
        let mut family = proto::MetricFamily::default();
        family.set_name(self.0.desc.fq_name.clone());
        family.set_help(self.0.desc.help.clone());
        family.set_field_type(proto::MetricType::HISTOGRAM);
        family.set_metric(metrics.collect());
        vec![family]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_the_first_bucket_that_holds_them() {
        let buckets = Buckets::new([1.0, 2.0].into());
        for value in [-1.0, 1.0, 1.5, 2.0, 9.0] {
            buckets.observe(value);
        }
        let proto = buckets.proto();
        let counts: Vec<_> = proto
            .get_bucket()
            .iter()
            .map(proto::Bucket::cumulative_count)
            .collect();
        assert_eq!(
            (counts, proto.get_sample_count(), buckets.count()),
            (vec![2, 4], 5, 5)
        );
        assert!((proto.get_sample_sum() - 12.5).abs() < 1e-9);
    }

    #[test]
    fn threads_lose_no_value() {
        let buckets = Buckets::new([1.0].into());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| buckets.observe(0.5)));
            }
        });
        assert_eq!(buckets.count(), 40_000);
        assert!((buckets.proto().get_sample_sum() - 20_000.0).abs() < 1e-6);
    }
}
