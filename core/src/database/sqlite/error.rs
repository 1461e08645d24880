//! The one place that sorts SQLite's faults into kinds and codes.

use std::path::Path;

use sqlx::error::DatabaseError;

use crate::{Code, Error, Kind};

/// Makes a cqi error of the driver's one. Says nothing that could hold a parameter's value.
///
/// `has_parameters`: SQLite quotes values in some messages (a JSON path, a full-text query), so with parameters only
/// messages of a known form are passed on.
pub(super) fn classify(error: sqlx::Error, has_parameters: bool) -> Error {
    match error {
        sqlx::Error::Database(fault) => of_fault(&*fault, has_parameters),
        sqlx::Error::WorkerCrashed => Error::temporary("the connection broke")
            .with_code(Code::Unavailable)
            .maybe_applied(),
        sqlx::Error::Io(error) => Error::permanent("the database cannot be reached")
            .with_code(Code::Unavailable)
            .with_source(error),
        sqlx::Error::Protocol(why) => Error::invalid_input(why),
        // Everything else comes from parts of the driver that are not used here.
        other => Error::permanent("the driver failed").with_source(other),
    }
}

fn of_fault(fault: &dyn DatabaseError, has_parameters: bool) -> Error {
    let extended: i32 = fault.code().and_then(|code| code.parse().ok()).unwrap_or(1);
    let (kind, code, text) = sort(extended);
    let message = fault.message();
    let message = if has_parameters && !is_free_of_values(extended, message) {
        text
    } else {
        message
    };
    let mut error = Error::new(kind, message.to_owned()).with_context("sqlite_code", extended);
    if let Some(code) = code {
        error = error.with_code(code);
    }
    // The disk gave no clear answer: the change may be there.
    if extended & 0xff == 10 {
        error.maybe_applied()
    } else {
        error
    }
}

/// Says why a database file could not be opened, which SQLite keeps to itself.
pub(super) async fn explain_open(error: Error, path: Option<&Path>) -> Error {
    let Some(path) = path else { return error };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let wrong = |why: &str| Error::invalid_input(format!("cannot open the database file: {why}"));
    let explained = if is_dir(path).await {
        wrong("it is a folder")
    } else if let Some(folder) = folder
        && !is_dir(folder).await
    {
        wrong("its folder does not exist")
    } else {
        let why = Error::new(
            error.kind(),
            format!("cannot open the database file: {}", error.message()),
        );
        error.code().into_iter().fold(why, Error::with_code)
    };
    explained
        .with_operation("database.open")
        .with_context("path", path.display())
}

async fn is_dir(path: &Path) -> bool {
    tokio::fs::metadata(path).await.is_ok_and(|found| found.is_dir())
}

/// Kind, code and a text without details of an extended result code, <https://www.sqlite.org/rescode.html>.
fn sort(extended: i32) -> (Kind, Option<Code>, &'static str) {
    use Kind::{InvalidInput, Permanent, Temporary};
    match (extended, extended & 0xff) {
        (1555 | 2067 | 2579, _) => (Permanent, Some(Code::AlreadyExists), "unique constraint failed"),
        (_, 19) => (InvalidInput, Some(Code::FailedPrecondition), "constraint failed"),
        (_, 20) => (InvalidInput, Some(Code::FailedPrecondition), "datatype mismatch"),
        (_, 5 | 6) => (Temporary, Some(Code::Conflict), "the database is locked"),
        (_, 17) => (Temporary, Some(Code::Conflict), "the schema has changed"),
        (_, 13) => (Temporary, Some(Code::Exhausted), "the disk or database is full"),
        (_, 7) => (Temporary, Some(Code::Exhausted), "out of memory"),
        (_, 10) => (Temporary, Some(Code::Unavailable), "disk I/O error"),
        (_, 9) => (Temporary, Some(Code::Cancelled), "the statement was interrupted"),
        (_, 8) => (
            Permanent,
            Some(Code::FailedPrecondition),
            "the database is read-only",
        ),
        (_, 14) => (
            Permanent,
            Some(Code::Unavailable),
            "unable to open the database file",
        ),
        (_, 11 | 26) => (
            Permanent,
            Some(Code::Undecodable),
            "the database file is damaged or no database",
        ),
        (_, 3 | 23) => (Permanent, Some(Code::PermissionDenied), "access denied"),
        (_, 18) => (InvalidInput, Some(Code::TooLarge), "text or bytes too large"),
        (_, 25) => (InvalidInput, None, "parameter out of range"),
        _ => (Permanent, None, "SQL error"),
    }
}

/// Whether a message is made of the statement's text and the schema only.
fn is_free_of_values(extended: i32, message: &str) -> bool {
    const BY_PARSER: [&str; 6] = [
        "near \"",
        "no such ",
        "incomplete input",
        "ambiguous column",
        "wrong number of arguments",
        "table ",
    ];
    match (extended, extended & 0xff) {
        // RAISE in a trigger, virtual tables and functions write what they like.
        (1811 | 2323 | 1043, _) => false,
        (_, 1) => BY_PARSER.iter().any(|start| message.starts_with(start)),
        _ => true,
    }
}
