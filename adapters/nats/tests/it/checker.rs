//! The suite of the checker, over a broker of its own that is stopped and started.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use cqi_core::{Error, Result, event::BusChecker, health::Checker};
use cqi_nats::NatsBus;
use cqi_testkit::{
    conformance::{Profile, checker::CheckerHarness},
    fixture::{self, Kind, Options, Server},
};

use crate::support::options;

struct Health(Option<Server>);

impl Default for Health {
    fn default() -> Self {
        Self(fixture::start(Kind::Nats, &Options::new()).ok())
    }
}

impl Health {
    fn server(&self) -> Result<&Server> {
        self.0.as_ref().ok_or_else(|| Error::permanent("no server"))
    }
}

#[async_trait]
impl CheckerHarness for Health {
    async fn connect(&self) -> Result<Arc<dyn Checker>> {
        let server = self.server()?;
        let mut options = options(server.url());
        options.connection_timeout = Duration::from_secs(5);
        Ok(Arc::new(BusChecker::new(Arc::new(
            NatsBus::connect(options).await?,
        ))))
    }

    fn adapter(&self) -> &'static str {
        "NATS JetStream"
    }

    fn profile(&self) -> Profile {
        Profile::real()
    }

    fn missing(&self) -> Option<String> {
        fixture::missing(Kind::Nats)
    }

    async fn take_down(&self) -> Result<()> {
        self.server()?.stop();
        Ok(())
    }

    async fn bring_back(&self) -> Result<()> {
        self.server()?.start();
        Ok(())
    }
}

// BUS-16, INT-7: against a server that goes and comes back.
cqi_testkit::checker_suite!(Health::default());
