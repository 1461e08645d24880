//! Many requests at once: sent in order, their answers taken as they come.
//!
//! The client's own requests cost an address, a slot and a timer each, and wake whoever waits for them one by one. Here all
//! answers come to one mailbox, and whoever is woken by the first finds those that came with it.

use std::{collections::VecDeque, pin::pin};

use async_nats::{HeaderMap, Message, StatusCode, Subject, Subscriber};
use bytes::Bytes;
use cqi_core::{Error, Result};
use futures::StreamExt;
use tokio::time::{Instant, timeout_at};

use crate::{
    error,
    link::{LOOK, Link, Watch, lock},
};

/// How many mailboxes are kept for later, at most.
const KEPT: usize = 8;

/// Where answers come to.
#[derive(Debug)]
pub(crate) struct Mailbox {
    subscriber: Subscriber,
    address: String,
    /// The next request's number, which is never used again.
    next: u64,
}

/// A request that was sent.
struct Sent {
    index: usize,
    subject: Subject,
    watch: Watch,
    is_done: bool,
}

/// Requests under way. Each one ends as [`Link::ask`] would end it.
///
/// When this is dropped, the answers that are still to come are dropped too.
pub(crate) struct Requests<'a> {
    link: &'a Link,
    mailbox: Option<Mailbox>,
    /// In order, those that are done among them; the first one has the mailbox's number `first`.
    sent: VecDeque<Sent>,
    first: u64,
    open: usize,
    /// When to look which of them wait in vain.
    look: Instant,
    /// Whether all that were sent had an answer.
    is_well: bool,
}

impl<'a> Requests<'a> {
    pub(crate) fn new(link: &'a Link) -> Self {
        Self {
            link,
            mailbox: None,
            sent: VecDeque::new(),
            first: 0,
            open: 0,
            look: Instant::now() + LOOK,
            is_well: true,
        }
    }

    /// How many wait for their answer.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// Sends a request, behind all that were sent before. Its answer comes with `index`.
    ///
    /// # Errors
    /// As [`Link::ask`]; there is then no answer to come.
    pub(crate) async fn send(
        &mut self,
        index: usize,
        watch: Watch,
        subject: Subject,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<()> {
        let link = self.link;
        let mailbox = match &mut self.mailbox {
            Some(mailbox) => mailbox,
            none => {
                let mailbox = none.insert(open(link, &watch).await?);
                self.first = mailbox.next;
                mailbox
            }
        };
        let reply = Subject::from(format!("{}.{}", mailbox.address, mailbox.next));
        let sending = link
            .client()
            .publish_with_reply_and_headers(subject.clone(), reply, headers, payload);
        let sent = link.attend(&watch, &subject, pin!(sending)).await?;
        sent.map_err(|error| link.at(error::publish(&error)))?;
        mailbox.next += 1;
        self.open += 1;
        self.sent.push_back(Sent {
            index,
            subject,
            watch,
            is_done: false,
        });
        Ok(())
    }

    /// Waits for the next answer; gives it with its request's index. `None`: there is none to come.
    pub(crate) async fn answer(&mut self) -> Option<(usize, Result<Option<Message>>)> {
        loop {
            while self.sent.pop_front_if(|sent| sent.is_done).is_some() {
                self.first += 1;
            }
            let look = self.look.min(self.sent.front()?.watch.end);
            let next = self.mailbox.as_mut()?.subscriber.next();
            match timeout_at(look, next).await {
                Ok(Some(message)) => {
                    if let Some(index) = self.done(&message) {
                        let somebody = message.status != Some(StatusCode::NO_RESPONDERS);
                        return Some((index, Ok(somebody.then_some(message))));
                    }
                }
                Ok(None) => return self.fail(|_, _| Some(Error::closed("event bus"))),
                Err(_) => {
                    let vain = self.fail(|link, sent| link.vain(&sent.watch, &sent.subject));
                    if vain.is_some() {
                        return vain;
                    }
                    self.look = Instant::now() + LOOK;
                }
            }
        }
    }

    /// Whose answer this is. One that was given up, or has had its answer, gets none.
    fn done(&mut self, message: &Message) -> Option<usize> {
        let mailbox = self.mailbox.as_ref()?;
        let number: u64 = message.subject.get(mailbox.address.len() + 1..)?.parse().ok()?;
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let sent = self.sent.get_mut(at).filter(|sent| !sent.is_done)?;
        sent.is_done = true;
        self.open -= 1;
        Some(sent.index)
    }

    /// Ends the first request for which there is a reason.
    fn fail<T>(&mut self, why: impl Fn(&Link, &Sent) -> Option<Error>) -> Option<(usize, Result<T>)> {
        let open = self.sent.iter_mut().filter(|sent| !sent.is_done);
        let (sent, error) = open
            .into_iter()
            .find_map(|sent| why(self.link, sent).map(|error| (sent, error)))?;
        sent.is_done = true;
        self.open -= 1;
        self.is_well = false;
        Some((sent.index, Err(error)))
    }

    /// All are answered: the mailbox may serve others.
    pub(crate) fn finish(self) {
        let mut kept = lock(&self.link.mailboxes);
        if let Some(mailbox) = self.mailbox
            && self.is_well
            && self.open == 0
            && kept.len() < KEPT
        {
            kept.push(mailbox);
        }
    }
}

/// A mailbox that was kept, or a new one.
async fn open(link: &Link, watch: &Watch) -> Result<Mailbox> {
    let kept = lock(&link.mailboxes).pop();
    if let Some(mailbox) = kept {
        return Ok(mailbox);
    }
    let address = link.client().new_inbox();
    let all = format!("{address}.*");
    let subscribed = link
        .attend(watch, &all, pin!(link.client().subscribe(all.clone())))
        .await?;
    Ok(Mailbox {
        subscriber: subscribed.map_err(|_| Error::closed("event bus"))?,
        address,
        next: 0,
    })
}
