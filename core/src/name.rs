//! The one grammar for names that travel: topics, consumer groups, service names.
//!
//! The grammar is the intersection of what every backend accepts, so a name that is valid here is valid on NATS
//! (no `.`, `*`, `>` or blanks inside a token), Kafka (`[a-zA-Z0-9._-]`, 249 bytes) and in a metric label.

use std::{fmt, sync::Arc};

use crate::{Error, Result};

/// What every event topic starts with (BUS-4).
pub const TOPIC_PREFIX: &str = "cqc.events.v1.";

/// The longest event type, in bytes, [`DEAD_LETTER_SUFFIX`] not counted. All of it with the prefix fits into Kafka's 249.
pub const MAX_EVENT_TYPE: usize = 200;

/// What a dead-letter topic ends with, so that it keeps the topic grammar on every backend.
pub const DEAD_LETTER_SUFFIX: &str = "_dead_letter";

/// The longest consumer group or service name, in bytes.
pub const MAX_NAME: usize = 63;

/// A valid topic: `cqc.events.v1.{event_type}` with `event_type` out of `[a-z0-9_]+` (BUS-5, OP-23).
///
/// Cheap to clone. A topic that exists has been checked; ports take nothing else.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

/// The topic of an event type: `topic_name("asset_created")` is `cqc.events.v1.asset_created` (BUS-4).
///
/// # Errors
/// `InvalidInput` when the type is empty, too long or has a character outside `[a-z0-9_]`.
pub fn topic_name(event_type: &str) -> Result<Topic> {
    check_event_type(event_type)?;
    Ok(Topic(format!("{TOPIC_PREFIX}{event_type}").into()))
}

impl Topic {
    /// Checks a full topic name.
    ///
    /// # Errors
    /// `InvalidInput` when it does not follow the grammar.
    pub fn parse(name: &str) -> Result<Self> {
        let event_type = name.strip_prefix(TOPIC_PREFIX).ok_or_else(|| {
            Error::invalid_input(format!("topic must start with {TOPIC_PREFIX}"))
                .with_context("topic", shown(name))
        })?;
        check_event_type(event_type)?;
        Ok(Self(name.into()))
    }

    /// The full name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last part, for example `asset_created`.
    pub fn event_type(&self) -> &str {
        &self.0[TOPIC_PREFIX.len()..]
    }

    /// Where events go that this topic's subscriptions cannot handle. A dead-letter topic is its own.
    pub fn dead_letter(&self) -> Self {
        if self.0.ends_with(DEAD_LETTER_SUFFIX) {
            return self.clone();
        }
        Self(format!("{}{DEAD_LETTER_SUFFIX}", self.0).into())
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Topic({})", self.0)
    }
}

/// A valid consumer group: 1 to 63 bytes out of `[a-z0-9_-]`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group(Arc<str>);

impl Group {
    /// Checks a group name.
    ///
    /// # Errors
    /// `InvalidInput` when it is empty, too long or has a character outside `[a-z0-9_-]`.
    pub fn parse(name: &str) -> Result<Self> {
        check(name, "consumer group", MAX_NAME, true)?;
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Group({})", self.0)
    }
}

/// Checks the name of a service, a component or a dependency: 1 to 63 bytes, `[a-z][a-z0-9_-]*` (ML-CORE-1).
///
/// # Errors
/// `InvalidInput` naming `what` and the rule that is broken.
pub fn check_name(name: &str, what: &str) -> Result<()> {
    check(name, what, MAX_NAME, true)?;
    if name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Ok(());
    }
    Err(
        Error::invalid_input(format!("{what} must start with a letter a to z"))
            .with_context("name", shown(name)),
    )
}

/// The dead-letter topic of every topic is a topic too, the longest included.
fn check_event_type(event_type: &str) -> Result<()> {
    let suffix = match event_type.ends_with(DEAD_LETTER_SUFFIX) {
        true => DEAD_LETTER_SUFFIX.len(),
        false => 0,
    };
    check(event_type, "event type", MAX_EVENT_TYPE + suffix, false)
}

fn check(name: &str, what: &str, longest: usize, hyphen: bool) -> Result<()> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || (hyphen && b == b'-');
    let why = if name.is_empty() {
        format!("{what} must not be empty")
    } else if name.len() > longest {
        format!("{what} has {} bytes, at most {longest} are allowed", name.len())
    } else if !name.bytes().all(allowed) {
        format!(
            "{what} may hold only a to z, 0 to 9, _{}",
            if hyphen { " and -" } else { "" }
        )
    } else {
        return Ok(());
    };
    Err(Error::invalid_input(why).with_context("name", shown(name)))
}

/// At most 64 characters of an input, for an error message.
pub(crate) fn shown(input: &str) -> String {
    match input.char_indices().nth(64) {
        Some((end, _)) => format!("{}…", &input[..end]),
        None => input.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bus_4_topic_name_puts_the_prefix_before_the_type() {
        let topic = topic_name("asset_created").unwrap();
        assert_eq!(topic.as_str(), "cqc.events.v1.asset_created");
        assert_eq!(topic.event_type(), "asset_created");
        assert_eq!(
            topic.dead_letter().as_str(),
            "cqc.events.v1.asset_created_dead_letter"
        );
        assert_eq!(topic.dead_letter().dead_letter(), topic.dead_letter());
    }

    #[test]
    fn the_dead_letter_topic_of_the_longest_topic_is_a_topic() {
        let letters = topic_name(&"x".repeat(MAX_EVENT_TYPE)).unwrap().dead_letter();
        assert_eq!(Topic::parse(letters.as_str()).unwrap(), letters);
        assert_eq!(topic_name(letters.event_type()).unwrap(), letters);
        assert!(topic_name(&format!("x{}", letters.event_type())).is_err());
    }

    /// B-05, B-16: without dots and wildcards, no two topics are alike to Kafka's metrics, and none stands for others.
    #[test]
    fn bus_5_b_01_02_03_06_names_outside_the_grammar_are_refused() {
        let long = "x".repeat(MAX_EVENT_TYPE + 1);
        for bad in [
            "",
            "A",
            "a.b",
            "a b",
            "a*",
            "*",
            ">",
            "a\r\nPUB x",
            "a\0",
            "é",
            "a-b",
            &long,
        ] {
            assert!(topic_name(bad).unwrap_err().is_invalid_input(), "{bad:?}");
        }
        for bad in [
            "",
            "asset",
            "cqc.events.v1",
            "cqc.events.v1.",
            "$JS.API.>",
            "_INBOX.x",
            "cqc.events.v2.a",
        ] {
            assert!(Topic::parse(bad).unwrap_err().is_invalid_input(), "{bad:?}");
        }
    }

    #[test]
    fn b_14_groups_follow_the_grammar() {
        assert_eq!(Group::parse("cqpm-1").unwrap().as_str(), "cqpm-1");
        for bad in ["", "a.b", "*", "a b", &"g".repeat(MAX_NAME + 1)] {
            assert!(Group::parse(bad).unwrap_err().is_invalid_input(), "{bad:?}");
        }
    }

    #[test]
    fn refusals_show_a_bounded_part_of_the_input() {
        let error = topic_name(&"é".repeat(10_000)).unwrap_err();
        assert!(error.to_string().len() < 300, "{error}");
    }
}
