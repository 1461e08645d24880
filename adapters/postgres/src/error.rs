//! The one place that sorts the faults of driver and server into kinds and codes.

use std::io;

use cqi_core::{Code, Error, Kind};
use sqlx::postgres::{PgDatabaseError, PgSeverity};

/// What a call was doing when it failed. It decides whether the call may have taken effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Opening a connection.
    Connect,
    /// Nothing was executed yet.
    Prepare,
    /// A statement of its own, committed by the server when it ends.
    Autocommit,
    /// Inside a transaction: lost with the connection.
    Transaction,
    /// Inside a transaction that said it would not write.
    ReadOnly,
    /// `COMMIT`.
    Commit,
}

/// What a fault means for the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It can be used on.
    Keep,
    /// Its prepared statements no longer fit the tables, as may those of others.
    Stale,
    /// It is lost or of no use, and others may be too.
    Lost,
}

/// A fault, sorted.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) error: Error,
    pub(crate) fate: Fate,
}

impl Fault {
    /// A fault of ours, of which the server knows nothing.
    pub(crate) fn ours(error: Error) -> Self {
        Self {
            error,
            fate: Fate::Keep,
        }
    }
}

/// Makes a cqi error of the driver's one. Says nothing that could hold a parameter's value.
pub(crate) fn classify(error: sqlx::Error, phase: Phase, has_parameters: bool) -> Fault {
    match error {
        sqlx::Error::Database(fault) => match fault.try_downcast::<PgDatabaseError>() {
            Ok(fault) => of_server(&fault, phase, has_parameters),
            Err(_) => lost(Error::permanent("the server failed"), phase),
        },
        sqlx::Error::Io(error) => of_io(error, phase),
        sqlx::Error::Tls(why) => lost(of_tls(&why.to_string()), phase),
        // A text of the driver's own, about messages out of turn.
        sqlx::Error::Protocol(why) if phase == Phase::Connect => {
            let error = Error::permanent("the server does not speak PostgreSQL's protocol as expected");
            lost(error.with_source(io::Error::other(why)), phase)
        }
        sqlx::Error::Protocol(_) => lost(Error::permanent("the server's answer was not understood"), phase),
        sqlx::Error::Configuration(why) => {
            let error = Error::invalid_input("the connection's options are wrong");
            lost(error.with_source(io::Error::other(why.to_string())), phase)
        }
        // Also of a type of a kind that the driver does not know, when it prepares a statement.
        sqlx::Error::ColumnDecode { .. } => Fault {
            error: Error::permanent("a type in the statement cannot be read; select it cast to text")
                .with_code(Code::Undecodable),
            fate: Fate::Keep,
        },
        // Everything else comes from parts of the driver that are not used here.
        _ => lost(Error::permanent("the driver failed"), phase),
    }
}

fn of_io(error: io::Error, phase: Phase) -> Fault {
    if phase != Phase::Connect {
        let error = Error::temporary("the connection broke").with_source(error);
        return lost(error.with_code(Code::Unavailable), phase);
    }
    // A refused certificate arrives in this form.
    if error.kind() == io::ErrorKind::InvalidData {
        return lost(of_tls(&error.to_string()), phase);
    }
    let why = "the server cannot be reached; check host and port, and that it runs";
    lost(
        Error::temporary(why)
            .with_code(Code::Unavailable)
            .with_source(error),
        phase,
    )
}

fn of_tls(why: &str) -> Error {
    let remedy = if why.contains("does not support TLS") {
        "the server offers no TLS; turn it on there, or give sslmode=disable if plain text is meant"
    } else {
        "TLS failed; check sslmode, sslrootcert and the server's certificate"
    };
    Error::permanent(remedy)
        .with_code(Code::FailedPrecondition)
        .with_source(io::Error::other(why.to_owned()))
}

fn lost(error: Error, phase: Phase) -> Fault {
    Fault {
        error: may_have_applied(error, phase),
        fate: Fate::Lost,
    }
}

fn may_have_applied(error: Error, phase: Phase) -> Error {
    match phase {
        Phase::Autocommit | Phase::Commit => error.maybe_applied(),
        _ => error,
    }
}

/// No answer within the limit; the connection is given up.
pub(crate) fn timed_out(limit: std::time::Duration, phase: Phase) -> Fault {
    let error = Error::temporary(format!("no answer within {limit:?}")).with_code(Code::Timeout);
    lost(error, phase)
}

/// The server takes no writes: a standby, or one that was told so.
pub(crate) fn read_only() -> Error {
    Error::temporary("the server takes no writes; it is a standby, or default_transaction_read_only is on")
        .with_code(Code::Unavailable)
}

/// Somebody stands between us and the server who does not hand on what a connection asks for (F-DB-11).
pub(crate) fn pooler(why: &str) -> Error {
    Error::permanent(format!(
        "{why}: a pooler such as PgBouncer stands before it; connect to the server itself, or to a pooler of sessions with \
         ignore_startup_parameters = options and the time limits set for the role"
    ))
    .with_code(Code::FailedPrecondition)
}

