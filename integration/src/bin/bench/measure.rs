//! The clock, the processor time, and the load every case is made of.

use std::{collections::HashMap, fs, sync::Arc, time::Duration};

use bytes::Bytes;
use nix::sys::resource::{UsageWho, getrusage};
use tokio::{task::JoinSet, time::Instant};

/// The payload sizes, in bytes.
pub(crate) const SIZES: [usize; 2] = [256, 4096];

/// A payload of `size` bytes with its number in front, so that whoever gets it can tell which it is.
pub(crate) fn payload(number: usize, size: usize) -> Bytes {
    let mut bytes = vec![b'x'; size];
    bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
    bytes.into()
}

/// The number of a payload, whose size is checked.
pub(crate) fn number(payload: &[u8], size: usize) -> usize {
    assert_eq!(payload.len(), size, "payload size");
    let front = payload.first_chunk().expect("a payload of at least 8 bytes");
    usize::try_from(u64::from_le_bytes(*front)).expect("a number this program made")
}

/// Measures wall time and this process's processor time.
#[derive(Debug)]
pub(crate) struct Clock {
    wall: Instant,
    cpu: Duration,
}

/// What a [`Clock`] measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Took {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            cpu: cpu(),
            wall: Instant::now(),
        }
    }

    pub(crate) fn stop(self) -> Took {
        Took {
            wall: self.wall.elapsed(),
            cpu: cpu().saturating_sub(self.cpu),
        }
    }
}

/// Processor time of this process, in user and kernel.
fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("the process's own usage");
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|time| {
            let micros = time.tv_sec() * 1_000_000 + time.tv_usec();
            Duration::from_micros(u64::try_from(micros).unwrap_or_default())
        })
        .sum()
}

/// Memory that is in RAM, in MiB, of the process whose status file of Linux this is.
pub(crate) fn resident(status: &str) -> f64 {
    memory(status, "VmRSS:")
}

fn memory(status: &str, field: &str) -> f64 {
    let status = fs::read_to_string(status).expect("the status of a process that runs");
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.expect("memory in kB") / 1024.0
}

/// Memory of this process that is in RAM, in MiB.
pub(crate) fn own_resident() -> f64 {
    resident("/proc/self/status")
}

/// The most of it that ever was, in MiB.
pub(crate) fn own_peak() -> f64 {
    memory("/proc/self/status", "VmHWM:")
}

/// The `p`th percentile of the samples; sorts them.
pub(crate) fn percentile(samples: &mut [u64], p: usize) -> u64 {
    samples.sort_unstable();
    samples[(samples.len() * p / 100).min(samples.len() - 1)]
}

/// The middle of the samples.
pub(crate) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}

/// Calls `call` with 0 to `total`, from `tasks` tasks at once; with one task, in the calling one.
pub(crate) async fn drive<C, F>(tasks: usize, total: usize, call: C)
where
    C: Fn(usize) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send,
{
    if tasks == 1 {
        for i in 0..total {
            call(i).await;
        }
        return;
    }
    let call = Arc::new(call);
    let mut running = JoinSet::new();
    for first in 0..tasks {
        let call = Arc::clone(&call);
        running.spawn(async move {
            for i in (first..total).step_by(tasks) {
                call(i).await;
            }
        });
    }
    join(running).await;
}

/// Calls `call` with 0 to `total`, one after another, and times each in nanoseconds.
pub(crate) async fn sequential<F: Future<Output = ()>>(
    total: usize,
    call: impl Fn(usize) -> F,
) -> (Took, Vec<u64>) {
    let mut nanos = Vec::with_capacity(total);
    let clock = Clock::start();
    for i in 0..total {
        let started = Instant::now();
        call(i).await;
        nanos.push(u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    (clock.stop(), nanos)
}

/// Waits for all tasks; a panic in one is a panic here.
pub(crate) async fn join<T: 'static>(mut running: JoinSet<T>) {
    while let Some(ended) = running.join_next().await {
        if let Err(error) = ended {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// What the figures depend on: cores, load, build profile. No names and no paths.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
    let model = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let fields: HashMap<_, _> = model.lines().filter_map(|line| line.split_once(':')).collect();
    let model = fields.iter().find(|(name, _)| name.trim() == "model name");
    let model = model.map_or("", |(_, value)| value.trim());
    let profile = if cfg!(debug_assertions) {
        "debug (figures mean nothing)"
    } else {
        "release"
    };
    format!("{cores} cores {model}, load {load} before, profile {profile}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_and_medians() {
        let mut samples: Vec<u64> = (1..=100).rev().collect();
        assert_eq!(percentile(&mut samples, 50), 51);
        assert_eq!(percentile(&mut samples, 99), 100);
        assert_eq!(percentile(&mut [7], 99), 7);
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
    }

    #[test]
    fn payloads_carry_their_number() {
        assert_eq!(number(&payload(77, 256), 256), 77);
    }
}
