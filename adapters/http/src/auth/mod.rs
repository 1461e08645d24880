//! Who is calling, before any handler runs.

mod caller;
mod future;
mod layer;
mod options;

pub(crate) use self::layer::PeerIdentity;
pub use self::{caller::Caller, layer::AuthLayer, options::AuthOptions};
