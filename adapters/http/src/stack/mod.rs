//! What every request needs, in one layer: one look at the request, one at the response, no allocation between that can
//! be avoided.

mod body;
mod future;
mod host;
mod limits;
mod request_id;
mod service;
mod upgrade;

use std::sync::Arc;

use cqi_core::{
    Result,
    observe::{Observer, Silent},
    request::RequestIds,
};

use self::limits::Limits;
pub(crate) use self::{
    limits::Ambiguous,
    request_id::{REQUEST_ID, header as id_header},
    upgrade::Upgrades,
};
use crate::{
    HttpOptions,
    layers::{Cors, CorsOptions, Fixed, SecurityHeaders},
};

/// A [`tower::Layer`] for [`axum::Router::layer`], which runs it after routing, so that the route is known, and also for
/// requests that no route fits. Apply it last, it is the outermost then.
///
/// [`Stack::standard`] is everything in one: request id, trace, metrics, access log, panic recovery, limits, error
/// bodies. The other constructors give one part each, for stacks in another order:
///
/// ```
/// # use std::sync::Arc;
/// # use axum::Router;
/// # use cqi_core::observe::{Observer, Silent};
/// # use cqi_http::{HttpOptions, Stack};
/// # let (observer, options): (Arc<dyn Observer>, _) = (Arc::new(Silent), HttpOptions::default());
/// // From the outside in: tracing, metrics, logging, panic recovery, router. The last added is the outermost.
/// let router: Router = Router::new()
///     .layer(Stack::recovery(Arc::clone(&observer)))
///     .layer(Stack::logging())
///     .layer(Stack::metrics(Arc::clone(&observer)))
///     // An authentication layer stands here: what it refuses is traced, but neither measured nor logged.
///     .layer(Stack::tracing(observer));
/// ```
#[derive(Debug, Clone)]
pub struct Stack(Arc<Parts>);

/// Marks a response of a probe or a scrape: such requests come every few seconds for ever, so their lines are of level
/// debug while they succeed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Routine;

/// Which parts are on, and what they need.
#[derive(Debug)]
struct Parts {
    trace: bool,
    metrics: bool,
    log: bool,
    recover: bool,
    limits: Option<Limits>,
    cors: Option<Cors>,
    headers: Option<Fixed>,
    observer: Arc<dyn Observer>,
    ids: RequestIds,
}

impl Stack {
    /// Everything. Per request:
    ///
    /// - a request id: the `x-request-id` that came in if it is sane, else a new one; a [`RequestId`](crate::RequestId) extension for
    ///   handlers; echoed in the response;
    /// - a span `request` with `method`, `path`, `route`, `request_id` and at the end `status_code`, which continues the
    ///   trace of `traceparent` and `tracestate`;
    /// - one line at level debug at the start, one at level info at the end, with status and duration (LOG-9); of a
    ///   successful probe or scrape at debug too;
    /// - [`Observation::Served`](cqi_core::observe::Observation::Served), labelled with the route's template, never the
    ///   path;
    /// - a panic becomes status 500 with a fixed body, is counted, and logged without its text (ERR-11);
    /// - more requests at once than `max_in_flight` are answered with 503, more of one client than `rate_limit` with 429;
    ///   the probes are exempt;
    /// - a `Host` that is missing, repeated or malformed is refused with 400, a body over the limit with 413, one with a
    ///   `Content-Encoding` with 415, one that does not arrive in time with 408;
    /// - a handler that takes longer than `request_timeout`, or the caller's `x-request-timeout`, is dropped and answered
    ///   with 504, so it has to be safe to be cancelled at any `await`;
    /// - what only a trusted proxy may say is removed;
    /// - CORS, preflight requests included, where `cors` is set, and the `security_headers`;
    /// - an error status without a body gets the standard one, 404 and 405 of the router included.
    ///
    /// # Errors
    /// `InvalidInput` naming an option that breaks a rule, as [`HttpOptions::validate`].
    pub fn standard(observer: Arc<dyn Observer>, options: &HttpOptions) -> Result<Self> {
        Ok(Self::of(Parts {
            trace: true,
            metrics: true,
            log: true,
            recover: true,
            limits: Some(Limits::of(options)?),
            cors: options.cors.as_ref().map(Cors::new).transpose()?,
            headers: options
                .security_headers
                .as_ref()
                .map(|headers| Fixed::new(headers, options.tls.is_some()))
                .transpose()?,
            ..Parts::none(observer)
        }))
    }

    /// Request id and span only.
    pub fn tracing(observer: Arc<dyn Observer>) -> Self {
        Self::of(Parts {
            trace: true,
            ..Parts::none(observer)
        })
    }

    /// Observations only.
    pub fn metrics(observer: Arc<dyn Observer>) -> Self {
        Self::of(Parts {
            metrics: true,
            ..Parts::none(observer)
        })
    }

    /// The access log only.
    pub fn logging() -> Self {
        Self::of(Parts {
            log: true,
            ..Parts::none(Arc::new(Silent))
        })
    }

    /// Panic recovery only.
    pub fn recovery(observer: Arc<dyn Observer>) -> Self {
        Self::of(Parts {
            recover: true,
            ..Parts::none(observer)
        })
    }

    /// Load shedding, rate limit, checks of headers, body limit, deadlines and standard error bodies only.
    ///
    /// # Errors
    /// `InvalidInput` naming an option that breaks a rule.
    pub fn limits(options: &HttpOptions) -> Result<Self> {
        Ok(Self::of(Parts {
            limits: Some(Limits::of(options)?),
            ..Parts::none(Arc::new(Silent))
        }))
    }

    /// CORS only.
    ///
    /// # Errors
    /// `InvalidInput` listing every rule that is broken (H-21).
    pub fn cors(options: &CorsOptions) -> Result<Self> {
        Ok(Self::of(Parts {
            cors: Some(Cors::new(options)?),
            ..Parts::none(Arc::new(Silent))
        }))
    }

    /// Headers for browsers only; `tls` says whether they are to insist on TLS.
    ///
    /// # Errors
    /// `InvalidInput` naming a value that is none of a header.
    pub fn security_headers(headers: &SecurityHeaders, tls: bool) -> Result<Self> {
        Ok(Self::of(Parts {
            headers: Some(Fixed::new(headers, tls)?),
            ..Parts::none(Arc::new(Silent))
        }))
    }

    fn of(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Parts {
    fn none(observer: Arc<dyn Observer>) -> Self {
        Self {
            trace: false,
            metrics: false,
            log: false,
            recover: false,
            limits: None,
            cors: None,
            headers: None,
            observer,
            ids: RequestIds::new(),
        }
    }
}
