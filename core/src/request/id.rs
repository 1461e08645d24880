//! The id under which a request is found again in logs.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use uuid::Uuid;

/// The longest id that is taken over from a client.
const LONGEST: usize = 128;

/// The longest id that needs no allocation: a UUID with hyphens has 36.
const SHORT: usize = 38;

/// The id of a request: 1 to 128 of `A-Z a-z 0-9 . _ -`. It comes from the client, or is made up: unique, but no secret.
/// Servers put it among the extensions of every request and give it back with the answer.
///
/// Cheap to clone; up to 38 characters are held without an allocation.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestId(Text);

#[derive(Clone, PartialEq, Eq)]
enum Text {
    Short { length: u8, bytes: [u8; SHORT] },
    Long(Arc<str>),
}

impl RequestId {
    /// Takes over an id. `None` when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let sane = (1..=LONGEST).contains(&text.len()) && text.bytes().all(allowed);
        sane.then(|| Self::of(text))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            // Made of text.
            Text::Short { length, bytes } => {
                std::str::from_utf8(&bytes[..usize::from(*length)]).unwrap_or_default()
            }
            Text::Long(text) => text,
        }
    }

    fn of(text: &str) -> Self {
        let mut bytes = [0; SHORT];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(text.as_bytes());
                Self(Text::Short { length, bytes })
            }
            _ => Self(Text::Long(text.into())),
        }
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RequestId").field(&self.as_str()).finish()
    }
}

/// Makes up ids for a server: 64 random bits and a counter, which spares a call of the system's random source per request.
#[derive(Debug)]
pub struct RequestIds {
    process: u64,
    next: AtomicU64,
}

impl RequestIds {
    /// Ids that no other has, here or in another process.
    pub fn new() -> Self {
        Self {
            process: Uuid::new_v4().as_u64_pair().0,
            next: AtomicU64::new(1),
        }
    }

    /// The next id: 32 hexadecimal digits.
    pub fn make(&self) -> RequestId {
        let number = Uuid::from_u64_pair(self.process, self.next.fetch_add(1, Relaxed));
        RequestId::of(number.simple().encode_lower(&mut [0; 32]))
    }
}

impl Default for RequestIds {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sane_id_is_taken_over_and_no_other() {
        for length in [1, SHORT, SHORT + 1, LONGEST] {
            let text = "x".repeat(length);
            let id = RequestId::parse(&text).unwrap();
            assert_eq!((id.as_str(), &id.clone()), (&*text, &id));
        }
        let id = RequestId::parse("Abc.1_2-3").unwrap();
        assert_eq!(format!("{id:?}"), "RequestId(\"Abc.1_2-3\")");
        for bad in ["", "a b", "a\"b", "a/b", "é", &"x".repeat(LONGEST + 1)] {
            assert_eq!(RequestId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn made_up_ids_differ() {
        let ids = RequestIds::new();
        let (one, two) = (ids.make(), ids.make());
        assert_ne!(one, two);
        assert_eq!(one.as_str().len(), 32);
        assert_eq!(one.as_str()[..16], two.as_str()[..16]);
        assert!(two.as_str().ends_with("0000000000000002"), "{two:?}");
        assert_ne!(RequestIds::new().make(), one);
        assert_eq!(RequestId::parse(one.as_str()), Some(one));
    }
}
