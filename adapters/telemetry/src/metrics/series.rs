//! The series of one metric, found by their label values, up to a limit (L-04).

use std::{
    fmt,
    hash::{BuildHasher, Hasher},
    sync::{PoisonError, RwLock},
};

use cqi_core::Result;
use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::registry::Dropped;

/// The value that stands for all values beyond the limit.
const OTHER: &str = "other";

/// Something per combination of label values.
pub(super) struct Series<H> {
    hasher: RandomState,
    table: RwLock<HashTable<Entry<H>>>,
    max: usize,
    labels: usize,
    dropped: Dropped,
}

struct Entry<H> {
    values: Box<[Box<str>]>,
    handle: H,
}

impl<H> Series<H> {
    pub(super) fn new(labels: usize, max: usize, dropped: Dropped) -> Self {
        Self {
            hasher: RandomState::default(),
            table: RwLock::new(HashTable::new()),
            max,
            labels,
            dropped,
        }
    }

    /// How many label values a series has.
    pub(super) fn labels(&self) -> usize {
        self.labels
    }

    /// How many series there may be.
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// Runs `work` on the series of these label values, which `make` makes when it is new. When there is no room for
    /// a new one, on the series whose values are all `other`.
    pub(super) fn with<T>(
        &self,
        values: &[&str],
        make: impl FnOnce(&[&str]) -> Result<H>,
        work: impl FnOnce(&H) -> T,
    ) -> Result<T> {
        let hash = self.hash(values);
        {
            let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(entry) = table.find(hash, |entry| entry.is(values)) {
                return Ok(work(&entry.handle));
            }
            if table.len() >= self.max {
                drop(table);
                return self.with_other(make, work);
            }
        }
        self.insert(hash, values, make, work)
    }

    fn with_other<T>(
        &self,
        make: impl FnOnce(&[&str]) -> Result<H>,
        work: impl FnOnce(&H) -> T,
    ) -> Result<T> {
        self.dropped.count("series_limit");
        let values = vec![OTHER; self.labels];
        let hash = self.hash(&values);
        {
            let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(entry) = table.find(hash, |entry| entry.is(&values)) {
                return Ok(work(&entry.handle));
            }
        }
        self.insert(hash, &values, make, work)
    }

    /// Two threads may meet here with the same new values, or fill the last place twice: the limit is a bound on
    /// memory, one or two more are no harm.
    fn insert<T>(
        &self,
        hash: u64,
        values: &[&str],
        make: impl FnOnce(&[&str]) -> Result<H>,
        work: impl FnOnce(&H) -> T,
    ) -> Result<T> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = table.find(hash, |entry| entry.is(values)) {
            return Ok(work(&entry.handle));
        }
        let handle = make(values)?;
        let done = work(&handle);
        let values = values.iter().map(|value| Box::from(*value)).collect();
        table.insert_unique(hash, Entry { values, handle }, |entry| self.hash(&entry.values));
        Ok(done)
    }

    fn hash<V: AsRef<str>>(&self, values: &[V]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        for value in values {
            hasher.write(value.as_ref().as_bytes());
            // Keeps ("ab", "c") apart from ("a", "bc"): no text has this byte.
            hasher.write_u8(0xff);
        }
        hasher.finish()
    }
}

impl<H> Entry<H> {
    fn is(&self, values: &[&str]) -> bool {
        self.values.len() == values.len()
            && self
                .values
                .iter()
                .zip(values)
                .all(|(own, other)| **own == **other)
    }
}

impl<H> fmt::Debug for Series<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Series")
            .field("labels", &self.labels)
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}
