//! How values are stored: SQLite knows integers, reals, texts, blobs and null.

use std::sync::Arc;

use bytes::Bytes;
use jiff::fmt::temporal::DateTimePrinter;
use sqlx::{
    Arguments as _, Column as _, Decode, Row as _, Sqlite, TypeInfo as _, ValueRef as _,
    sqlite::{SqliteArguments, SqliteRow, SqliteValueRef},
};

use crate::{
    Code, Error, Result,
    database::{Row, Value},
};

/// Six digits of a second, always, so that texts sort as the points in time do.
const TIMESTAMP: DateTimePrinter = DateTimePrinter::new().precision(Some(6));

/// The driver's form of the parameters.
pub(super) fn bind(values: Vec<Value>) -> Result<SqliteArguments> {
    let mut arguments = SqliteArguments::default();
    arguments.reserve(values.len(), 0);
    for value in values {
        let added = match value {
            Value::Null => arguments.add(None::<i64>),
            Value::Bool(value) => arguments.add(i64::from(value)),
            Value::Int(value) => arguments.add(value),
            Value::Float(value) if value.is_nan() => {
                return Err(Error::invalid_input("SQLite cannot store NaN").with_code(Code::Unsupported));
            }
            Value::Float(value) => arguments.add(value),
            Value::Decimal(value) => arguments.add(String::from(value)),
            Value::Text(value) => arguments.add(value),
            Value::Bytes(value) => arguments.add(Vec::from(value)),
            Value::Timestamp(value) => arguments.add(TIMESTAMP.timestamp_to_string(&value)),
            Value::Uuid(value) => arguments.add(value.hyphenated().to_string()),
            Value::Json(value) => arguments.add(value.to_string()),
            Value::Array(_) => {
                return Err(
                    Error::invalid_input("SQLite has no arrays; store JSON").with_code(Code::Unsupported)
                );
            }
        };
        added.map_err(|error| Error::invalid_input(format!("parameter cannot be bound: {error}")))?;
    }
    Ok(arguments)
}

/// The column names of a result, shared by its rows.
pub(super) fn columns(row: &SqliteRow) -> Arc<[Arc<str>]> {
    row.columns()
        .iter()
        .map(|column| Arc::from(column.name()))
        .collect()
}

/// Reads a row by what is stored, whatever type its columns were declared with.
pub(super) fn row(row: &SqliteRow, columns: &Arc<[Arc<str>]>) -> Result<Row> {
    let undecodable = |at: usize| {
        Error::permanent("stored value cannot be read")
            .with_code(Code::Undecodable)
            .with_context("column", columns.get(at).map_or("", |name| name))
    };
    let values = (0..columns.len())
        .map(|at| {
            row.try_get_raw(at)
                .ok()
                .and_then(value)
                .ok_or_else(|| undecodable(at))
        })
        .collect::<Result<_>>()?;
    Ok(Row::new(Arc::clone(columns), values))
}

fn value(raw: SqliteValueRef<'_>) -> Option<Value> {
    // A null would show the column's declared type.
    if raw.is_null() {
        return Some(Value::Null);
    }
    let stored = raw.type_info();
    match stored.name() {
        "INTEGER" => <i64 as Decode<Sqlite>>::decode(raw).ok().map(Value::Int),
        "REAL" => <f64 as Decode<Sqlite>>::decode(raw).ok().map(Value::Float),
        "TEXT" => <String as Decode<Sqlite>>::decode(raw).ok().map(Value::Text),
        "BLOB" => <Vec<u8> as Decode<Sqlite>>::decode(raw)
            .ok()
            .map(|bytes| Value::Bytes(Bytes::from(bytes))),
        _ => None,
    }
}
