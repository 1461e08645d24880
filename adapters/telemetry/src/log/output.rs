//! Where lines go.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::fd::AsFd,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use cqi_core::{Error, Result};

/// An open output. Lines of several threads do not mix.
#[derive(Debug)]
pub struct Output {
    /// Locked for each line: a pipe may take a long line in pieces.
    file: Mutex<File>,
    dropped: AtomicU64,
}

impl Output {
    /// Opens `stdout`, `stderr`, or a file, which is appended to and made where it is missing.
    ///
    /// # Errors
    /// `InvalidInput` when the file cannot be opened.
    pub fn open(name: &str) -> Result<Self> {
        let file = match name {
            // A file of its own: std's handles buffer by line and lock, and println! panics on a closed pipe.
            "stdout" => io::stdout().as_fd().try_clone_to_owned().map(File::from),
            "stderr" => io::stderr().as_fd().try_clone_to_owned().map(File::from),
            path => OpenOptions::new().create(true).append(true).open(path),
        };
        let failed = |error: io::Error| {
            Error::invalid_input("cannot open the log's output")
                .with_context("output", name)
                .with_source(error)
        };
        Ok(file.map_err(failed)?.into())
    }

    /// Writes one line, by one write where the system takes it whole. A failure is counted, never reported.
    pub(super) fn write(&self, line: &[u8]) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file.write_all(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many lines could not be written, or not wholly.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl From<File> for Output {
    fn from(file: File) -> Self {
        Self {
            file: Mutex::new(file),
            dropped: AtomicU64::new(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l_10_a_full_disk_and_a_closed_pipe_are_counted() {
        let full = Output::open("/dev/full").unwrap();
        full.write(b"x\n");
        assert_eq!(full.dropped(), 1);
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let closed = Output::from(File::from(std::os::fd::OwnedFd::from(writer)));
        closed.write(b"x\n");
        closed.write(b"x\n");
        assert_eq!(closed.dropped(), 2);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let error = Output::open("/nowhere/log").unwrap_err();
        assert!(
            error.is_invalid_input() && error.to_string().contains("/nowhere/log"),
            "{error}"
        );
    }
}