fn of_server(fault: &PgDatabaseError, phase: Phase, has_parameters: bool) -> Fault {
    let state = fault.code();
    // After these the server has closed the connection.
    let fatal = matches!(fault.severity(), PgSeverity::Fatal | PgSeverity::Panic);
    let stale = state == "26000" || fault.routine() == Some("RevalidateCachedQuery");
    let (mut error, fate) = if stale {
        let why = "the tables were changed under a prepared statement";
        (Error::temporary(why).with_code(Code::Conflict), Fate::Stale)
    } else if phase == Phase::Connect && fault.message().contains("startup parameter") {
        let why = format!("the connection is refused ({})", fault.message());
        (pooler(&why), Fate::Lost)
    } else if state == "25006" && phase != Phase::ReadOnly {
        (read_only(), Fate::Lost)
    } else {
        let (kind, code, text) = sort(state);
        let message = if has_parameters && !is_free_of_values(state) {
            text
        } else {
            fault.message()
        };
        let error = Error::new(kind, message.to_owned());
        (code.into_iter().fold(error, Error::with_code), Fate::Keep)
    };
    if let Some(constraint) = fault.constraint() {
        error = error.with_context("constraint", constraint);
    }
    error = error.with_context("sqlstate", state);
    if fatal {
        lost(error, phase)
    } else {
        Fault { error, fate }
    }
}

/// Kind, code and a text without details of an SQLSTATE,
/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn sort(state: &str) -> (Kind, Option<Code>, &'static str) {
    use Kind::{InvalidInput, Permanent, Temporary, Unauthorized};
    match (state, state.get(..2).unwrap_or_default()) {
        ("42P04" | "42P06" | "42P07" | "42701" | "42710" | "42723", _) => {
            (Permanent, Some(Code::AlreadyExists), "already exists")
        }
        ("23505", _) => (Permanent, Some(Code::AlreadyExists), "unique constraint failed"),
        (_, "23" | "44") | ("40002", _) => {
            (InvalidInput, Some(Code::FailedPrecondition), "constraint failed")
        }
        ("40001", _) => (Temporary, Some(Code::Conflict), "serialization failure"),
        ("40P01", _) => (Temporary, Some(Code::Conflict), "deadlock"),
        ("55P03" | "55006", _) => (Temporary, Some(Code::Conflict), "a lock is held by somebody else"),
        ("57014", _) => (Temporary, Some(Code::Timeout), "the statement was cancelled"),
        ("25P03", _) => (
            Temporary,
            Some(Code::Timeout),
            "the transaction was idle for too long",
        ),
        ("57P04", _) => (Permanent, Some(Code::Unavailable), "the database was dropped"),
        (_, "57" | "08" | "40") => (
            Temporary,
            Some(Code::Unavailable),
            "the server ended the connection",
        ),
        ("53100", _) => (Temporary, Some(Code::Exhausted), "the server's disk is full"),
        ("53300", _) => (
            Temporary,
            Some(Code::Exhausted),
            "the server has too many connections",
        ),
        (_, "53") => (
            Temporary,
            Some(Code::Exhausted),
            "the server is short of resources",
        ),
        (_, "54") => (InvalidInput, Some(Code::TooLarge), "over a limit of the server"),
        ("58030", _) => (Temporary, Some(Code::Unavailable), "the server's disk failed"),
        (_, "28") => (Unauthorized, None, "user or password is wrong"),
        ("3D000", _) => (Permanent, Some(Code::FailedPrecondition), "no such database"),
        ("42501", _) => (
            Permanent,
            Some(Code::PermissionDenied),
            "the database user lacks the right",
        ),
        ("25006", _) => (
            Permanent,
            Some(Code::FailedPrecondition),
            "the transaction is read-only",
        ),
        (_, "25" | "3B") => (
            Permanent,
            Some(Code::FailedPrecondition),
            "the transaction cannot go on",
        ),
        (_, "55") => (
            Permanent,
            Some(Code::FailedPrecondition),
            "not possible in this state",
        ),
        ("22P03" | "22P02" | "22021", _) => (InvalidInput, None, "a value does not fit its type"),
        (_, "22" | "21") => (InvalidInput, None, "a value cannot be used so"),
        // RAISE of a function or trigger: a rule of the application.
        ("P0001", _) => (
            InvalidInput,
            Some(Code::FailedPrecondition),
            "refused by a rule of the database",
        ),
        (_, "0A") => (Permanent, Some(Code::Unsupported), "not supported by the server"),
        _ => (Permanent, None, "SQL error"),
    }
}

/// Whether messages of this class are made of the statement's text and names in the schema only. Others quote values:
/// `invalid input syntax for type bigint: "…"`.
fn is_free_of_values(state: &str) -> bool {
    const CLASSES: [&str; 12] = [
        "08", "0A", "23", "25", "28", "3D", "3F", "40", "42", "53", "55", "57",
    ];
    CLASSES.iter().any(|class| state.starts_with(class))
}
