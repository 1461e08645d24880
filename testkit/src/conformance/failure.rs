//! Why a case failed.

use std::{fmt, panic::Location};

use cqi_core::{Code, Error, Kind};

/// What a case ends with. A case that does not apply to an adapter ends with a [`Failure`] that says so
/// ([`Failure::is_not_applicable`]) and counts as neither passed nor failed.
pub type Outcome = Result<(), Failure>;

/// Why a case failed, and where.
pub struct Failure {
    message: String,
    place: &'static Location<'static>,
    not_applicable: bool,
}

impl Failure {
    /// A failure at the place of the call.
    #[track_caller]
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            place: Location::caller(),
            not_applicable: false,
        }
    }

    /// The case does not apply to this adapter, for this reason.
    #[track_caller]
    pub fn not_applicable(reason: impl Into<String>) -> Self {
        Self {
            not_applicable: true,
            ..Self::new(reason)
        }
    }

    /// Whether the case just does not apply.
    pub fn is_not_applicable(&self) -> bool {
        self.not_applicable
    }

    /// What was wrong.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (at {}:{})",
            self.message,
            self.place.file(),
            self.place.line()
        )
    }
}

impl fmt::Debug for Failure {
    /// As `Display`, because this is what a failed test prints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Failure {}

impl From<Error> for Failure {
    #[track_caller]
    fn from(error: Error) -> Self {
        Self::new(format!(
            "unexpected error {:?}/{:?}: {}",
            error.kind(),
            error.code(),
            error.chain()
        ))
    }
}

impl From<tokio::task::JoinError> for Failure {
    #[track_caller]
    fn from(error: tokio::task::JoinError) -> Self {
        Self::new(format!("a task of the case ended early: {error}"))
    }
}

/// Fails the case with a message unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::conformance::Failure::new(format!($($message)+)));
        }
    };
}

/// Fails the case unless two values are equal.
macro_rules! ensure_eq {
    ($left:expr, $right:expr, $($message:tt)+) => {
        match (&$left, &$right) {
            (left, right) => {
                if left != right {
                    return Err($crate::conformance::Failure::new(format!(
                        "{}: got {left:?}, expected {right:?}", format_args!($($message)+)
                    )));
                }
            }
        }
    };
}

pub(crate) use {ensure, ensure_eq};

/// What stands in every input that an error must not repeat.
pub(crate) const CANARY: &str = "canary";

/// Checks that a call was refused in the promised way: kind, code, nothing applied, one line, no secret.
#[track_caller]
pub(crate) fn refused<T: fmt::Debug>(
    what: &str,
    result: Result<T, Error>,
    kind: Kind,
    code: Option<Code>,
) -> Outcome {
    let error = match result {
        Err(error) => error,
        Ok(value) => {
            return Err(Failure::new(format!(
                "{what}: got Ok({value:?}), expected {kind:?}/{code:?}"
            )));
        }
    };
    let seen = (error.kind(), error.code());
    if seen.0 != kind || (code.is_some() && seen.1 != code) {
        return Err(Failure::new(format!(
            "{what}: got {seen:?} ({error}), expected {kind:?}/{code:?}"
        )));
    }
    if error.may_have_applied() {
        return Err(Failure::new(format!(
            "{what}: refused, yet the error says it may have applied: {error}"
        )));
    }
    keeps_secrets(what, &error)
}

/// Checks that an error is one line and repeats no secret, in any of its forms.
#[track_caller]
pub(crate) fn keeps_secrets(what: &str, error: &Error) -> Outcome {
    let shown = error.to_string();
    let everything = format!("{shown}{error:?}{}", error.chain());
    if everything.contains(CANARY) {
        return Err(Failure::new(format!("{what}: the error repeats a secret")));
    }
    if shown.is_empty() || shown.contains('\n') {
        return Err(Failure::new(format!(
            "{what}: the error is not one line: {shown:?}"
        )));
    }
    Ok(())
}
