//! Disks: full ones, and ones that are written through.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use cqi_core::event::Durability;
use cqi_testkit::{
    figures::Figures,
    fixture::{self, Options, Server},
};
use tokio::{task::block_in_place, time::Instant};

use crate::harness::{
    Broker, Disk, Findings, Load, Log, Outcome, Tune, event, finish, on_each_broker, topic,
};

on_each_broker! {
    disk_full => f_bus_09_nats_disk_full, f_bus_09_kafka_disk_full;
}

/// The disk fills while events are published; room is made, and the broker is started again.
async fn disk_full(broker: Broker) {
    let Some(disk) = Disk::mount(96) else {
        fixture::skip("this process may not mount a file system");
        return;
    };
    let data = disk.folder.join("data");
    fs::create_dir(&data).unwrap();
    let Some(server) = broker.start_with(&Options::new().data(&data)) else {
        return;
    };
    let tune = Tune {
        publish_timeout: Duration::from_secs(1),
        stream_bytes: 40 << 20,
        ..Tune::default()
    };
    let bus = broker.connect(server.url(), &tune).await.unwrap();
    let (topic, log) = (topic(), Arc::new(Log::default()));
    let before = Load {
        publishers: 8,
        events: 400,
        payload: 4_096,
        insist: true,
        ..Load::default()
    };
    finish(before.start(&bus, &topic, &log), &log).await;
    assert_eq!(log.count(Outcome::Ok), before.events, "{:?}", log.errors());
    block_in_place(|| disk.fill(128 << 10));
    let full = Load {
        events: 80,
        payload: 16_384,
        insist: false,
        ..before.clone()
    };
    finish(full.start(&bus, &topic, &log), &log).await;
    // What was published before was acknowledged in the end.
    let (refused, unknown) = (log.count(Outcome::Failed), log.count(Outcome::Unknown));
    let slowest = log.slowest();
    let while_full = format!("{:?}", log.errors());
    let healthy = bus.ping().await;

    block_in_place(|| {
        disk.free();
        server.stop();
        server.start();
    });
    let ready = Instant::now();
    let after = Load {
        events: 100,
        insist: true,
        ..before.clone()
    };
    finish(after.start(&bus, &topic, &log), &log).await;
    let recovery = log.first_after(ready).unwrap();
    let found = Findings::of(&log, &broker.stored(server.url(), &topic).await);
    bus.close().await.unwrap();
    found
        .figures("F-BUS-09", "disk full, then freed and restarted", broker.name())
        .unknown(unknown)
        .recovery(recovery)
        .note(format!(
            "while full: {refused} refused, ping {}, longest call {:.1} s of 1 s",
            if healthy.is_ok() { "well" } else { "not well" },
            slowest.as_secs_f64()
        ))
        .report();
    found.hold_without_order();
    assert!(refused + unknown > 0, "the disk was not full");
    assert!(slowest < tune.publish_timeout * 2, "{slowest:?}: {while_full}");
    assert!(recovery <= broker.recovery(), "{recovery:?}");
}

/// What is acknowledged at the level of a power loss was written through before: `fsync` is counted. By default nothing
/// is, and the default promises no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_bus_10_nats_writes_through_before_it_acknowledges() {
    const EVENTS: usize = 100;
    if Command::new("strace")
        .arg("-V")
        .stdout(Stdio::null())
        .status()
        .is_err()
    {
        fixture::skip("strace is not installed");
        return;
    }
    let broker = Broker::Nats;
    let always = Options::new().line("jetstream: { sync_interval: always }");
    let mut counted = Vec::new();
    for options in [Options::new(), always] {
        let Some(server) = broker.start_with(&options) else {
            return;
        };
        let bus = broker.connect(server.url(), &Tune::default()).await.unwrap();
        // A client cannot see the server's setting, so this is what the adapter may claim.
        assert_eq!(bus.capabilities().durability, Durability::ProcessCrash);
        let topic = topic();
        bus.publish(event(&topic, "first", 64)).await.unwrap();
        let trace = tempfile::NamedTempFile::new().unwrap();
        let mut strace = attach(&server, trace.path());
        for n in 0..EVENTS {
            bus.publish(event(&topic, &format!("k{n}"), 64)).await.unwrap();
        }
        // It lets go of the server when it is interrupted.
        let pid = nix::unistd::Pid::from_raw(i32::try_from(strace.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        block_in_place(|| strace.wait()).unwrap();
        let text = fs::read_to_string(trace.path()).unwrap();
        let calls = text
            .lines()
            .filter(|line| line.contains("fsync(") || line.contains("fdatasync("));
        // A call that another thread interrupts takes two lines, of which one has no bracket.
        counted.push(calls.count());
        bus.close().await.unwrap();
    }
    Figures::new(
        "F-BUS-10",
        "written through before the acknowledgement",
        broker.name(),
    )
    .counts(EVENTS, EVENTS, 0, 0)
    .note(format!(
        "fsync calls for {EVENTS} acknowledgements: {} by default, {} with `sync_interval: always`",
        counted[0], counted[1]
    ))
    .report();
    assert!(counted[1] >= EVENTS, "{counted:?}");
    assert!(
        counted[0] < EVENTS / 10,
        "the count tells the settings apart: {counted:?}"
    );
}

/// Starts tracing the server; returns when every thread of it is traced.
fn attach(server: &Server, output: &Path) -> std::process::Child {
    let port = server.address().port().to_string();
    let pid = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .find(|pid| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<_> = command.split(|byte| *byte == 0).collect();
            words.contains(&port.as_bytes()) && words[0].ends_with(b"nats-server")
        })
        .expect("the server runs");
    let mut strace = Command::new("strace")
        .args(["-f", "-e", "trace=fsync,fdatasync", "-o"])
        .arg(output)
        .args(["-p", &pid.to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(strace.stderr.take().unwrap()).lines();
    let said = lines.next().expect("strace says what it does").unwrap();
    assert!(said.contains("attached"), "{said}");
    // Read on, or it would stop at a full pipe.
    std::thread::spawn(move || lines.for_each(drop));
    strace
}
