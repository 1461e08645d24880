//! The harnesses of the in-memory defaults. Each can put something around the default: a wrapper or a liar.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use cqi_core::{
    Error, Result,
    cache::{Cache, MemoryCache},
    database::{Database, SqliteDatabase, SqliteOptions},
    event::{EventBus, MemoryBus, MemoryBusOptions},
    health::{Checker, check_fn},
    registry::{MemoryRegistry, Registry},
};
use cqi_testkit::conformance::{
    Profile, cache::CacheHarness, checker::CheckerHarness, database::DatabaseHarness,
    event_bus::EventBusHarness, registry::RegistryHarness,
};
use tempfile::TempDir;
use tokio::sync::OnceCell;

/// What is put around each handle of a database.
type Wrap = Box<dyn Fn(Arc<dyn Database>) -> Arc<dyn Database> + Send + Sync>;

/// Room for what the largest case publishes while nobody consumes.
const BACKLOG: usize = 4096;

fn memory_bus() -> MemoryBus {
    MemoryBus::new(MemoryBusOptions {
        capacity: BACKLOG,
        ..MemoryBusOptions::default()
    })
}

/// A [`MemoryBus`].
pub(crate) struct Bus {
    bus: Arc<dyn EventBus>,
    profile: Profile,
}

impl Bus {
    pub(crate) fn memory() -> Self {
        Self {
            bus: Arc::new(memory_bus()),
            profile: Profile::paused(),
        }
    }

    /// On several threads and by the real clock, as adapters of servers are tested.
    pub(crate) fn real_time() -> Self {
        let (step, quiet) = (Duration::from_millis(500), Duration::from_millis(150));
        Self {
            profile: Profile::real().quick().with_step(step).with_quiet(quiet),
            ..Self::memory()
        }
    }

    pub(crate) fn quick(wrap: impl FnOnce(Arc<dyn EventBus>) -> Arc<dyn EventBus>) -> Self {
        Self {
            bus: wrap(Arc::new(memory_bus())),
            profile: Profile::paused().quick(),
        }
    }
}

#[async_trait]
impl EventBusHarness for Bus {
    async fn connect(&self) -> Result<Arc<dyn EventBus>> {
        Ok(Arc::clone(&self.bus))
    }

    fn adapter(&self) -> &'static str {
        if self.profile == Profile::paused() {
            "memory"
        } else {
            ""
        }
    }

    fn profile(&self) -> Profile {
        self.profile
    }

    fn backlog(&self) -> Option<usize> {
        Some(BACKLOG)
    }

    fn closes_apart(&self) -> bool {
        false // clones are all the bus itself
    }
}

/// A [`MemoryCache`].
pub(crate) struct Entries {
    cache: Arc<dyn Cache>,
    profile: Profile,
}

impl Entries {
    pub(crate) fn memory() -> Self {
        Self {
            cache: Arc::new(MemoryCache::default()),
            profile: Profile::paused(),
        }
    }

    pub(crate) fn quick(wrap: impl FnOnce(Arc<dyn Cache>) -> Arc<dyn Cache>) -> Self {
        Self {
            cache: wrap(Arc::new(MemoryCache::default())),
            profile: Profile::paused().quick(),
        }
    }
}

#[async_trait]
impl CacheHarness for Entries {
    async fn connect(&self) -> Result<Arc<dyn Cache>> {
        Ok(Arc::clone(&self.cache))
    }

    fn adapter(&self) -> &'static str {
        if self.profile == Profile::paused() {
            "memory"
        } else {
            ""
        }
    }

    fn profile(&self) -> Profile {
        self.profile
    }
}

/// A checker of an async function, over a switch.
pub(crate) struct Check {
    checker: Arc<dyn Checker>,
    up: Arc<AtomicBool>,
}

impl Check {
    pub(crate) fn function() -> Self {
        Self::quick(|checker| checker)
    }

    pub(crate) fn quick(wrap: impl FnOnce(Arc<dyn Checker>) -> Arc<dyn Checker>) -> Self {
        let up = Arc::new(AtomicBool::new(true));
        let seen = Arc::clone(&up);
        let checker = check_fn("switch", move || {
            let up = seen.load(SeqCst);
            async move {
                if up {
                    Ok(())
                } else {
                    Err(Error::temporary("the switch is off"))
                }
            }
        });
        Self {
            checker: wrap(Arc::new(checker)),
            up,
        }
    }
}

