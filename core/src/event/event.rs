//! The event itself: an immutable, cheaply shared message.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;

use super::{EventId, Headers, Payload, header};
use crate::{Error, Result, name::Topic, secret::Secret};

/// The media type of a payload of which nothing is known.
pub(super) const DEFAULT_CONTENT_TYPE: &str = "application/octet-stream";
/// The longest key, in bytes.
const MAX_KEY: usize = 512;

/// An event. Immutable and cheap to clone: a shared pointer; the payload is never copied.
///
/// ```
/// use cqi_core::{event::Event, name::topic_name};
///
/// # fn main() -> cqi_core::Result<()> {
/// let event = Event::builder(topic_name("asset_created")?).key("BTC").payload("{}").build()?;
/// assert_eq!(event.key(), Some("BTC"));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Event(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    topic: Topic,
    parts: Parts,
}

/// What an event is made of, beside its topic.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) id: EventId,
    pub(super) key: Option<Arc<str>>,
    pub(super) time: Timestamp,
    pub(super) source: Option<Arc<str>>,
    /// None: [`DEFAULT_CONTENT_TYPE`], so that a plain event has no text of its own.
    pub(super) content_type: Option<Arc<str>>,
    pub(super) headers: Headers,
    pub(super) payload: Bytes,
}

impl Event {
    /// Starts an event for `topic`, with a new id and the current time.
    pub fn builder(topic: Topic) -> EventBuilder {
        EventBuilder {
            id: None,
            topic,
            key: None,
            time: None,
            source: None,
            content_type: None,
            headers: Ok(Headers::new()),
            payload: Bytes::new(),
        }
    }

    /// An event that came from a broker, where nothing may fail. A key that breaks the grammar is left out. It takes the
    /// memory of `spent`, if nobody else has that event.
    pub(super) fn received(topic: &Topic, mut parts: Parts, spent: Option<Self>) -> Self {
        parts.key = parts.key.filter(|key| is_key(key));
        if let Some(mut spent) = spent
            && let Some(inner) = Arc::get_mut(&mut spent.0)
            && inner.topic == *topic
        {
            inner.parts = parts;
            return spent;
        }
        Self(Arc::new(Inner {
            topic: topic.clone(),
            parts,
        }))
    }

    /// The identity.
    pub fn id(&self) -> &EventId {
        &self.0.parts.id
    }

    /// Where it is published.
    pub fn topic(&self) -> &Topic {
        &self.0.topic
    }

    /// What orders it: events of one topic and key are handled in the order they were published.
    pub fn key(&self) -> Option<&str> {
        self.0.parts.key.as_deref()
    }

    /// The key, shared.
    pub(crate) fn shared_key(&self) -> Option<&Arc<str>> {
        self.0.parts.key.as_ref()
    }

    /// When it happened.
    pub fn time(&self) -> Timestamp {
        self.0.parts.time
    }

    /// Which service it comes from, if known.
    pub fn source(&self) -> Option<&str> {
        self.0.parts.source.as_deref()
    }

    /// The media type of the payload, for example `application/protobuf`.
    pub fn content_type(&self) -> &str {
        self.0
            .parts
            .content_type
            .as_deref()
            .unwrap_or(DEFAULT_CONTENT_TYPE)
    }

    /// Headers of the user, and of the trace.
    pub fn headers(&self) -> &Headers {
        &self.0.parts.headers
    }

    /// The payload as it travels.
    pub fn payload(&self) -> &Bytes {
        &self.0.parts.payload
    }

    /// Decodes the payload.
    ///
    /// # Errors
    /// `InvalidInput` with code `Undecodable`.
    pub fn decode<T: Payload>(&self) -> Result<T> {
        T::decode(&self.0.parts.payload)
    }

    /// This event with one header more, or with the header replaced.
    ///
    /// # Errors
    /// As [`Headers::insert`].
    pub fn with_header(mut self, name: &str, value: &str) -> Result<Self> {
        Arc::make_mut(&mut self.0).parts.headers.insert(name, value)?;
        Ok(self)
    }

