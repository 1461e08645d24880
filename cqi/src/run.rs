//! The whole of a service's `main`.

use std::{future::Future, process::ExitCode};

use cqi_core::{
    Error, Result,
    config::{Config, Loaded, Loader},
};

use crate::{Cqi, connect, unused};

/// How long the last lines of the log may take.
#[cfg(feature = "telemetry")]
const LAST_LINES: std::time::Duration = std::time::Duration::from_secs(1);
/// The exit code for a wrong command line or configuration, as most programs use it.
const USAGE: u8 = 2;

/// Loads the configuration, connects the ports, lets `build` add handlers, and runs to the exit code.
///
/// `defaults` is the service's own configuration as YAML, usually `include_str!("../config.yaml")`. Above it lie the file
/// that `--config FILE` or `CQI_CONFIG` names, and the environment variables with the prefix `CQI`; see
/// [`config`](crate::config). `--help` lists every variable, `--check-config` checks the configuration and ends.
///
/// Panics are logged with their place only; set a hook of your own inside `build` to see more.
///
/// Exit codes: 0 after a clean shutdown, 1 after a failure, 2 for a wrong command line or configuration, 130 and 143
/// after a second signal. Errors before logging works are one line on standard error.
pub async fn run<F, Fut>(defaults: &str, build: F) -> ExitCode
where
    F: FnOnce(Cqi) -> Fut,
    Fut: Future<Output = Result<Cqi>>,
{
    let config = match configuration(defaults, std::env::args().skip(1)) {
        Ok(Task::Run(config)) => config,
        Ok(Task::Print(text)) => return print(&text),
        Err(error) => return fail(&error, USAGE),
    };
    std::panic::set_hook(Box::new(log_panic));
    let cqi = match Cqi::connect(config.value).await {
        Ok(cqi) => cqi,
        Err(error) => return fail(&error, 1),
    };
    for warning in &config.warnings {
        tracing::warn!(warning, "configuration");
    }
    #[cfg(feature = "telemetry")]
    let telemetry = cqi.telemetry.clone();
    let built = async { build(cqi).await?.app() }.await;
    let code = match built {
        Ok(app) => app.run_to_exit().await,
        Err(error) => {
            tracing::error!(error = %error.chain(), "failed to start");
            fail(&error, 1)
        }
    };
    // The app has done this in its order; a start that failed has not.
    #[cfg(feature = "telemetry")]
    drop(telemetry.shutdown(LAST_LINES).await);
    code
}

/// Says where a panic was, never its text: that may hold what a client sent (H-18). Whoever catches the panic says what
/// became of the request or the event.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string);
    tracing::error!(location, "panic");
}

enum Task {
    Run(Box<Loaded<Config>>),
    Print(String),
}

fn configuration(defaults: &str, mut args: impl Iterator<Item = String>) -> Result<Task> {
    let mut file = None;
    let mut check = false;
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--config" => {
                let path = args
                    .next()
                    .ok_or_else(|| Error::invalid_input("--config needs a file name; see --help"))?;
                file = Some(path);
            }
            "--check-config" => check = true,
            "--help" | "-h" => return Ok(Task::Print(help(defaults)?)),
            other => {
                return Err(
                    Error::invalid_input("unknown argument; see --help").with_context("argument", other)
                );
            }
        }
    }
    let mut loader = Loader::new().embedded(defaults).env_prefix("CQI");
    loader = match file {
        Some(path) => loader.file(path),
        None => loader.file_variable("CQI_CONFIG"),
    };
    let config = loader.load::<Config>()?;
    connect::check(&config.value)?;
    if !check {
        return Ok(Task::Run(Box::new(config)));
    }
    let mut report = String::new();
    for warning in config.warnings.iter().chain(&unused::warnings(&config.value)) {
        report.push_str(&format!("warning: {warning}\n"));
    }
    Ok(Task::Print(report + "configuration is valid\n"))
}

fn help(defaults: &str) -> Result<String> {
    let loader = Loader::new()
        .embedded(defaults)
        .env_prefix("CQI")
        .vars::<&str, &str>([]);
    let known = loader.describe::<Config>()?;
    Ok(format!(
        "Options:\n  --config FILE    read FILE (.yaml, .toml or .json) over the built-in configuration; also CQI_CONFIG\n  \
         --check-config   check the configuration and end\n  --help           show this\n\n\
         Environment variables and their defaults (LOG_LEVEL is CQI_LOGGING_LEVEL's short name):\n{known}"
    ))
}

fn print(text: &str) -> ExitCode {
    use std::io::Write;
    // A closed pipe (`--help | head`) is not our failure.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// One line on standard error, for whoever started the process; the log may go elsewhere, or not work yet.
fn fail(error: &Error, code: u8) -> ExitCode {
    use std::io::Write;
    // A configuration's error names everything itself; its cause is the same as a list.
    let text = if code == USAGE {
        error.to_string()
    } else {
        error.chain().to_string()
    };
    let _ = writeln!(std::io::stderr().lock(), "error: {text}");
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args<const N: usize>(args: [&str; N]) -> Result<Task> {
        configuration("service_name: shop", args.map(String::from).into_iter())
    }

    #[test]
    fn arguments_are_checked() {
        assert!(matches!(args([]), Ok(Task::Run(config)) if config.value.service_name == "shop"));
        assert!(matches!(args(["--check-config"]), Ok(Task::Print(_))));
        assert!(matches!(args(["--help"]), Ok(Task::Print(text)) if text.contains("CQI_SERVER_PORT")));
        for bad in [&["--config"][..], &["--config", "missing.yaml"], &["--port", "1"]] {
            let result = configuration("service_name: shop", bad.iter().map(ToString::to_string));
            assert!(result.is_err_and(|error| error.is_invalid_input()), "{bad:?}");
        }
    }
}
