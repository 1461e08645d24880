//! The operating system's wish that a process ends.

use std::{fmt, io};

use tokio::sync::mpsc;

use crate::{Code, Error, Result};

/// A signal by its number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signal(i32);

impl Signal {
    /// `SIGHUP`, 1.
    pub const HANGUP: Self = Self(1);
    /// `SIGINT`, 2: Ctrl-C.
    pub const INTERRUPT: Self = Self(2);
    /// `SIGQUIT`, 3.
    pub const QUIT: Self = Self(3);
    /// `SIGTERM`, 15: what container runtimes and init systems send first.
    pub const TERMINATE: Self = Self(15);

    /// Any other signal of the platform. One that cannot be caught is refused when the app starts.
    pub const fn from_raw(number: i32) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn number(self) -> i32 {
        self.0
    }

    /// The exit code of a process ended by this signal: 128 and the number, 143 for `SIGTERM`.
    pub fn exit_code(self) -> u8 {
        self.0
            .checked_add(128)
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(1)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("SIGHUP"),
            2 => f.write_str("SIGINT"),
            3 => f.write_str("SIGQUIT"),
            15 => f.write_str("SIGTERM"),
            other => write!(f, "signal {other}"),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which signals end an app (SVC-6). Default: `SIGTERM` and `SIGINT`.
///
/// Listening replaces a signal's default action for the rest of the process's life, also after the app has ended.
#[derive(Debug)]
pub struct Signals(Source);

#[derive(Debug)]
enum Source {
    System(Vec<Signal>),
    Channel(mpsc::Receiver<Signal>),
}

impl Default for Signals {
    fn default() -> Self {
        Self::of([Signal::TERMINATE, Signal::INTERRUPT])
    }
}

impl Signals {
    /// Exactly these signals.
    pub fn of(signals: impl IntoIterator<Item = Signal>) -> Self {
        Self(Source::System(signals.into_iter().collect()))
    }

    /// No signal: the app ends by its handle only. For tests, and where something else handles signals.
    pub fn none() -> Self {
        Self::of([])
    }

    /// Signals received elsewhere. A closed channel is silent.
    pub fn from_channel(signals: mpsc::Receiver<Signal>) -> Self {
        Self(Source::Channel(signals))
    }

    /// Begins to listen; no later signal is missed.
    pub(super) fn listen(self) -> Result<Listener> {
        match self.0 {
            Source::Channel(channel) => Ok(Listener::Channel(channel)),
            Source::System(signals) => signals
                .into_iter()
                .map(|signal| {
                    listen_one(signal).map_err(|error| {
                        Error::invalid_input(format!("{signal} cannot be listened to")).with_source(error)
                    })
                })
                .collect::<Result<_>>()
                .map(Listener::System),
        }
    }
}

#[cfg(unix)]
type System = (Signal, tokio::signal::unix::Signal);

#[cfg(unix)]
fn listen_one(signal: Signal) -> io::Result<System> {
    let kind = tokio::signal::unix::SignalKind::from_raw(signal.0);
    Ok((signal, tokio::signal::unix::signal(kind)?))
}

#[cfg(windows)]
type System = (Signal, tokio::signal::windows::CtrlC);

#[cfg(windows)]
fn listen_one(signal: Signal) -> io::Result<System> {
    // Windows has no signals; Ctrl-C stands for all of them.
    Ok((signal, tokio::signal::windows::ctrl_c()?))
}

pub(super) enum Listener {
    System(Vec<System>),
    Channel(mpsc::Receiver<Signal>),
}

impl Listener {
    /// Waits for the next signal; for ever when none can come. Cancel-safe.
    pub(super) async fn next(&mut self) -> Signal {
        match self {
            Self::Channel(channel) => {
                if let Some(signal) = channel.recv().await {
                    return signal;
                }
                std::future::pending().await
            }
            Self::System(signals) => {
                std::future::poll_fn(|context| {
                    for (signal, stream) in signals.iter_mut() {
                        if stream.poll_recv(context).is_ready() {
                            return std::task::Poll::Ready(*signal);
                        }
                    }
                    std::task::Poll::Pending
                })
                .await
            }
        }
    }
}

/// The cause of an app's error when a second signal cut its shutdown short.
#[derive(Debug, thiserror::Error)]
#[error("second {0}")]
pub(super) struct Interrupted(pub(super) Signal);

impl Interrupted {
    pub(super) fn error(signal: Signal) -> Error {
        Error::permanent("shutdown was cut short")
            .with_code(Code::Cancelled)
            .with_source(Self(signal))
    }

    /// The signal, if that is why `error` came to be.
    pub(super) fn find(error: &Error) -> Option<Signal> {
        let source = std::error::Error::source(error)?;
        source.downcast_ref::<Self>().map(|interrupted| interrupted.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ml_core_12_exit_codes_are_those_of_a_shell() {
        assert_eq!(Signal::INTERRUPT.exit_code(), 130);
        assert_eq!(Signal::TERMINATE.exit_code(), 143);
        assert_eq!(Signal::from_raw(i32::MAX).exit_code(), 1);
    }

    #[tokio::test]
    async fn svc_6_signals_that_cannot_be_caught_are_refused() {
        let kill = Signals::of([Signal::from_raw(9)]);
        assert!(kill.listen().err().unwrap().is_invalid_input());
    }
}
