//! How a subscription is worked on.

use std::time::Duration;

use crate::{Error, Result, event::DeadLetter, policy::Retry};

/// How a subscription is worked on.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct ConsumeOptions {
    /// How many handlers run at once; at least 1. Default 8.
    pub concurrency: usize,
    /// How many deliveries are pulled at once at most; at least 1. While handlers are slow, no more are pulled than can begin
    /// soon. Default 64.
    pub batch: usize,
    /// Attempts and pauses of events that fail for a passing reason. Default: 3 attempts.
    pub retry: Retry,
    /// Where events go that cannot be handled. Default: the topic's own dead-letter topic.
    pub dead_letter: DeadLetter,
    /// How long a delivery may stay unsettled; leases are renewed at a third of it. Default 30 s.
    pub ack_deadline: Duration,
    /// How long a handler may take; then it is dropped, so it must be cancel-safe, and its event is redelivered. A handler
    /// that hangs would hold its key for ever. Default 60 s.
    pub handler_timeout: Duration,
    /// How long running handlers may take to end when the subscription stops. Default 20 s.
    pub drain_timeout: Duration,
}

impl Default for ConsumeOptions {
    fn default() -> Self {
        Self {
            concurrency: 8,
            batch: 64,
            retry: Retry::default(),
            dead_letter: DeadLetter::Default,
            ack_deadline: Duration::from_secs(30),
            handler_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(20),
        }
    }
}

impl ConsumeOptions {
    /// Sets how many handlers run at once.
    pub fn with_concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// Sets how many deliveries are pulled at once at most.
    pub fn with_batch(mut self, batch: usize) -> Self {
        self.batch = batch;
        self
    }

    /// Sets attempts and pauses.
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Sets where events go that cannot be handled.
    pub fn with_dead_letter(mut self, dead_letter: DeadLetter) -> Self {
        self.dead_letter = dead_letter;
        self
    }

    /// Sets how long a delivery may stay unsettled.
    pub fn with_ack_deadline(mut self, ack_deadline: Duration) -> Self {
        self.ack_deadline = ack_deadline;
        self
    }

    /// Sets how long a handler may take.
    pub fn with_handler_timeout(mut self, handler_timeout: Duration) -> Self {
        self.handler_timeout = handler_timeout;
        self
    }

    /// Sets how long running handlers may take to end.
    pub fn with_drain_timeout(mut self, drain_timeout: Duration) -> Self {
        self.drain_timeout = drain_timeout;
        self
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// `InvalidInput` for a zero, or an invalid retry.
    pub fn validate(&self) -> Result<()> {
        let why = if self.concurrency == 0 {
            "concurrency must be at least 1"
        } else if self.batch == 0 {
            "batch must be at least 1"
        } else if self.ack_deadline.is_zero() || self.handler_timeout.is_zero() {
            "ack_deadline and handler_timeout must not be zero"
        } else {
            return self.retry.validate();
        };
        Err(Error::invalid_input(format!("consume options: {why}")))
    }
}
