//! A cache of bytes under short keys, with a time to live for each entry.

mod key;
mod port;

pub use self::{
    key::{MAX_KEY, check_key, key},
    port::{Cache, Capabilities, Condition, SetOptions},
};
