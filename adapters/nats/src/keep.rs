//! The task that looks after what a group's members do not take.

use std::{
    sync::{Arc, atomic::Ordering::AcqRel},
    task::Context,
    time::Duration,
};

use cqi_core::event::{Acker, Redelivery};
use futures::future::join_all;
use tokio::time::{Instant, sleep};

use crate::{
    acker::{Hold, NatsAcker},
    bus::Shared,
    consumer,
    group::Group,
    inbox::Held,
    link::lock,
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
            let forsaken = self.forsaken(beat);
            self.made_room(&forsaken);
            self.give_back(forsaken).await;
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

    /// What may have waited for `beat` and nobody has taken.
    fn forsaken(&self, beat: Duration) -> Vec<Held> {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let Some(inbox) = &mut state.inbox else {
            return Vec::new();
        };
        let now = Instant::now();
        if let Some(since) = &mut state.idle_since {
            let read = inbox.read(&mut Context::from_waker(&state.waker), *since);
            *since = now;
            if let Err(error) = read {
                state.give_up(error);
                return Vec::new();
            }
        }
        now.checked_sub(beat)
            .map(|then| inbox.take_older(then))
            .unwrap_or_default()
    }

    /// Gives messages back that nobody has tried.
    async fn give_back(self: &Arc<Self>, held: Vec<Held>) {
        if held.is_empty() {
            return;
        }
        tracing::debug!(
            consumer = self.consumer,
            messages = held.len(),
            "handing back messages that were not taken"
        );
        join_all(held.into_iter().map(async |held| {
            let Some(reply) = held.message.reply else { return };
            let released = match held.released {
                Some(released) => Ok(released),
                None => self.releases(held.place.sequence).await,
            };
            let Ok(released) = released else { return }; // it comes back when its deadline passes
            let until = self.until(held.since);
            let hold = Hold::new(reply, held.place.sequence, released, held.message.length, until);
            let acker = NatsAcker::new(Arc::clone(self), vec![hold]);
            let _ = acker.nack(0, Redelivery::Release).await;
        }))
        .await;
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
