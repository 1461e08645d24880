//! Where lines go.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io,
    os::fd::AsFd,
    sync::Arc,
    thread,
    time::Duration,
};

use cqi_core::{Error, Result, config::LogConfig};

use super::{
    buffer::{Alarm, Buffer},
    writer::{FILE, PIPE, Writer},
};
use crate::home::Home;

/// An open output with a thread that writes. Lines of several threads do not mix.
///
/// Logging a line copies it into a buffer of fixed size and never waits for the output: what finds the buffer full is
/// dropped and counted. The thread ends when the output is dropped, after it has written what was left.
pub struct Output {
    buffer: Arc<Buffer>,
    /// Ends by itself; kept so that the thread has an owner.
    _thread: thread::JoinHandle<()>,
}

impl Output {
    /// Opens `stdout`, `stderr`, or a file, which is appended to and made where it is missing. 4 MiB of lines may wait.
    ///
    /// # Errors
    /// `InvalidInput` when the file cannot be opened; `Permanent` when the system gives no thread.
    pub fn open(name: &str) -> Result<Self> {
        Self::open_with(name, LogConfig::default().buffer)
    }

    /// As [`Output::open`], with room for so many bytes of lines; at least 4 KiB.
    ///
    /// # Errors
    /// As [`Output::open`].
    pub fn open_with(name: &str, buffer: usize) -> Result<Self> {
        let file = match name {
            // A file of its own: std's handles buffer by line and lock, and println! panics on a closed pipe.
            "stdout" => io::stdout().as_fd().try_clone_to_owned().map(File::from),
            "stderr" => io::stderr().as_fd().try_clone_to_owned().map(File::from),
            path => OpenOptions::new().create(true).append(true).open(path),
        };
        let file = file.map_err(|error| {
            Error::invalid_input("cannot open the log's output")
                .with_context("output", name)
                .with_source(error)
        })?;
        Self::to(file, buffer)
    }

    /// Writes to an open file or pipe, with room for so many bytes of lines; at least 4 KiB.
    ///
    /// # Errors
    /// `Permanent` when the system gives no thread.
    pub fn to(file: File, buffer: usize) -> Result<Self> {
        let buffer = Arc::new(Buffer::new(buffer.max(4 << 10)));
        let is_file = file.metadata().is_ok_and(|file| file.is_file());
        let writer = Writer::new(file, Arc::clone(&buffer), if is_file { FILE } else { PIPE });
        let thread = thread::Builder::new()
            .name("cqi-log".into())
            .spawn(|| writer.run())
            .map_err(|error| Error::permanent("the log cannot start").with_source(error))?;
        Ok(Self {
            buffer,
            _thread: thread,
        })
    }

    /// Takes one line. Never waits for the output.
    pub(super) fn write(&self, line: &[u8]) {
        self.buffer.put(line);
    }

    /// Waits until everything logged before is written or lost, at most `limit`. Blocks the thread it is called on: in
    /// async code call [`Telemetry::shutdown`](crate::Telemetry::shutdown).
    ///
    /// # Errors
    /// `Temporary`/`Timeout` when the output did not take it in time, with the number of lines that wait.
    pub fn flush(&self, limit: Duration) -> Result<()> {
        match self.buffer.flush(limit) {
            0 => Ok(()),
            waiting => Err(Error::timeout(limit)
                .with_operation("log.flush")
                .with_context("lines", waiting)),
        }
    }

    /// From now on a call that logs waits for its line, for a moment: the process is about to end.
    pub(crate) fn end(&self) {
        self.buffer.end();
    }

    /// How many lines could not be written, or not wholly.
    pub fn dropped(&self) -> u64 {
        self.buffer.dropped()
    }

    pub(crate) fn home(&self) -> &Home {
        self.buffer.home()
    }

    /// Has the thread run something after a while; `None` takes that back.
    pub(super) fn set_alarm(&self, alarm: Option<(Duration, Alarm)>) {
        self.buffer.set_alarm(alarm);
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.buffer.close();
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}