    /// This event with a header of cqi's own protocol; see [`Headers::insert_protocol`].
    ///
    /// # Errors
    /// As [`Headers::insert`].
    pub fn with_protocol_header(mut self, name: &str, value: &str) -> Result<Self> {
        Arc::make_mut(&mut self.0)
            .parts
            .headers
            .insert_protocol(name, value)?;
        Ok(self)
    }

    /// This event without a header; the name's case does not matter.
    pub fn without_header(mut self, name: &str) -> Self {
        if self.headers().get(name).is_some() {
            Arc::make_mut(&mut self.0).parts.headers.remove(name);
        }
        self
    }

    /// This event with a credential, as `authorization: Bearer …`, for consumers with the layer
    /// [`Authenticate`](super::middleware::Authenticate) (AUTH-11).
    ///
    /// Nothing is attached unless it is asked for here: the broker stores the credential with the event, for everybody who
    /// may read the topic, for as long as it keeps the event. A token must still be valid when the event is handled, late
    /// repetitions included.
    ///
    /// # Errors
    /// `InvalidInput`, which does not show it, unless it is 1 to 4089 visible ASCII characters.
    pub fn with_credential(self, credential: &Secret) -> Result<Self> {
        let credential = credential.expose();
        if credential.is_empty() || !credential.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::invalid_input(
                "a credential must be visible ASCII characters",
            ));
        }
        self.with_header(header::AUTHORIZATION, &format!("Bearer {credential}"))
    }

    /// This event with the service it comes from.
    pub fn with_source(mut self, source: impl Into<Arc<str>>) -> Self {
        Arc::make_mut(&mut self.0).parts.source = Some(source.into());
        self
    }

    /// This event on another topic; id, payload and the rest stay.
    pub fn with_topic(mut self, topic: Topic) -> Self {
        Arc::make_mut(&mut self.0).topic = topic;
        self
    }

    /// Bytes this event holds, roughly: payload, headers and its own structure.
    pub fn size(&self) -> usize {
        size_of::<Inner>() + self.0.parts.payload.len() + self.0.parts.headers.size()
    }
}

impl fmt::Debug for Event {
    /// Shows everything but the payload and the headers' values, which may be confidential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("id", &self.0.parts.id)
            .field("topic", &self.0.topic)
            .field("key", &self.0.parts.key)
            .field("time", &self.0.parts.time)
            .field("content_type", &self.content_type())
            .field("headers", &self.0.parts.headers)
            .field("payload_bytes", &self.0.parts.payload.len())
            .finish()
    }
}

/// Builds an [`Event`]; see [`Event::builder`].
#[derive(Debug)]
#[must_use]
pub struct EventBuilder {
    id: Option<EventId>,
    topic: Topic,
    key: Option<Arc<str>>,
    time: Option<Timestamp>,
    source: Option<Arc<str>>,
    content_type: Option<Arc<str>>,
    headers: Result<Headers>,
    payload: Bytes,
}

impl EventBuilder {
    /// Sets the id; the default is a new one.
    pub fn id(mut self, id: EventId) -> Self {
        self.id = Some(id);
        self
    }

