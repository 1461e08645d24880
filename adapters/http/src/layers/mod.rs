//! What stands around the routes besides the [`Stack`](crate::Stack), or is part of it.

mod check;
pub(crate) mod compression;
mod cors;
mod idempotency;
mod rate;
mod security_headers;

pub use self::{
    check::{Check, limit_rate, require},
    cors::CorsOptions,
    idempotency::{Idempotency, IdempotencyOptions},
    rate::RateLimit,
    security_headers::SecurityHeaders,
};
pub(crate) use self::{cors::Cors, rate::Limiter, security_headers::Fixed};
