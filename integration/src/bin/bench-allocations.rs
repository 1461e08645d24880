//! Counts the heap allocations of a log line, for `bench log`. A program of its own, because counting slows down every
//! allocation.
#![allow(clippy::expect_used, reason = "a benchmark whose check fails has no figures")]
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

#[path = "bench/log_line.rs"]
mod log_line;

use std::process::ExitCode;

const LINES: usize = 10_000;

fn main() -> ExitCode {
    let peer = std::env::args().nth(1).unwrap_or_default();
    let Some(log) = log_line::install(&peer, "/dev/null") else {
        return ExitCode::from(2);
    };
    (0..LINES).for_each(log_line::line);
    log.flush();
    let counted = allocation_counter::measure(|| (0..LINES).for_each(log_line::line));
    log.flush();
    println!("{}", counted.count_total as f64 / LINES as f64);
    ExitCode::SUCCESS
}