    /// Sets the key, which orders events.
    pub fn key(mut self, key: impl Into<Arc<str>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets when it happened; the default is now.
    pub fn time(mut self, time: Timestamp) -> Self {
        self.time = Some(time);
        self
    }

    /// Sets which service it comes from.
    pub fn source(mut self, source: impl Into<Arc<str>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Sets the media type of the payload; the default is `application/octet-stream`.
    pub fn content_type(mut self, content_type: impl Into<Arc<str>>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }

    /// Adds or replaces a header. A bad name or value fails [`EventBuilder::build`].
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers = self
            .headers
            .and_then(|mut headers| headers.insert(name, value).map(|()| headers));
        self
    }

    /// Sets the payload as it is to travel.
    pub fn payload(mut self, payload: impl Into<Bytes>) -> Self {
        self.payload = payload.into();
        self
    }

    /// Checks and finishes the event.
    ///
    /// # Errors
    /// `InvalidInput` for a bad header, or a key that is empty, over 512 bytes or has control characters.
    pub fn build(self) -> Result<Event> {
        if let Some(key) = &self.key
            && !is_key(key)
        {
            return Err(
                Error::invalid_input("event key must be 1 to 512 bytes without control characters")
                    .with_context("topic", &self.topic),
            );
        }
        let now = Timestamp::now();
        let parts = Parts {
            id: self.id.unwrap_or_else(|| EventId::at(now)),
            key: self.key,
            time: self.time.unwrap_or(now),
            source: self.source,
            content_type: self.content_type,
            headers: self.headers?,
            payload: self.payload,
        };
        let topic = self.topic;
        Ok(Event(Arc::new(Inner { topic, parts })))
    }
}

fn is_key(key: &str) -> bool {
    !key.is_empty() && key.len() <= MAX_KEY && !key.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::topic_name;

    fn builder() -> EventBuilder {
        Event::builder(topic_name("asset_created").unwrap())
    }

    #[test]
    fn an_event_shares_its_payload() {
        let event = builder().payload(vec![7; 1000]).build().unwrap();
        let changed = event.clone().with_header("a", "b").unwrap();
        assert_eq!(event.payload().as_ptr(), changed.payload().as_ptr());
        assert_eq!(event.id(), changed.id());
        assert!(event.headers().is_empty());
    }

    #[test]
    fn a_received_event_takes_the_memory_of_a_spent_one_that_nobody_has() {
        let received = |payload: &'static str, topic: &str, spent| {
            let parts = Parts {
                id: EventId::new(),
                key: Some(payload.into()),
                time: Timestamp::UNIX_EPOCH,
                source: None,
                content_type: None,
                headers: Headers::new(),
                payload: payload.into(),
            };
            Event::received(&topic_name(topic).unwrap(), parts, spent)
        };
        let first = received("1", "asset_created", None);
        let (place, id) = (Arc::as_ptr(&first.0), first.id().clone());
        let second = received("2", "asset_created", Some(first));
        assert_eq!(Arc::as_ptr(&second.0), place);
        assert_eq!((second.key(), &second.payload()[..]), (Some("2"), &b"2"[..]));
        assert_ne!(*second.id(), id);
        // One that somebody still has stays as it is, and so does the topic of another one.
        let third = received("3", "asset_created", Some(second.clone()));
        assert_eq!((second.key(), third.key()), (Some("2"), Some("3")));
        let other = received("4", "asset_deleted", Some(third));
        assert_eq!(
            (other.topic().event_type(), other.key()),
            ("asset_deleted", Some("4"))
        );
    }

    #[test]
    fn bad_keys_and_headers_are_refused() {
        for bad in ["", "a\nb", &"k".repeat(513)] {
            assert!(builder().key(bad).build().unwrap_err().is_invalid_input());
        }
        assert!(
            builder()
                .header("a\r\nb", "x")
                .build()
                .unwrap_err()
                .is_invalid_input()
        );
    }

    #[test]
    fn auth_11_a_credential_is_attached_when_asked_for_and_never_shown() {
        let event = builder().build().unwrap();
        assert!(event.headers().is_empty());
        let with = event.clone().with_credential(&"canary".into()).unwrap();
        assert_eq!(with.headers().get("authorization"), Some("Bearer canary"));
        assert!(!format!("{with:?}").contains("canary"));
        assert!(with.without_header("Authorization").headers().is_empty());
        for bad in [
            "",
            "canary canary",
            "canary\r\n",
            "canaryé",
            &"canary".repeat(1000),
        ] {
            let error = event.clone().with_credential(&bad.into()).unwrap_err();
            assert!(
                error.is_invalid_input() && !format!("{error:?}").contains("canary"),
                "{error:?}"
            );
        }
    }

    #[test]
    fn c_11_debug_shows_no_payload() {
        let event = builder()
            .payload("canary")
            .header("token", "canary")
            .build()
            .unwrap();
        assert!(!format!("{event:?}").contains("canary"));
    }
}
