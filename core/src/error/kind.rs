//! What can be done about an error, and the finer reasons clients branch on.

/// What can be done about an error. There are exactly five kinds (ERR-1).
#[allow(clippy::exhaustive_enums)] // the promise is that there will never be a sixth
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Repeating the call gives the same failure.
    Permanent,
    /// Repeating the call later may succeed.
    Temporary,
    /// What was asked for is not there.
    NotFound,
    /// The caller must change the call.
    InvalidInput,
    /// The caller is not known, or may not do this.
    Unauthorized,
}

/// A finer reason within a [`Kind`], on which clients can branch.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The thing to be created is already there.
    AlreadyExists,
    /// A concurrent change won; the whole operation may be repeated.
    Conflict,
    /// The system is not in the state the operation needs.
    FailedPrecondition,
    /// The caller is known but lacks the right.
    PermissionDenied,
    /// The caller sends too much; see [`Error::retry_after`](super::Error::retry_after).
    RateLimited,
    /// A deadline passed.
    Timeout,
    /// The other side cannot be reached.
    Unavailable,
    /// The handle was closed before the call.
    Closed,
    /// The backend lacks this capability; nothing was changed.
    Unsupported,
    /// A payload, body or batch is over its limit.
    TooLarge,
    /// Stored or received data cannot be decoded.
    Undecodable,
    /// A bounded resource (pool, queue, memory) has no room.
    Exhausted,
    /// The operation was given up because its task is being shut down or was cancelled.
    Cancelled,
    /// Code of ours or of a handler panicked; the panic was caught.
    Panicked,
}

impl Kind {
    /// The HTTP status of this kind (ERR-6).
    pub const fn http_status(self) -> u16 {
        match self {
            Self::Permanent => 500,
            Self::Temporary => 503,
            Self::NotFound => 404,
            Self::InvalidInput => 400,
            Self::Unauthorized => 401,
        }
    }

    /// The gRPC status number of this kind (ERR-7), as in `google.rpc.Code`.
    pub const fn grpc_code(self) -> i32 {
        match self {
            Self::Permanent => 13,
            Self::Temporary => 14,
            Self::NotFound => 5,
            Self::InvalidInput => 3,
            Self::Unauthorized => 16,
        }
    }

    /// The stable name clients see, for example `NOT_FOUND` (ERR-9).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Permanent => "PERMANENT",
            Self::Temporary => "TEMPORARY",
            Self::NotFound => "NOT_FOUND",
            Self::InvalidInput => "INVALID_INPUT",
            Self::Unauthorized => "UNAUTHORIZED",
        }
    }
}

impl Code {
    /// The stable name clients see, for example `ALREADY_EXISTS`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::Conflict => "CONFLICT",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::RateLimited => "RATE_LIMITED",
            Self::Timeout => "TIMEOUT",
            Self::Unavailable => "UNAVAILABLE",
            Self::Closed => "CLOSED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooLarge => "TOO_LARGE",
            Self::Undecodable => "UNDECODABLE",
            Self::Exhausted => "EXHAUSTED",
            Self::Cancelled => "CANCELLED",
            Self::Panicked => "PANICKED",
        }
    }

    /// The HTTP status that refines the kind's, if this code has one.
    pub(super) const fn http_status(self) -> Option<u16> {
        match self {
            Self::AlreadyExists | Self::Conflict => Some(409),
            Self::FailedPrecondition => Some(412),
            Self::PermissionDenied => Some(403),
            Self::RateLimited => Some(429),
            Self::Timeout => Some(504),
            Self::TooLarge => Some(413),
            Self::Unsupported => Some(501),
            _ => None,
        }
    }

    /// The gRPC status that refines the kind's, if this code has one.
    pub(super) const fn grpc_code(self) -> Option<i32> {
        match self {
            Self::AlreadyExists => Some(6),
            Self::Conflict => Some(10),
            Self::FailedPrecondition => Some(9),
            Self::PermissionDenied => Some(7),
            Self::RateLimited | Self::Exhausted | Self::TooLarge => Some(8),
            Self::Timeout => Some(4),
            Self::Unsupported => Some(12),
            Self::Cancelled => Some(1),
            _ => None,
        }
    }
}
