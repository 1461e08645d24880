//! From typed messages to bytes and back.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Code, Error, Result};

/// A message that can travel. Every `prost` message is one; [`Json`] makes one of any serde type.
pub trait Payload: Sized + Send + Sync + 'static {
    /// The media type of the encoded form.
    const CONTENT_TYPE: &'static str;

    /// Encodes into the form that travels.
    ///
    /// # Errors
    /// `InvalidInput` when the value has no encoded form.
    fn encode(&self) -> Result<Bytes>;

    /// Decodes what [`Payload::encode`] made.
    ///
    /// # Errors
    /// `InvalidInput` with code `Undecodable`; the message names the position, never the content.
    fn decode(bytes: &Bytes) -> Result<Self>;
}

impl<M: prost::Message + Default + 'static> Payload for M {
    const CONTENT_TYPE: &'static str = "application/protobuf";

    fn encode(&self) -> Result<Bytes> {
        Ok(self.encode_to_vec().into())
    }

    fn decode(bytes: &Bytes) -> Result<Self> {
        <M as prost::Message>::decode(bytes.clone())
            .map_err(|error| undecodable("protobuf").with_source(error))
    }
}

/// A serde value that travels as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct Json<T>(pub T);

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Payload for Json<T> {
    const CONTENT_TYPE: &'static str = "application/json";

    fn encode(&self) -> Result<Bytes> {
        serde_json::to_vec(&self.0)
            .map(Bytes::from)
            .map_err(|error| Error::invalid_input("value has no JSON form").with_source(error))
    }

    fn decode(bytes: &Bytes) -> Result<Self> {
        serde_json::from_slice(bytes).map(Self).map_err(|error| {
            // serde_json's own text may quote the input; its position does not.
            undecodable("JSON")
                .with_context("line", error.line())
                .with_context("column", error.column())
        })
    }
}

fn undecodable(form: &str) -> Error {
    Error::invalid_input(format!("payload is not the expected {form}")).with_code(Code::Undecodable)
}

/// A payload that knows its event type, and so its topic.
pub trait DomainEvent: Payload {
    /// The event type, for example `position_changed`; the topic is `cqc.events.v1.position_changed`.
    const TYPE: &'static str;

    /// What orders this event; `None` for no order.
    fn key(&self) -> Option<String>;
}

/// Implements [`DomainEvent`](crate::event::DomainEvent) for a payload: its event type, and the text field that is its
/// key, if it has one.
///
/// ```
/// #[derive(Clone, PartialEq, prost::Message)]
/// struct OrderPlaced {
///     #[prost(string, tag = "1")]
///     id: String,
/// }
///
/// cqi_core::domain_event!(OrderPlaced = "order_placed", key = id);
/// # use cqi_core::event::DomainEvent;
/// assert_eq!(OrderPlaced { id: "7".into() }.key().as_deref(), Some("7"));
/// ```
#[macro_export]
macro_rules! domain_event {
    ($payload:ty = $event_type:literal) => {
        impl $crate::event::DomainEvent for $payload {
            const TYPE: &'static str = $event_type;

            fn key(&self) -> Option<String> {
                None
            }
        }
    };
    ($payload:ty = $event_type:literal, key = $field:ident) => {
        impl $crate::event::DomainEvent for $payload {
            const TYPE: &'static str = $event_type;

            fn key(&self) -> Option<String> {
                Some(self.$field.to_string())
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, PartialEq, prost::Message)]
    struct Asset {
        #[prost(string, tag = "1")]
        symbol: String,
    }

    #[test]
    fn bus_2_3_protobuf_and_json_round_trip() {
        let asset = Asset { symbol: "BTC".into() };
        let bytes = Payload::encode(&asset).unwrap();
        assert_eq!(<Asset as Payload>::decode(&bytes).unwrap(), asset);
        let json = Json(vec![1, 2]);
        assert_eq!(Json::<Vec<i32>>::decode(&json.encode().unwrap()).unwrap(), json);
    }

    /// B-12, G-03: depth ends at the decoders' limits, long before the stack.
    #[test]
    fn b_12_what_is_nested_without_end_is_undecodable() {
        let deep = Bytes::from(vec![b'['; 1 << 20]);
        let error = Json::<serde_json::Value>::decode(&deep).unwrap_err();
        assert_eq!(error.code(), Some(Code::Undecodable));
        // Field 2, which no asset has, as a group in a group in a group.
        let deep = Bytes::from(vec![2 << 3 | 3; 1 << 20]);
        let error = <Asset as Payload>::decode(&deep).unwrap_err();
        assert_eq!(error.code(), Some(Code::Undecodable));
    }

    /// ML-MSG-4: the content type says which codec it was.
    #[test]
    fn undecodable_bytes_are_named_without_content() {
        let error = <Asset as Payload>::decode(&Bytes::from_static(b"\xff\xff")).unwrap_err();
        assert_eq!(error.code(), Some(Code::Undecodable));
        let error = Json::<u32>::decode(&Bytes::from_static(b"\"canary\"")).unwrap_err();
        assert!(!error.chain().to_string().contains("canary"));
    }
}
