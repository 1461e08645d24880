//! CCH-10: the checker suite, on the checkers of both ports.

use std::sync::Arc;

use async_trait::async_trait;
use cqi_core::{Result, cache::CacheChecker, health::Checker, registry::RegistryChecker};
use cqi_testkit::{
    conformance::{Profile, checker::CheckerHarness},
    fixture::{self, Kind, Options, Server},
};
use tokio::task::block_in_place;

use crate::kit;

/// A server of its own, and which checker.
struct Harness {
    server: Option<Server>,
    registry: bool,
}

impl Harness {
    fn new(registry: bool) -> Self {
        let server = fixture::start(Kind::Redis, &Options::new()).ok();
        Self { server, registry }
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("a server")
    }
}

#[async_trait]
impl CheckerHarness for Harness {
    async fn connect(&self) -> Result<Arc<dyn Checker>> {
        let server = self.server();
        if self.registry {
            let registry = kit::registry(server.address(), std::time::Duration::from_secs(30)).await;
            return Ok(Arc::new(RegistryChecker::new(Arc::new(registry))));
        }
        Ok(Arc::new(CacheChecker::new(Arc::new(kit::cache(server).await))))
    }

    fn adapter(&self) -> &'static str {
        "Redis"
    }

    fn profile(&self) -> Profile {
        Profile::real()
    }

    fn missing(&self) -> Option<String> {
        fixture::missing(Kind::Redis)
    }

    async fn take_down(&self) -> Result<()> {
        block_in_place(|| self.server().kill());
        Ok(())
    }

    async fn bring_back(&self) -> Result<()> {
        block_in_place(|| self.server().start());
        Ok(())
    }
}

mod of_the_cache {
    cqi_testkit::checker_suite!(super::Harness::new(false));
}

mod of_the_registry {
    cqi_testkit::checker_suite!(super::Harness::new(true));
}
