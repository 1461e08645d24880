//! The one error type of cqi.
//!
//! An [`Error`] carries a [`Kind`] (out of exactly five) that decides whether a call may be repeated and which
//! status a client sees, an optional finer [`Code`], and for humans an operation, key/value context and a chain of
//! causes. `Display` is one line; the causes are reached through [`std::error::Error::source`] and belong in logs,
//! never in a response body.

mod kind;
mod one_line;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc, time::Duration};

pub use self::kind::{Code, Kind};
use self::one_line::OneLine;

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Cause = Arc<dyn StdError + Send + Sync>;

/// The error of every port and helper. Cheap to clone: a shared pointer.
///
/// ```
/// use cqi_core::{Code, Error, Kind};
///
/// let error = Error::temporary("connection refused")
///     .with_code(Code::Unavailable)
///     .with_operation("cache.get")
///     .with_context("server", "localhost:6379");
/// assert_eq!(error.kind(), Kind::Temporary);
/// assert_eq!(error.to_string(), "cache.get: connection refused (server=localhost:6379)");
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: Kind,
    code: Option<Code>,
    message: Cow<'static, str>,
    operation: Option<Cow<'static, str>>,
    context: Vec<(&'static str, String)>,
    may_have_applied: bool,
    retry_after: Option<Duration>,
    source: Option<Cause>,
}

impl Error {
    /// An error of `kind` with a one-line message.
    pub fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner {
            kind,
            code: None,
            message: message.into(),
            operation: None,
            context: Vec::new(),
            may_have_applied: false,
            retry_after: None,
            source: None,
        }))
    }

    /// A failure that repeating does not mend.
    pub fn permanent(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Permanent, message)
    }

    /// A failure that may pass.
    pub fn temporary(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Temporary, message)
    }

    /// `resource` `id` is not there.
    pub fn not_found(resource: impl fmt::Display, id: impl fmt::Display) -> Self {
        Self::new(Kind::NotFound, format!("{resource} {id} not found"))
    }

    /// The caller's input breaks a rule; say what, where and why.
    pub fn invalid_input(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::InvalidInput, message)
    }

    /// The caller is unknown or may not do this.
    pub fn unauthorized(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Unauthorized, message)
    }

    /// A deadline of `limit` passed before the call ended. Whether the call took effect is unknown.
    pub fn timeout(limit: Duration) -> Self {
        Self::temporary(format!("no answer within {limit:?}"))
            .with_code(Code::Timeout)
            .maybe_applied()
    }

    /// The handle named `what` was closed before the call.
    pub fn closed(what: impl fmt::Display) -> Self {
        Self::permanent(format!("{what} is closed")).with_code(Code::Closed)
    }

    /// The backend lacks a capability; nothing was changed.
    pub fn unsupported(what: impl fmt::Display) -> Self {
        Self::permanent(format!("{what} is not supported by this backend")).with_code(Code::Unsupported)
    }

    /// A caught panic. The panic's own text stays out: it may hold secrets.
    pub fn panicked(what: impl fmt::Display) -> Self {
        Self::permanent(format!("{what} panicked")).with_code(Code::Panicked)
    }

    /// Makes a typed error of any other one, which stays reachable as the cause (ERR-5).
    pub fn from_source(
        kind: Kind,
        message: impl Into<Cow<'static, str>>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self::new(kind, message).with_source(source)
    }

    /// Puts a context message around this error. Kind, code and flags stay; this error becomes the cause (ERR-3).
    pub fn wrap(self, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner {
            kind: self.0.kind,
            code: self.0.code,
            message: message.into(),
            operation: None,
            context: Vec::new(),
            may_have_applied: self.0.may_have_applied,
            retry_after: self.0.retry_after,
            source: Some(Arc::new(self)),
        }))
    }

    /// Sets the finer reason.
    pub fn with_code(self, code: Code) -> Self {
        self.edit(|inner| inner.code = Some(code))
    }

    /// Names the operation that failed, for example `database.execute`.
    pub fn with_operation(self, operation: impl Into<Cow<'static, str>>) -> Self {
        self.edit(|inner| inner.operation = Some(operation.into()))
    }

    /// Adds a key and a value for humans. Values must not be secrets or parameters of a statement.
    pub fn with_context(self, key: &'static str, value: impl fmt::Display) -> Self {
        self.edit(|inner| inner.context.push((key, value.to_string())))
    }

    /// Sets the cause.
    pub fn with_source(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let source: Cause = Arc::from(source.into());
        self.edit(|inner| inner.source = Some(source))
    }

    /// Says that the call may have taken effect although it failed, for example when the answer was cut off.
    pub fn maybe_applied(self) -> Self {
        self.edit(|inner| inner.may_have_applied = true)
    }

    /// Says when the other side wants to be asked again.
    pub fn with_retry_after(self, delay: Duration) -> Self {
        self.edit(|inner| inner.retry_after = Some(delay))
    }

    fn edit(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// The kind, which decides about retry and status.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The finer reason, if one is known.
    pub fn code(&self) -> Option<Code> {
        self.0.code
    }

    /// The message without operation and context: what a client may read.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The operation that failed, if named.
    pub fn operation(&self) -> Option<&str> {
        self.0.operation.as_deref()
    }

    /// Keys and values for humans, in the order they were added.
    pub fn context(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.context.iter().map(|(key, value)| (*key, value.as_str()))
    }

    /// Whether the call may have taken effect. `false` means it certainly did not.
    pub fn may_have_applied(&self) -> bool {
        self.0.may_have_applied
    }

    /// How long the other side asks to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The HTTP status: the code's where it has one, else the kind's.
    pub fn http_status(&self) -> u16 {
        self.0
            .code
            .and_then(Code::http_status)
            .unwrap_or_else(|| self.0.kind.http_status())
    }

    /// The gRPC status number: the code's where it has one, else the kind's.
    pub fn grpc_code(&self) -> i32 {
        self.0
            .code
            .and_then(Code::grpc_code)
            .unwrap_or_else(|| self.0.kind.grpc_code())
    }

    /// The stable name for clients: the code's where there is one, else the kind's.
    pub fn wire_code(&self) -> &'static str {
        self.0.code.map_or_else(|| self.0.kind.name(), Code::name)
    }

    /// Whether the kind is [`Kind::Permanent`].
    pub fn is_permanent(&self) -> bool {
        self.0.kind == Kind::Permanent
    }

    /// Whether the kind is [`Kind::Temporary`].
    pub fn is_temporary(&self) -> bool {
        self.0.kind == Kind::Temporary
    }

    /// Whether the kind is [`Kind::NotFound`].
    pub fn is_not_found(&self) -> bool {
        self.0.kind == Kind::NotFound
    }

    /// Whether the kind is [`Kind::InvalidInput`].
    pub fn is_invalid_input(&self) -> bool {
        self.0.kind == Kind::InvalidInput
    }

    /// Whether the kind is [`Kind::Unauthorized`].
    pub fn is_unauthorized(&self) -> bool {
        self.0.kind == Kind::Unauthorized
    }

    /// The error and its causes on one line, for logs: `a: b: c`.
    pub fn chain(&self) -> Chain<'_> {
        Chain(self)
    }
}

