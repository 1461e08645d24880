//! The thread that writes lines.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "real time: this thread belongs to no runtime"
)]

use std::{
    io::{ErrorKind, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use super::buffer::{Buffer, Wake};

/// The most that is written to a pipe at once: it takes so much whole, so that lines of several processes do not mix.
pub(super) const PIPE: usize = 4096;

/// The most that is written to anything else at once.
pub(super) const FILE: usize = 64 << 10;

/// How often lost lines are told.
const TELL: Duration = Duration::from_secs(1);

pub(super) struct Writer<W> {
    file: W,
    buffer: Arc<Buffer>,
    /// The most that is written at once.
    chunk: usize,
    /// The last line was written in part.
    torn: bool,
    /// The last write went well.
    healthy: bool,
    /// How many lost lines were told, and when.
    told: u64,
    told_at: Option<Instant>,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(file: W, buffer: Arc<Buffer>, chunk: usize) -> Self {
        Self {
            file,
            buffer,
            chunk,
            torn: false,
            healthy: true,
            told: 0,
            told_at: None,
        }
    }

    pub(super) fn run(mut self) {
        self.buffer.writes();
        let mut lines = Vec::with_capacity(self.buffer.capacity());
        loop {
            let wake = self.buffer.next(&mut lines, self.tell_at(Instant::now()));
            // Now the buffer is empty: there is room for one more line.
            self.tell();
            match wake {
                Wake::Lines(count) => {
                    let lost = self.write(&lines);
                    lines.clear();
                    self.buffer.done(count, lost);
                }
                Wake::Alarm(alarm) => alarm(),
                Wake::Time => {}
                Wake::Closed => return,
            }
        }
    }

    /// When to tell of lost lines: not while the output fails.
    fn tell_at(&self, now: Instant) -> Option<Instant> {
        let lost = self.healthy && self.buffer.dropped() > self.told;
        lost.then(|| self.told_at.map_or(now, |at| at + TELL))
    }

    fn tell(&mut self) {
        let now = Instant::now();
        if self.tell_at(now).is_none_or(|at| at > now) {
            return;
        }
        let dropped = self.buffer.dropped();
        let lines_lost = dropped - self.told;
        (self.told, self.told_at) = (dropped, Some(now));
        self.buffer
            .home()
            .run(|| tracing::warn!(lines_lost, "log lines were lost"));
    }

    /// Says how many of the lines were lost.
    fn write(&mut self, mut lines: &[u8]) -> u64 {
        let mut lost = 0;
        while !lines.is_empty() {
            let (chunk, rest) = lines.split_at(chunk(lines, self.chunk));
            lost += self.write_chunk(chunk);
            lines = rest;
        }
        lost
    }

    fn write_chunk(&mut self, chunk: &[u8]) -> u64 {
        // First the end of the line that was cut off.
        let whole = !self.torn || self.write_all(b"\n") == 1;
        let written = if whole { self.write_all(chunk) } else { 0 };
        self.torn = !whole || (written > 0 && chunk[written - 1] != b'\n');
        self.healthy = written == chunk.len();
        let lost = chunk[written..].iter().filter(|byte| **byte == b'\n').count();
        lost as u64
    }

    /// How many bytes were written.
    fn write_all(&mut self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            match self.file.write(&bytes[written..]) {
                Ok(0) => break,
                Ok(some) => written += some,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Somebody has made the output non-blocking.
                Err(error) if error.kind() == ErrorKind::WouldBlock && self.buffer.retry() => {}
                Err(_) => break,
            }
        }
        written
    }
}

/// Where to cut: after as many lines as a chunk holds, or after the first one.
fn chunk(lines: &[u8], most: usize) -> usize {
    if lines.len() <= most {
        return lines.len();
    }
    let newline = |byte: &u8| *byte == b'\n';
    let last = lines[..most].iter().rposition(newline);
    let cut = last.or_else(|| lines.iter().position(newline));
    cut.map_or(lines.len(), |at| at + 1)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Error, Result},
        sync::Mutex,
    };

    use super::*;

    /// Takes so many bytes, then fails as often as it is told to, then takes everything.
    #[derive(Clone)]
    struct Disk(Arc<Mutex<(usize, usize, Vec<u8>)>>);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> Result<usize> {
            let (room, failures, written) = &mut *self.0.lock().unwrap();
            if *room == 0 && *failures > 0 {
                *failures -= 1;
                return Err(Error::from(ErrorKind::StorageFull));
            }
            let some = if *failures > 0 {
                bytes.len().min(*room)
            } else {
                bytes.len()
            };
            *room = room.saturating_sub(some);
            written.extend_from_slice(&bytes[..some]);
            Ok(some)
        }

        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn l_10_a_line_that_was_cut_off_does_not_spoil_the_next_one() {
        let disk = Disk(Arc::new(Mutex::new((7, 2, Vec::new()))));
        let buffer = Arc::new(Buffer::new(1000));
        let mut writer = Writer::new(disk.clone(), buffer, PIPE);
        assert_eq!(
            writer.write(b"one\ntwo two\nthree\n"),
            2,
            "cut in the second line"
        );
        assert_eq!(writer.write(b"four\n"), 1, "still full");
        assert_eq!(writer.write(b"five\n"), 0);
        assert_eq!(disk.0.lock().unwrap().2, b"one\ntwo\nfive\n");
    }

    #[test]
    fn lines_are_cut_between_lines() {
        let long = [b"x".repeat(5000), b"\n".to_vec()].concat();
        assert_eq!(chunk(&long, PIPE), 5001);
        let many = b"1234567\n".repeat(1000);
        assert_eq!(chunk(&many, PIPE), 4096);
        let mixed = [b"short\n".to_vec(), long].concat();
        assert_eq!(chunk(&mixed, PIPE), 6);
        assert_eq!(chunk(b"a\nb", PIPE), 3);
    }
}
