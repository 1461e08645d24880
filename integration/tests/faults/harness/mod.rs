//! What fault tests share: brokers, a load, a log of what was asked, readers, the comparison, and figures.

mod amnesia;
mod broker;
mod cluster;
mod consume;
mod disk;
mod line;
mod load;
mod log;
mod stored;
mod verify;
mod worker;

use tokio::sync::{Mutex, MutexGuard};

pub(crate) use cqi_testkit::figures::Figures;

pub(crate) use self::{
    amnesia::Amnesia,
    broker::{Broker, Tune, crash, topic},
    cluster::{Links, start_three, three_addresses},
    consume::{Member, Seen, options, read_all},
    disk::Disk,
    line::Line,
    load::{Load, afterwards, event, finish},
    log::{Log, Outcome},
    stored::{of_partitions, of_stream},
    verify::Findings,
    worker::Worker,
};

/// Makes a test of a case for each broker: `case => name_on_nats, name_on_kafka;`.
macro_rules! on_each_broker {
    ($($case:ident => $nats:ident, $kafka:ident;)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $nats() {
            $case($crate::harness::Broker::Nats).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $kafka() {
            $case($crate::harness::Broker::Kafka).await;
        }
    )+};
}
pub(crate) use on_each_broker;

/// Held by tests that keep the whole machine busy: two of them at once would measure each other.
pub(crate) async fn heavy() -> MutexGuard<'static, ()> {
    static HEAVY: Mutex<()> = Mutex::const_new(());
    HEAVY.lock().await
}

/// `full`, or a tenth of it when `CQI_QUICK` is `1`.
pub(crate) fn scale(full: usize) -> usize {
    let quick = std::env::var_os("CQI_QUICK").is_some_and(|quick| quick == "1");
    if quick { full / 10 } else { full }
}
