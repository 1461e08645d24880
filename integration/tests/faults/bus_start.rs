//! The broker is not there when a service starts.

use std::{net::TcpListener, time::Duration};

use cqi_core::Code;
use cqi_testkit::figures::Figures;
use tokio::{task::block_in_place, time::Instant};

use crate::{
    harness::{Broker, Tune, on_each_broker},
    support::{Process, Program},
};

on_each_broker! {
    fails_fast => f_bus_08_nats_absent_at_start_fails_in_time, f_bus_08_kafka_absent_at_start_fails_in_time;
    waits => f_bus_08_nats_appears_while_the_start_waits, f_bus_08_kafka_appears_while_the_start_waits;
}

async fn fails_fast(broker: Broker) {
    // Taken and given back: nobody listens there.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let tune = Tune {
        connection_timeout: Duration::from_secs(1),
        ..Tune::default()
    };
    let asked = Instant::now();
    let error = broker
        .connect(&format!("{}://{nobody}", broker.kind()), &tune)
        .await
        .unwrap_err();
    let told = asked.elapsed();
    Figures::new("F-BUS-08", "absent at start, no waiting", broker.name())
        .note(format!(
            "told after {} ms of 1 s: Temporary/Unavailable, with the address",
            told.as_millis()
        ))
        .report();
    assert!(
        error.is_temporary() && error.code() == Some(Code::Unavailable),
        "{error:?}"
    );
    assert!(error.to_string().contains(&nobody.to_string()), "{error}");
    assert!(
        told < tune.connection_timeout + Duration::from_millis(500),
        "{told:?}"
    );
}

async fn waits(broker: Broker) {
    let Some(server) = broker.start() else { return };
    block_in_place(|| server.kill());
    let settings = [
        ("CQI_EVENT_BUS_URL", server.url()),
        ("CQI_STARTUP_WAIT", "120s"),
        ("CQI_EVENT_BUS_CONNECTION_TIMEOUT", "2s"),
    ];
    let service = Process::spawn(Program::Quickstart, &settings);
    let line = service.line_with("waiting for what cannot be reached").await;
    assert_eq!(line["port"], "event_bus", "{line}");
    let is_ready = |service: &Process| service.log().iter().any(|line| line["message"] == "start: ready");
    assert!(!is_ready(&service));
    block_in_place(|| server.start());
    let there = Instant::now();
    service.line_with("start: ready").await;
    let ready = there.elapsed();
    service.stop().await;
    Figures::new("F-BUS-08", "appears while the start waits", broker.name())
        .recovery(ready)
        .note("from the broker's first answer to a ready service")
        .report();
    // A group is joined as well, and the machine starts a broker at the same time.
    assert!(ready < broker.recovery(), "{ready:?}");
}
