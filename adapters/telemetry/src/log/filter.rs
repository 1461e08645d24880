//! Which events are logged. The level can be changed while the program runs.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use cqi_core::{Result, config::LogFilter};
use tracing::{Dispatch, Metadata, Subscriber, level_filters::LevelFilter, subscriber::Interest};
use tracing_subscriber::layer::{Context, Layer};

use super::Output;
use crate::home::Home;

/// Spans of these levels exist whatever is logged: traces need them.
const SPANS: LevelFilter = LevelFilter::INFO;

/// Changes the level of the log, and knows what was lost. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogHandle {
    shared: Arc<Shared>,
    output: Arc<Output>,
}

#[derive(Debug)]
struct Shared {
    filter: RwLock<LogFilter>,
    /// Held while the level changes, so that none of two changes at once is half the other's.
    changes: Mutex<Changes>,
    home: Home,
}

#[derive(Debug, Default)]
struct Changes {
    /// How many there were.
    count: u64,
    /// The level to return to, while another one is set for a time only.
    before: Option<LogFilter>,
}

impl Shared {
    fn set(&self, filter: LogFilter) {
        *self.filter.write().unwrap_or_else(PoisonError::into_inner) = filter;
        // Every log statement has remembered whether it is on, and asks the current subscriber again, which on this
        // thread may be none or another one.
        self.home.run(tracing::callsite::rebuild_interest_cache);
    }

    fn filter(&self) -> LogFilter {
        self.filter.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns to the level before the one that was set for a time by this change, unless there was another one since.
    fn restore(&self, change: u64) {
        let mut changes = self.changes();
        if changes.count == change
            && let Some(before) = changes.before.take()
        {
            self.set(before);
        }
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogHandle {
    pub(crate) fn new(filter: LogFilter, output: Arc<Output>) -> Self {
        let shared = Shared {
            filter: RwLock::new(filter),
            changes: Mutex::default(),
            home: output.home().clone(),
        };
        Self {
            shared: Arc::new(shared),
            output,
        }
    }

    /// Sets the level, in the words of [`LogConfig::level`](cqi_core::config::LogConfig::level); the next line obeys.
    ///
    /// # Errors
    /// `InvalidInput` for an unknown level; the old one stays.
    pub fn set_level(&self, level: &str) -> Result<()> {
        let filter = level.parse()?;
        let mut changes = self.shared.changes();
        changes.count += 1;
        changes.before = None;
        self.output.set_alarm(None);
        self.shared.set(filter);
        Ok(())
    }

    /// Sets the level for a while; then the level of [`LogHandle::set_level`] or of the configuration comes back (L-11).
    /// Calling it again sets another level and begins the time anew.
    ///
    /// # Errors
    /// `InvalidInput` for an unknown level; nothing changes.
    pub fn set_for(&self, level: &str, time: Duration) -> Result<()> {
        let filter = level.parse()?;
        let mut changes = self.shared.changes();
        changes.count += 1;
        let change = changes.count;
        changes.before.get_or_insert_with(|| self.shared.filter());
        self.shared.set(filter);
        let shared = Arc::downgrade(&self.shared);
        let restore = move || {
            if let Some(shared) = shared.upgrade() {
                shared.restore(change);
            }
        };
        self.output.set_alarm(Some((time, Box::new(restore))));
        Ok(())
    }

    /// Waits until everything logged before is written or lost, at most `limit`. Blocks the thread it is called on.
    ///
    /// # Errors
    /// As [`Output::flush`].
    pub fn flush(&self, limit: Duration) -> Result<()> {
        self.output.flush(limit)
    }

    /// How many lines the output did not take.
    pub fn dropped(&self) -> u64 {
        self.output.dropped()
    }

    pub(crate) fn layer(&self) -> FilterLayer {
        FilterLayer(Arc::clone(&self.shared))
    }

    pub(crate) fn output(&self) -> &Arc<Output> {
        &self.output
    }
}

/// Decides about events and spans for all layers below it.
#[derive(Debug)]
pub(crate) struct FilterLayer(Arc<Shared>);

impl FilterLayer {
    fn passes(&self, metadata: &Metadata<'_>) -> bool {
        if metadata.is_span() && *metadata.level() <= SPANS {
            return true;
        }
        let filter = self.0.filter.read().unwrap_or_else(PoisonError::into_inner);
        *metadata.level() <= level_of(&filter, metadata.target())
    }
}

impl<S: Subscriber> Layer<S> for FilterLayer {
    fn on_register_dispatch(&self, dispatch: &Dispatch) {
        self.0.home.is(dispatch);
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.passes(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.passes(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let filter = self.0.filter.read().unwrap_or_else(PoisonError::into_inner);
        let levels = filter.targets.iter().map(|(_, level)| *level);
        Some(levels.fold(filter.level.max(SPANS), LevelFilter::max))
    }
}

/// The level of a target: of the longest configured one that is it or a parent of it.
fn level_of(filter: &LogFilter, target: &str) -> LevelFilter {
    let fits = |parent: &str| {
        target
            .strip_prefix(parent)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    filter
        .targets
        .iter()
        .find(|(parent, _)| fits(parent))
        .map_or(filter.level, |(_, level)| *level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l_11_a_time_that_ends_beside_another_change_changes_nothing() {
        const LONG: Duration = Duration::from_secs(3600);
        let output = Output::to(tempfile::tempfile().unwrap(), 4096).unwrap();
        let handle = LogHandle::new("warn".parse().unwrap(), Arc::new(output));
        let level = || handle.shared.filter().level;
        handle.set_for("debug", LONG).unwrap();
        handle.set_for("trace", LONG).unwrap();
        handle.shared.restore(1);
        assert_eq!(level(), LevelFilter::TRACE, "its time is not over");
        handle.shared.restore(2);
        assert_eq!(level(), LevelFilter::WARN);
        handle.set_for("debug", LONG).unwrap();
        handle.set_level("error").unwrap();
        handle.shared.restore(3);
        assert_eq!(level(), LevelFilter::ERROR);
    }

    #[test]
    fn log_2_the_longest_target_decides() {
        let filter: LogFilter = "info,cqi_core=debug,cqi_core::event=off".parse().unwrap();
        for (target, level) in [
            ("shop", LevelFilter::INFO),
            ("cqi_core", LevelFilter::DEBUG),
            ("cqi_core::cache", LevelFilter::DEBUG),
            ("cqi_core::event::memory", LevelFilter::OFF),
            ("cqi_corelated", LevelFilter::INFO),
        ] {
            assert_eq!(level_of(&filter, target), level, "{target}");
        }
    }
}
