//! What a request may cost, decided before it costs anything.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use axum::{body::Body, response::Response};
use cqi_core::{Code, Error, Result};
use http::{Request, StatusCode, header};

use super::{
    body::{self, BodyWatch},
    host,
    upgrade::Upgrades,
};
use crate::{
    HttpError, HttpOptions,
    client_ip::Proxies,
    layers::Limiter,
    probes::PATHS,
    request_timeout::{REQUEST_TIMEOUT, parse_timeout},
};

#[derive(Debug)]
pub(super) struct Limits {
    request_timeout: Duration,
    body_timeout: Duration,
    max_body_bytes: usize,
    encoded_bodies: bool,
    max_in_flight: usize,
    in_flight: AtomicUsize,
    proxies: Proxies,
    rate: Option<Limiter>,
    upgrades: Upgrades,
}

/// Marks a request whose end two readers may see at different places.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ambiguous;

impl Limits {
    pub(super) fn of(options: &HttpOptions) -> Result<Self> {
        Ok(Self {
            request_timeout: options.request_timeout,
            body_timeout: options.body_timeout,
            max_body_bytes: options.max_body_bytes,
            encoded_bodies: options.encoded_bodies,
            max_in_flight: options.max_in_flight,
            in_flight: AtomicUsize::new(0),
            proxies: Proxies::of(options),
            rate: options.rate_limit.map(Limiter::new).transpose()?,
            upgrades: Upgrades::new(&options.upgrades)?,
        })
    }

    /// Counts a request, until [`Limits::leave`]; gives how many there were before.
    pub(super) fn enter(&self) -> usize {
        self.in_flight.fetch_add(1, Relaxed)
    }

    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    /// The time for an answer: the server's, or the caller's if that is shorter, and which of them it is.
    pub(super) fn timeout(&self, request: &Request<Body>) -> (Duration, bool) {
        let asked = request.headers().get(REQUEST_TIMEOUT).and_then(parse_timeout);
        match asked {
            Some(asked) if asked < self.request_timeout => (asked, true),
            _ => (self.request_timeout, false),
        }
    }

    /// Refuses what is wrong or too much from the start, and puts limits on a body that is still to come.
    pub(super) fn admit(
        &self,
        request: &mut Request<Body>,
        before: usize,
    ) -> Result<Option<BodyWatch>, HttpError> {
        // Who watches over the service has to be answered above all when it is busy.
        let probe = |request: &Request<Body>| PATHS.contains(&request.uri().path());
        if before >= self.max_in_flight && !probe(request) {
            return Err(Error::temporary("too many requests at once")
                .with_code(Code::Exhausted)
                .with_retry_after(Duration::from_secs(1))
                .into());
        }
        self.proxies.admit(request);
        if let Some(rate) = &self.rate
            && !probe(request)
        {
            rate.take(request.extensions())?;
        }
        host::check(request)?;
        self.check_headers(request)?;
        self.upgrades.check(request)?;
        body::limit(request, self.max_body_bytes, self.body_timeout)
    }

    /// The answer to what was not admitted.
    pub(super) fn refusal(&self, error: &HttpError) -> Response {
        let mut response = error.response();
        if response.status() == StatusCode::UPGRADE_REQUIRED {
            self.upgrades.name(response.headers_mut());
        }
        response
    }

    fn check_headers(&self, request: &Request<Body>) -> Result<(), HttpError> {
        if request.extensions().get::<Ambiguous>().is_some() {
            return Err(Error::invalid_input("a request must not have both length and chunks").into());
        }
        let headers = request.headers();
        let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
        if !self.encoded_bodies && codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
        {
            let error =
                Error::invalid_input("a body must not have a content encoding").with_code(Code::Unsupported);
            return Err(HttpError::from(error).with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        if let Some(expected) = headers.get(header::EXPECT)
            && !expected.as_bytes().eq_ignore_ascii_case(b"100-continue")
        {
            let error = Error::invalid_input("no such expectation can be met");
            return Err(HttpError::from(error).with_status(StatusCode::EXPECTATION_FAILED));
        }
        Ok(())
    }
}
