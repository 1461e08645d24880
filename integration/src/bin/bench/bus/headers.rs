//! The headers that cqi sends, for the bare clients.

use jiff::Timestamp;
use uuid::Uuid;

/// A new id, and what time it is.
pub(super) struct Stamp {
    pub(super) id: String,
    pub(super) time: String,
}

impl Stamp {
    pub(super) fn new() -> Self {
        Self {
            id: Uuid::now_v7().to_string(),
            time: Timestamp::now().to_string(),
        }
    }
}
