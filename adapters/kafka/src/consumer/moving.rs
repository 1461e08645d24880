//! How partitions come and go, and where a group begins.

use std::thread;

use cqi_core::{Result, event::StartAt};
use rdkafka::{consumer::Consumer as _, error::KafkaError, types::RDKafkaErrorCode as E};
use tokio::time::Instant;

use super::{
    callbacks::{Move, agree},
    committing::COMMIT_TIMEOUT,
    driver::{Driver, NAP},
    moment::Clock,
    partition::Position,
    placing,
};
use crate::client::lock;

impl Driver {
    /// Finds out whether the group exists.
    pub(super) fn survey(&mut self) -> Result<()> {
        while !self.group.try_end() {
            let topic = &self.group.topic;
            let asked = placing::partitions(&self.consumer, topic)
                .and_then(|partitions| placing::committed(&self.consumer, topic, &partitions));
            match asked {
                Ok(all) => {
                    self.unplaced = all
                        .iter()
                        .filter(|(_, at)| at.is_none())
                        .map(|(partition, _)| *partition)
                        .collect();
                    self.existed = self.unplaced.len() < all.len();
                    self.ready_if_placed();
                    return Ok(());
                }
                Err(error) => {
                    self.complain(&error)?;
                    self.serve()?; // a coordinator that refuses says so there
                    thread::park_timeout(NAP);
                }
            }
        }
        Ok(())
    }

    pub(super) fn ready_if_placed(&mut self) {
        if self.unplaced.is_empty() {
            self.existed = true;
            self.group.set_ready();
        }
    }

    /// While the group comes into being, other members place the partitions they got.
    pub(super) fn place_rest(&mut self) {
        let now = Instant::now();
        if self.unplaced.is_empty() || now < self.retry_at {
            return;
        }
        self.retry_at = now + NAP;
        if let Ok(all) = placing::committed(&self.consumer, &self.group.topic, &self.unplaced) {
            self.unplaced = all
                .into_iter()
                .filter(|(_, at)| at.is_none())
                .map(|(partition, _)| partition)
                .collect();
            self.ready_if_placed();
        }
    }

    /// Carries out what the group has decided about partitions.
    pub(super) fn shift(&mut self) {
        loop {
            let now = Instant::now();
            let change = lock(&self.callbacks().moves).front().cloned();
            let done = match &change {
                None => return,
                Some(Move::Assign(partitions)) => now >= self.retry_at && self.assign(partitions),
                Some(Move::Revoke(partitions)) => self.revoke(partitions, now),
            };
            if !done {
                return;
            }
            lock(&self.callbacks().moves).pop_front();
        }
    }

    /// Begins to fetch from partitions. Returns whether that is done.
    pub(super) fn assign(&mut self, partitions: &[i32]) -> bool {
        let change = Move::Assign(partitions.to_vec());
        if partitions.is_empty() {
            agree(&self.consumer, &change, &placing::list(&self.group.topic, &[]));
            return true;
        }
        let positions = match self.place(partitions) {
            Ok(positions) => positions,
            Err(error @ KafkaError::ConsumerCommit(E::UnknownMemberId | E::IllegalGeneration)) => {
                // The group has thrown this member out, which joins anew once it has agreed and commits nothing before. What
                // it reads meanwhile is dropped, as the ledger does not own these partitions.
                tracing::debug!(group = self.group.id, %error, "partitions are lost before they have positions");
                agree(
                    &self.consumer,
                    &change,
                    &placing::list(&self.group.topic, partitions),
                );
                return true;
            }
            Err(error) => {
                tracing::debug!(group = self.group.id, %error, "positions are not known yet");
                self.retry_at = Instant::now() + NAP;
                return false;
            }
        };
        tracing::debug!(group = self.group.id, ?positions, "partitions assigned");
        {
            let mut state = lock(&self.group.state);
            for Position {
                partition,
                offset,
                notes,
            } in &positions
            {
                state.ledger.own(*partition, *offset, notes);
            }
        }
        for partition in partitions {
            self.group.remove_queues(Some(&[*partition]));
            // Each has a queue of its own: what nobody has room for stays in the client, which then fetches no more.
            if let Some(queue) = self
                .consumer
                .split_partition_queue(self.group.topic.as_str(), *partition)
            {
                self.group.add_queue(*partition, queue);
            }
        }
        if let Ok(list) = placing::positioned(&self.group.topic, &positions, false) {
            agree(&self.consumer, &change, &list);
        }
        self.unplaced.retain(|partition| !partitions.contains(partition));
        self.ready_if_placed();
        true
    }

    /// Where `partitions` go on; those that have no position get one, which is committed before anything else happens.
    pub(super) fn place(&mut self, partitions: &[i32]) -> Result<Vec<Position>, KafkaError> {
        let topic = self.group.topic.clone();
        let start_at = if self.existed {
            StartAt::Oldest
        } else {
            self.group.start_at
        };
        let (mut positions, mut firsts) = (Vec::new(), Vec::new());
        for (partition, position) in placing::committed(&self.consumer, &topic, partitions)? {
            match position {
                Some(position) => positions.push(position),
                None => firsts.push(placing::first(&self.consumer, &topic, partition, start_at)?),
            }
        }
        if !firsts.is_empty() {
            self.commit_now(&firsts, COMMIT_TIMEOUT)?;
            positions.append(&mut firsts);
        }
        Ok(positions)
    }

    /// Lets go of partitions: what is out may still be settled for a while, then all is committed. Returns whether that
    /// is done.
    pub(super) fn revoke(&mut self, partitions: &[i32], now: Instant) -> bool {
        self.group.remove_queues(Some(partitions));
        let lost = self.consumer.assignment_lost();
        if !lost {
            let since = *self.moving.get_or_insert(now);
            let mut state = lock(&self.group.state);
            partitions
                .iter()
                .for_each(|partition| state.ledger.stop(*partition));
            let patient = now < since + self.group.options.handover_timeout && !state.closed;
            state.draining = patient && state.ledger.is_out(Some(partitions), now);
            if state.draining {
                return false;
            }
            let positions = state.ledger.positions(Some(partitions), Clock::now());
            // What is settled from now on would not be in the commit, and must not be said to be settled.
            partitions
                .iter()
                .for_each(|partition| state.ledger.forget(*partition));
            drop(state);
            if let Err(error) = self.commit_now(&positions, COMMIT_TIMEOUT) {
                tracing::warn!(group = self.group.id, %error, "partitions go on without the last commit: events come again");
            }
        }
        self.moving = None;
        let mut state = lock(&self.group.state);
        partitions
            .iter()
            .for_each(|partition| state.ledger.forget(*partition));
        drop(state);
        let list = placing::list(&self.group.topic, partitions);
        agree(&self.consumer, &Move::Revoke(partitions.to_vec()), &list);
        true
    }
}
