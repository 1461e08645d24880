//! A member of a group.

use std::{fmt, future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Duration};

use async_trait::async_trait;
use cqi_core::{
    Result,
    event::{Deliveries, Delivery, Subscription},
};
use tokio::{
    sync::watch,
    time::{Sleep, sleep, timeout},
};

use crate::{
    bus::Shared,
    error,
    group::Group,
    inbox::{Inbox, SILENCE, Step},
    reading::Reading,
};

/// How long `next` waits for a lost connection before it says so.
const RECONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// A member's end of the subscription.
pub(crate) struct NatsDeliveries {
    group: Arc<Group>,
    /// Which member of the group.
    number: u64,
    opened: watch::Receiver<u64>,
    /// When to look whether the server still knows our pull; kept between calls.
    silence: Pin<Box<Sleep>>,
    left: bool,
}

impl NatsDeliveries {
    pub(crate) async fn join(
        shared: &Arc<Shared>,
        consumer: String,
        subscription: Subscription,
    ) -> Result<Self> {
        let opened = shared.link.opened();
        // From here on it is a member, which leaves when it is dropped, also by what follows failing.
        let (group, number) = shared.enter(consumer, &subscription);
        let member = Self {
            group,
            number,
            opened,
            silence: Box::pin(sleep(SILENCE)),
            left: false,
        };
        member.group.join(subscription).await?;
        let connection = *member.opened.borrow();
        member.group.open_inbox(connection).await?;
        Ok(member)
    }

    fn shared(&self) -> &Shared {
        &self.group.shared
    }

    fn leave(&mut self) {
        if !std::mem::replace(&mut self.left, true) {
            self.group.shared.leave(&self.group, self.number);
        }
    }

    async fn open(&mut self) -> Result<()> {
        self.wait_for_connection().await?;
        let connection = *self.opened.borrow_and_update();
        self.group.open(connection).await?;
        tracing::info!(consumer = self.group.consumer, "subscription opened again");
        Ok(())
    }

    /// Asks the server for up to `max` messages.
    async fn pull(&mut self, max: usize) -> Result<()> {
        self.wait_for_connection().await?;
        let Shared { link, options, .. } = &*self.group.shared;
        let max_payload = link.client().max_payload();
        let is_alone = self.group.is_alone();
        let pull = self
            .group
            .with_inbox(|inbox| inbox.pull(max, is_alone, max_payload));
        let Some((subject, reply, request)) = pull else {
            return Ok(());
        };
        let told = link
            .tell(subject, Some(reply), request, options.publish_timeout)
            .await;
        if told.is_err() {
            self.group.with_inbox(Inbox::not_sent);
        }
        told
    }

    async fn wait_for_connection(&mut self) -> Result<()> {
        let link = &self.group.shared.link;
        if link.is_up() {
            return Ok(());
        }
        tokio::select! {
            back = timeout(RECONNECT_PATIENCE, self.opened.changed()) => {
                if back.is_ok() || link.is_up() {
                    return Ok(());
                }
            }
            () = self.group.shared.closing.cancelled() => {}
        }
        Err(link.at(error::down()))
    }

    /// Waits until there is something to do, or the server has been silent for too long.
    async fn wait(&mut self, max: usize) -> Result<()> {
        let Self {
            group,
            number,
            opened,
            silence,
            ..
        } = self;
        let connection = *opened.borrow_and_update();
        let something = poll_fn(|context| match group.step(context, connection, *number, max) {
            Ok(Step::Wait) => Poll::Pending,
            Ok(_) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error)),
        });
        tokio::select! {
            biased;
            something = something => something,
            () = group.shared.closing.cancelled() => Ok(()),
            _ = opened.changed() => Ok(()),
            () = silence.as_mut() => {
                let look_again = group.check_silence(SILENCE);
                silence.as_mut().reset(look_again);
                Ok(())
            }
        }
    }

    /// Whether to ask for more before all is used up.
    fn should_pull_ahead(&self, max: usize) -> bool {
        let deadline = self.group.deadline();
        !self.group.unsettled.is_full()
            && self
                .group
                .with_inbox(|inbox| inbox.is_quick(deadline) && inbox.runs_low(max))
                .unwrap_or(false)
    }

    async fn deliver(&mut self, max: usize) -> Result<Vec<Delivery>> {
        self.group.look_up_releases(self.number, max).await?;
        if self.should_pull_ahead(max)
            && let Err(error) = self.pull(max).await
        {
            tracing::debug!(error = %error, "asking ahead failed");
        }
        // Nothing may wait after this, or the deliveries would be lost with the future.
        Ok(self.group.take(self.number, max))
    }
}

#[async_trait]
impl Deliveries for NatsDeliveries {
    async fn next(&mut self, max: usize) -> Option<Result<Vec<Delivery>>> {
        let max = max.max(1);
        let group = Arc::clone(&self.group);
        let _reading = Reading::begin(&group);
        loop {
            if self.left || self.shared().is_closed() {
                return None;
            }
            let connection = *self.opened.borrow();
            let step =
                poll_fn(|context| Poll::Ready(group.step(context, connection, self.number, max))).await;
            let done = match step {
                Ok(Step::Take) => match self.deliver(max).await {
                    Ok(deliveries) if deliveries.is_empty() => Ok(()), // others were faster
                    Ok(deliveries) => return Some(Ok(deliveries)),
                    Err(error) => Err(error),
                },
                Ok(Step::Pull) => self.pull(max).await,
                Ok(Step::Open) => self.open().await,
                Ok(Step::Wait) => self.wait(max).await,
                Err(error) => Err(error),
            };
            match done {
                Ok(()) => {}
                Err(_) if self.shared().is_closed() => return None,
                Err(error) => {
                    let error = error
                        .with_operation("event_bus.next")
                        .with_context("topic", group.topic());
                    return Some(Err(error));
                }
            }
        }
    }

    async fn close(&mut self) -> Result<()> {
        self.leave();
        if self.group.left().is_cancelled() {
            // What is not handed back in time comes back after its deadline.
            let _ = timeout(self.shared().options.close_timeout, self.group.gone().cancelled()).await;
        }
        Ok(())
    }
}

impl Drop for NatsDeliveries {
    fn drop(&mut self) {
        self.leave();
    }
}

impl fmt::Debug for NatsDeliveries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsDeliveries")
            .field("consumer", &self.group.consumer)
            .finish_non_exhaustive()
    }
}
