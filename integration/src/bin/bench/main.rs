//! The benchmarks: cqi beside what one would write without it, in the same run. `bench --help` says how.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "printing is what this program is for"
)]
#![allow(
    clippy::expect_used,
    reason = "a benchmark whose check fails has no figures: it ends, saying which"
)]

mod args;
mod auth;
mod bus;
mod cache;
mod db;
mod grpc;
mod http;
mod inproc;
mod log;
mod log_line;
mod measure;
mod overhead;
mod process;
mod programs;
mod report;
mod serve;
mod servers;
mod table;

use std::process::ExitCode;

use tokio::{runtime::Runtime, task::JoinSet};

use self::{
    args::{Args, Command, Suite},
    report::{Report, say},
};

fn main() -> ExitCode {
    let command = match Args::parse(std::env::args().skip(1)) {
        Ok(command) => command,
        Err(why) => {
            eprintln!("bench: {why}");
            return ExitCode::from(2);
        }
    };
    match command {
        Command::Help => {
            say(args::HELP);
            ExitCode::SUCCESS
        }
        Command::Programs(folder) => match programs::write(&folder) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("bench: {}: {error}", folder.display());
                ExitCode::FAILURE
            }
        },
        Command::Run(args) => {
            on_a_worker(run(args));
            ExitCode::SUCCESS
        }
        Command::Serve(served) => {
            on_a_worker(async move { served.run().await.expect("a server that goes on") });
            ExitCode::SUCCESS
        }
        Command::Load(requests) => {
            requests.make();
            ExitCode::SUCCESS
        }
        Command::Spans(traces, total) => {
            overhead::spans(traces, total);
            ExitCode::SUCCESS
        }
        Command::LogLines(peer, output, total) => {
            log::lines(&peer, &output, total);
            ExitCode::SUCCESS
        }
        Command::Backlog(backlog) => {
            on_a_worker(backlog.work());
            ExitCode::SUCCESS
        }
    }
}

/// Runs `main` on a worker of the runtime, where handlers run too. A future that the main thread blocks on would pay a
/// change of threads for each answer.
fn on_a_worker(main: impl Future<Output = ()> + Send + 'static) {
    let runtime = Runtime::new().expect("a tokio runtime");
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        tasks.spawn(main);
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    });
}

async fn run(args: Args) {
    if !args.json {
        say(measure::machine());
    }
    for suite in &args.suites {
        let mut report = Report::new(*suite, &args);
        for round in 0..args.rounds {
            report.start_round(round);
            match suite {
                Suite::Inproc => inproc::round(&mut report).await,
                Suite::Nats => bus::nats(&mut report).await,
                Suite::Kafka => bus::kafka(&mut report).await,
                Suite::CacheRedis => cache::redis(&mut report).await,
                Suite::CacheMemory => cache::memory(&mut report).await,
                Suite::DbPostgres => db::postgres(&mut report).await,
                Suite::DbSqlite => db::sqlite(&mut report).await,
                Suite::Log => log::round(&mut report).await,
                Suite::Http => http::round(&mut report).await,
                Suite::Grpc => grpc::round(&mut report).await,
                Suite::Overhead => overhead::round(&mut report).await,
                Suite::Auth => auth::round(&mut report).await,
            }
        }
        if !args.json {
            say(table::render(&report));
        }
    }
}
