//! The lines between those who log and the thread that writes.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "real time: the threads here belong to no runtime, and a clock that tests have paused would never end a wait"
)]

use std::{
    mem,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use crate::home::Home;

/// How long the writer gathers lines after it has written some, so that a busy program does not wake it for each.
const LINGER: Duration = Duration::from_millis(1);

/// How long a line is waited for when the process is about to end.
const LAST: Duration = Duration::from_millis(50);

/// Something the writer does at a time.
pub(super) type Alarm = Box<dyn FnOnce() + Send>;

/// A bounded buffer of lines.
pub(super) struct Buffer {
    state: Mutex<State>,
    /// Wakes the writer.
    wake: Condvar,
    /// Wakes those who flush.
    progress: Condvar,
    dropped: AtomicU64,
    home: Home,
}

struct State {
    /// Whole lines. It never grows beyond the capacity it was made with, so that logging allocates nothing.
    lines: Vec<u8>,
    capacity: usize,
    /// How many lines were taken, and how many of them were written or lost.
    taken: u64,
    done: u64,
    writer: Sleep,
    flushing: u32,
    alarm: Option<(Instant, Alarm)>,
    closed: bool,
    /// The process is about to end: lines are waited for, shortly.
    ends: bool,
    /// The thread that writes, which must not wait for itself.
    thread: Option<ThreadId>,
}

/// What the writer does.
#[derive(PartialEq)]
enum Sleep {
    /// It waits for the next line.
    Idle,
    /// It gathers lines.
    Lingers,
    /// It writes, and looks again by itself.
    Works,
}

/// Why the writer goes on.
pub(super) enum Wake {
    /// There are lines: so many.
    Lines(u64),
    /// It is time for this.
    Alarm(Alarm),
    /// It is the time the writer asked for.
    Time,
    /// There will be no more lines.
    Closed,
}

impl Buffer {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            state: Mutex::new(State {
                lines: Vec::with_capacity(capacity),
                capacity,
                taken: 0,
                done: 0,
                writer: Sleep::Works,
                flushing: 0,
                alarm: None,
                closed: false,
                ends: false,
                thread: None,
            }),
            wake: Condvar::new(),
            progress: Condvar::new(),
            dropped: AtomicU64::new(0),
            home: Home::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a line, or drops it where there is no room.
    pub(super) fn put(&self, line: &[u8]) {
        let mut state = self.lock();
        if line.len() > state.capacity - state.lines.len() {
            drop(state);
            self.lose(1);
            return;
        }
        state.lines.extend_from_slice(line);
        state.taken += 1;
        let hurry = state.ends || state.lines.len() > state.capacity / 2;
        let wake = state.writer == Sleep::Idle || (state.writer == Sleep::Lingers && hurry);
        if wake {
            state.writer = Sleep::Works;
        }
        if state.ends && state.thread != Some(thread::current().id()) {
            self.wake.notify_one();
            self.wait_for_the_last(state);
            return;
        }
        drop(state);
        if wake {
            self.wake.notify_one();
        }
    }

    /// Waits for the line just taken. An output that does not take it is not waited for again.
    fn wait_for_the_last(&self, state: MutexGuard<'_, State>) {
        let line = state.taken;
        let waited = self
            .progress
            .wait_timeout_while(state, LAST, |state| state.done < line);
        let (mut state, outcome) = waited.unwrap_or_else(PoisonError::into_inner);
        if outcome.timed_out() {
            state.ends = false;
        }
    }

    /// From now on a line is written when the call that logs it returns, if the output takes it within a moment: the
    /// process is about to end, and nobody flushes any more.
    pub(super) fn end(&self) {
        self.lock().ends = true;
        self.wake.notify_one();
    }

    /// Says which thread writes.
    pub(super) fn writes(&self) {
        self.lock().thread = Some(thread::current().id());
    }

    pub(super) fn lose(&self, lines: u64) {
        self.dropped.fetch_add(lines, Relaxed);
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    pub(super) fn home(&self) -> &Home {
        &self.home
    }

    /// How much there is room for.
    pub(super) fn capacity(&self) -> usize {
        self.lock().capacity
    }

    /// Waits for lines and swaps them for `empty`, which must have the same capacity.
    pub(super) fn next(&self, empty: &mut Vec<u8>, at: Option<Instant>) -> Wake {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            if let Some((_, alarm)) = state.alarm.take_if(|(at, _)| *at <= now) {
                return Wake::Alarm(alarm);
            }
            if !state.lines.is_empty() {
                mem::swap(&mut state.lines, empty);
                state.writer = Sleep::Works;
                return Wake::Lines(state.taken - state.done);
            }
            if state.closed {
                return Wake::Closed;
            }
            if at.is_some_and(|at| at <= now) {
                return Wake::Time;
            }
            let alarm = state.alarm.as_ref().map(|(at, _)| *at);
            state.writer = Sleep::Idle;
            state = match at.into_iter().chain(alarm).min() {
                Some(at) => {
                    let waited = self.wake.wait_timeout(state, at.saturating_duration_since(now));
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// The writer is done with so many lines. Then gathers lines for a moment.
    pub(super) fn done(&self, lines: u64, lost: u64) {
        self.lose(lost);
        let mut state = self.lock();
        state.done += lines;
        self.progress.notify_all();
        if state.flushing == 0 && !state.closed && !state.ends && state.lines.len() <= state.capacity / 2 {
            state.writer = Sleep::Lingers;
            drop(self.wake.wait_timeout(state, LINGER));
        }
    }

    /// Waits a moment for an output that takes nothing now. False when nobody wants the lines any more.
    pub(super) fn retry(&self) -> bool {
        const PAUSE: Duration = Duration::from_millis(10);
        let state = self.lock();
        let closed = state.closed;
        drop(self.wake.wait_timeout(state, PAUSE));
        !closed
    }

    /// Waits until the lines taken so far are done. Says how many are not.
    pub(super) fn flush(&self, limit: Duration) -> u64 {
        let mut state = self.lock();
        let taken = state.taken;
        state.flushing += 1;
        self.wake.notify_one();
        let waited = self
            .progress
            .wait_timeout_while(state, limit, |state| state.done < taken);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.flushing -= 1;
        taken.saturating_sub(state.done)
    }

    pub(super) fn set_alarm(&self, alarm: Option<(Duration, Alarm)>) {
        let far = Duration::from_secs(365 * 24 * 3600);
        self.lock().alarm = alarm.map(|(after, alarm)| (Instant::now() + after.min(far), alarm));
        self.wake.notify_one();
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }
}