#[async_trait]
impl CheckerHarness for Check {
    async fn connect(&self) -> Result<Arc<dyn Checker>> {
        Ok(Arc::clone(&self.checker))
    }

    fn adapter(&self) -> &'static str {
        "function"
    }

    fn profile(&self) -> Profile {
        Profile::paused()
    }

    async fn take_down(&self) -> Result<()> {
        self.up.store(false, SeqCst);
        Ok(())
    }

    async fn bring_back(&self) -> Result<()> {
        self.up.store(true, SeqCst);
        Ok(())
    }
}

/// A [`MemoryRegistry`].
pub(crate) struct Services {
    registry: Arc<dyn Registry>,
    profile: Profile,
}

const TIME_TO_LIVE: Duration = Duration::from_secs(15);

impl Services {
    pub(crate) fn memory() -> Self {
        Self {
            registry: Arc::new(MemoryRegistry::new(TIME_TO_LIVE)),
            profile: Profile::paused(),
        }
    }

    pub(crate) fn quick(wrap: impl FnOnce(Arc<dyn Registry>) -> Arc<dyn Registry>) -> Self {
        Self {
            registry: wrap(Arc::new(MemoryRegistry::new(TIME_TO_LIVE))),
            profile: Profile::paused().quick(),
        }
    }
}

#[async_trait]
impl RegistryHarness for Services {
    async fn connect(&self) -> Result<Arc<dyn Registry>> {
        Ok(Arc::clone(&self.registry))
    }

    fn adapter(&self) -> &'static str {
        if self.profile == Profile::paused() {
            "memory"
        } else {
            ""
        }
    }

    fn profile(&self) -> Profile {
        self.profile
    }

    fn time_to_live(&self) -> Duration {
        TIME_TO_LIVE
    }

    fn closes_apart(&self) -> bool {
        false // clones are all the registry itself
    }
}

/// A [`SqliteDatabase`], in memory or in a file of its own.
pub(crate) struct Sqlite {
    folder: Option<TempDir>,
    in_memory: OnceCell<SqliteDatabase>,
    profile: Profile,
    wrap: Wrap,
}

impl Sqlite {
    pub(crate) fn memory() -> Self {
        Self {
            folder: None,
            in_memory: OnceCell::new(),
            profile: Profile::real(),
            wrap: Box::new(|database| database),
        }
    }

    pub(crate) fn file() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self {
            folder: Some(folder),
            ..Self::memory()
        }
    }

    pub(crate) fn quick(
        wrap: impl Fn(Arc<dyn Database>) -> Arc<dyn Database> + Send + Sync + 'static,
    ) -> Self {
        Self {
            profile: Profile::real().quick(),
            wrap: Box::new(wrap),
            ..Self::file()
        }
    }
}

#[async_trait]
impl DatabaseHarness for Sqlite {
    async fn connect(&self) -> Result<Arc<dyn Database>> {
        let acquire_timeout = Duration::from_secs(1);
        let database = match &self.folder {
            None => {
                let options = SqliteOptions {
                    acquire_timeout,
                    ..SqliteOptions::memory()
                };
                self.in_memory
                    .get_or_try_init(|| SqliteDatabase::open(options))
                    .await?
                    .clone()
            }
            Some(folder) => {
                let file = folder.path().join("test.db");
                SqliteDatabase::open(SqliteOptions {
                    acquire_timeout,
                    ..SqliteOptions::file(file)
                })
                .await?
            }
        };
        Ok((self.wrap)(Arc::new(database)))
    }

    fn adapter(&self) -> &'static str {
        match &self.folder {
            _ if self.profile != Profile::real() => "",
            None => "SQLite in memory",
            Some(_) => "SQLite",
        }
    }

    fn profile(&self) -> Profile {
        self.profile
    }

    fn connections(&self) -> usize {
        if self.folder.is_some() { 4 } else { 1 }
    }

    fn connects_apart(&self) -> bool {
        self.folder.is_some()
    }
}