/// The first cqi [`Error`] in `error` or its causes, however often it was wrapped (ERR-4).
pub fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
    let mut next = Some(error);
    while let Some(current) = next {
        if let Some(found) = current.downcast_ref::<Error>() {
            return Some(found);
        }
        // An io::Error passes over what it was made of when asked for its source.
        let inside = current
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        next = match inside {
            Some(inside) => Some(inside),
            None => current.source(),
        };
    }
    None
}

/// The kind of the first cqi [`Error`] in the chain; what was never classified counts as permanent (OP-11).
pub fn kind_of(error: &(dyn StdError + 'static)) -> Kind {
    find(error).map_or(Kind::Permanent, Error::kind)
}

/// See [`Error::chain`].
#[derive(Debug)]
pub struct Chain<'a>(&'a Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            // Many errors show their own cause; it is said once.
            if !said.ends_with(&text) {
                write!(f, ": {}", OneLine(&text))?;
            }
            said = text;
            next = cause.source();
        }
        Ok(())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(operation) = &self.0.operation {
            write!(f, "{operation}: ")?;
        }
        write!(f, "{}", OneLine(&self.0.message))?;
        for (i, (key, value)) in self.0.context.iter().enumerate() {
            write!(f, "{}{key}={}", if i == 0 { " (" } else { ", " }, OneLine(value))?;
        }
        if self.0.context.is_empty() {
            Ok(())
        } else {
            f.write_str(")")
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.0.kind);
        if let Some(code) = self.0.code {
            out.field("code", &code);
        }
        out.field("message", &self.to_string());
        if self.0.may_have_applied {
            out.field("may_have_applied", &true);
        }
        if let Some(delay) = self.0.retry_after {
            out.field("retry_after", &delay);
        }
        if let Some(source) = &self.0.source {
            out.field("source", source);
        }
        out.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

/// Context for results: `read().context("load portfolio")?`.
pub trait ResultExt<T> {
    /// Puts a context message around the error; kind and chain stay (ERR-3).
    fn context(self, message: impl Into<Cow<'static, str>>) -> Result<T>;
}

impl<T> ResultExt<T> for Result<T> {
    fn context(self, message: impl Into<Cow<'static, str>>) -> Result<T> {
        self.map_err(|error| error.wrap(message))
    }
}
