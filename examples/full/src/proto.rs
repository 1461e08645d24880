//! What `proto/positions.proto` says.

pub(crate) use self::generated::*;

#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::clone_on_ref_ptr
)]
mod generated {
    tonic::include_proto!("cqi.examples.positions.v1");
}

/// The file itself, for reflection.
pub(crate) const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/positions.bin"));

cqi::domain_event!(PositionChanged = "position_changed", key = portfolio_id);
