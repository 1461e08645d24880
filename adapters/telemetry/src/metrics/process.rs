//! What the process uses, read from `/proc/self` at each scrape. Where that is missing, nothing is reported.

use std::fs;

use cqi_core::{Error, Result};
use jiff::Timestamp;
use prometheus::{
    Counter, Gauge, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};

/// Clock ticks per second in `/proc/self/stat`: fixed by Linux for what it shows to programs.
const TICKS: f64 = 100.0;

pub(super) struct Process {
    cpu: Counter,
    memory: Gauge,
    threads: Gauge,
    files: Gauge,
    started: Gauge,
    tasks: Gauge,
}

impl Process {
    pub(super) fn new(prefix: &str) -> Result<Self> {
        let opts = |name: &str, help: &str| Opts::new(format!("{prefix}_process_{name}"), help);
        let cannot = |error| Error::permanent("a metric cannot be made").with_source(error);
        let gauge = |name, help| Gauge::with_opts(opts(name, help)).map_err(cannot);
        let cpu = opts("cpu_seconds_total", "Processor time used, in seconds.");
        Ok(Self {
            cpu: Counter::with_opts(cpu).map_err(cannot)?,
            memory: gauge("resident_memory_bytes", "Memory in use, in bytes.")?,
            threads: gauge("threads", "Threads.")?,
            files: gauge("open_fds", "Open file descriptors.")?,
            started: {
                let started = gauge(
                    "start_time_seconds",
                    "When the service started, in seconds since 1970.",
                )?;
                started.set(Timestamp::now().as_millisecond() as f64 / 1e3);
                started
            },
            tasks: gauge("runtime_tasks", "Tasks alive in the runtime that is scraped.")?,
        })
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        [
            self.cpu.desc(),
            self.memory.desc(),
            self.threads.desc(),
            self.files.desc(),
            self.started.desc(),
            self.tasks.desc(),
        ]
        .concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = Vec::new();
        if let Some(seconds) = cpu_seconds() {
            // Two scrapes at a time may both add the same step, or the later one find the earlier's: never a fall.
            self.cpu.inc_by((seconds - self.cpu.get()).max(0.0));
            families.extend(self.cpu.collect());
        }
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let files = fs::read_dir("/proc/self/fd")
            .map(|files| files.count() as f64)
            .ok();
        let runtime = tokio::runtime::Handle::try_current();
        let tasks = runtime
            .map(|runtime| runtime.metrics().num_alive_tasks() as f64)
            .ok();
        let values = [
            (&self.memory, field(&status, "VmRSS:").map(|kib| kib * 1024.0)),
            (&self.threads, field(&status, "Threads:")),
            (&self.files, files),
            (&self.started, Some(self.started.get())),
            (&self.tasks, tasks),
        ];
        for (gauge, value) in values {
            if let Some(value) = value {
                gauge.set(value);
                families.extend(gauge.collect());
            }
        }
        families
    }
}

/// The number after `name` in `/proc/self/status`.
fn field(status: &str, name: &str) -> Option<f64> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

/// User and system time. The program's name, in brackets, may hold blanks and brackets: what counts is after it.
fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS)
}
