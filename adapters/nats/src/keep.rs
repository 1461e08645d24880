//! The task that looks after what a group's members do not take.

use std::{
    sync::{Arc, atomic::Ordering::AcqRel},
    task::Context,
    time::Duration,
};

use futures::future::join_all;
use tokio::time::{Instant, sleep};

use crate::{
    acker::{Hold, NatsAcker},
    bus::Shared,
    consumer,
    group::Group,
    inbox::Inbox,
    link::lock,
    share::{self, Held},
};

/// How often a group looks how far it is.
const LOOK_AT_FLOOR: Duration = Duration::from_secs(30);

impl Group {
    /// Hands back what nobody takes, and in the end everything.
    pub(crate) async fn keep(self: Arc<Self>) {
        let mut looked = Instant::now();
        loop {
            let beat = (self.deadline() / 3).clamp(Duration::from_millis(50), Duration::from_secs(10));
            tokio::select! {
                () = self.left.cancelled() => break,
                () = self.shared.closing.cancelled() => break,
                () = sleep(beat) => {}
            }
            if let Some(inbox) = self.forsaken(beat) {
                self.hand_back(inbox, beat).await;
            }
            if looked.elapsed() >= LOOK_AT_FLOOR {
                looked = Instant::now();
                self.look_at_floor().await;
            }
        }
        let (inbox, since) = {
            let mut state = lock(&self.state);
            (state.inbox.take(), state.idle_since.unwrap_or_else(Instant::now))
        };
        if let Some(inbox) = inbox {
            self.give_back(inbox.end(&self.shared, since).await).await;
        }
        self.gone.cancel();
    }

    /// The inbox, if something may have waited in it for `beat` and nobody has taken it.
    fn forsaken(&self, beat: Duration) -> Option<Inbox> {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let inbox = state.inbox.as_mut()?;
        let now = Instant::now();
        if let Some(since) = &mut state.idle_since {
            let read = inbox.read(&mut Context::from_waker(&state.waker), *since);
            *since = now;
            if let Err(error) = read {
                state.give_up(error);
                return None;
            }
        }
        // What cannot be handed back is still ours when a member comes for it.
        if !inbox.has_older(now.checked_sub(beat)?) || !self.shared.link.is_up() {
            return None;
        }
        state.is_handing_back = true;
        state.inbox.take()
    }

    /// Hands back what is forsaken of an inbox, and opens another, which begins with the rest. In between nothing is asked for,
    /// so that what is handed back comes again before what is younger.
    async fn hand_back(self: &Arc<Self>, inbox: Inbox, beat: Duration) {
        let now = Instant::now();
        let of = lock(&self.state).members.len().max(1);
        let held = inbox.end(&self.shared, now).await;
        let (forsaken, rest) = share::forsaken(held, of, now.checked_sub(beat).unwrap_or(now));
        self.give_back(forsaken).await;
        let connection = *self.shared.link.opened().borrow();
        let opened = Inbox::open(self, connection).await;
        let mut state = lock(&self.state);
        state.is_handing_back = false;
        // Without one, the next reader opens it; the rest comes back after its deadline.
        state.inbox = opened.ok().map(|inbox| inbox.with_first(rest));
        state.waker.wake_by_ref();
    }

    /// Gives messages back that nobody has tried, in their order.
    async fn give_back(self: &Arc<Self>, held: Vec<Held>) {
        if held.is_empty() {
            return;
        }
        tracing::debug!(
            consumer = self.consumer,
            messages = held.len(),
            "handing back messages that were not taken"
        );
        let noted = join_all(held.into_iter().map(|held| self.note_untried(held))).await;
        let acker = NatsAcker::new(Arc::clone(self), noted.into_iter().flatten().collect());
        acker.release_all().await;
    }

    /// Notes the release of a message; `None` if it comes back by itself when its deadline passes.
    async fn note_untried(&self, held: Held) -> Option<Hold> {
        let until = self.until(held.since);
        if self.shared.nanos(Instant::now()) >= until {
            return None;
        }
        let sequence = held.place.sequence;
        let released = match held.released {
            Some(released) => released,
            None => self.releases(sequence).await.ok()?,
        };
        self.note_release(sequence, released).await;
        Some(Hold::new(held.reply, sequence, released, held.bytes, until))
    }

    async fn look_at_floor(&self) {
        let Shared { link, options, .. } = &*self.shared;
        let found = consumer::look(
            link,
            &options.stream.name,
            &self.consumer,
            options.publish_timeout,
        )
        .await;
        if let Ok(Some(info)) = found {
            self.floor.fetch_max(info.ack_floor.stream_sequence, AcqRel);
        }
    }
}
