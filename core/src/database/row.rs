//! A row of a result.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use uuid::Uuid;

use super::{Decimal, Value};
use crate::{Code, Error, Result};

/// One row: values by position or by column name.
///
/// ```
/// use cqi_core::database::{Row, Value};
///
/// let row = Row::new(["id", "name"].map(Into::into).into(), vec![Value::Int(7), Value::Null]);
/// assert_eq!(row.get::<i64>("id")?, 7);
/// assert_eq!(row.get::<Option<String>>("name")?, None);
/// # Ok::<(), cqi_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    columns: Arc<[Arc<str>]>,
    values: Vec<Value>,
}

impl Row {
    /// Made by adapters; all rows of one result share `columns`.
    pub fn new(columns: Arc<[Arc<str>]>, values: Vec<Value>) -> Self {
        Self { columns, values }
    }

    /// The value of a column as `T`.
    ///
    /// # Errors
    /// `Permanent`/`Undecodable` when there is no such column, it is null, or it has another type.
    pub fn get<T: FromValue>(&self, column: &str) -> Result<T> {
        let at = self.columns.iter().position(|name| **name == *column);
        let value = at.and_then(|at| self.values.get(at)).ok_or_else(|| {
            Error::permanent("no such column")
                .with_code(Code::Undecodable)
                .with_context("column", column)
        })?;
        T::from_value(value).map_err(|error| error.with_context("column", column))
    }

    /// The value at a position, from 0, as `T`.
    ///
    /// # Errors
    /// As [`Row::get`].
    pub fn at<T: FromValue>(&self, position: usize) -> Result<T> {
        let value = self.values.get(position).ok_or_else(|| {
            Error::permanent("no such column")
                .with_code(Code::Undecodable)
                .with_context("column", position)
        })?;
        T::from_value(value).map_err(|error| error.with_context("column", position))
    }

    /// The column names.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|name| &**name)
    }

    /// The values, in column order.
    pub fn values(&self) -> &[Value] {
        &self.values
    }
}

/// What a column's value can be read as.
pub trait FromValue: Sized {
    /// Reads the value.
    ///
    /// # Errors
    /// `Permanent`/`Undecodable` when the value has another type. Engines without a type of their own for booleans,
    /// decimals, timestamps, UUIDs and JSON (SQLite) give integers and texts, which are accepted where they fit.
    fn from_value(value: &Value) -> Result<Self>;
}

fn mismatch<T>(value: &Value, wanted: &str) -> Result<T> {
    let why = format!("column holds {}, not {wanted}", value.type_name());
    Err(Error::permanent(why).with_code(Code::Undecodable))
}

macro_rules! from_value {
    ($($type:ty, $wanted:literal: $($pattern:pat $(if $guard:expr)? => $make:expr),+;)*) => {$(
        impl FromValue for $type {
            fn from_value(value: &Value) -> Result<Self> {
                match value {
                    $($pattern $(if $guard)? => match $make {
                        Some(read) => Ok(read),
                        None => mismatch(value, $wanted),
                    },)+
                    _ => mismatch(value, $wanted),
                }
            }
        }
    )*};
}

from_value! {
    bool, "bool": Value::Bool(v) => Some(*v), Value::Int(0) => Some(false), Value::Int(1) => Some(true);
    // A whole decimal is what PostgreSQL makes of the sum of integers.
    i64, "integer": Value::Int(v) => Some(*v), Value::Decimal(v) => v.as_str().parse().ok();
    i32, "integer of 32 bits": Value::Int(v) => i32::try_from(*v).ok(), Value::Decimal(v) => v.as_str().parse().ok();
    u32, "integer of 32 bits": Value::Int(v) => u32::try_from(*v).ok(), Value::Decimal(v) => v.as_str().parse().ok();
    u64, "integer from 0": Value::Int(v) => u64::try_from(*v).ok(), Value::Decimal(v) => v.as_str().parse().ok();
    f64, "float": Value::Float(v) => Some(*v), Value::Int(v) if v.unsigned_abs() <= 1 << 53 => Some(*v as f64);
    Decimal, "decimal": Value::Decimal(v) => Some(v.clone()), Value::Text(v) => v.parse().ok(),
        Value::Int(v) => v.to_string().parse().ok();
    String, "text": Value::Text(v) => Some(v.clone());
    Bytes, "bytes": Value::Bytes(v) => Some(v.clone());
    Vec<u8>, "bytes": Value::Bytes(v) => Some(v.to_vec());
    Timestamp, "timestamp": Value::Timestamp(v) => Some(*v), Value::Text(v) => v.parse().ok();
    Uuid, "uuid": Value::Uuid(v) => Some(*v), Value::Text(v) => Uuid::try_parse(v).ok();
    serde_json::Value, "json": Value::Json(v) => Some(v.clone()), Value::Text(v) => serde_json::from_str(v).ok();
}

impl FromValue for Value {
    fn from_value(value: &Value) -> Result<Self> {
        Ok(value.clone())
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: &Value) -> Result<Self> {
        if *value == Value::Null {
            Ok(None)
        } else {
            T::from_value(value).map(Some)
        }
    }
}

macro_rules! from_array {
    ($($type:ty),*) => {$(
        impl FromValue for Vec<$type> {
            fn from_value(value: &Value) -> Result<Self> {
                match value {
                    Value::Array(items) => items.iter().map(FromValue::from_value).collect(),
                    _ => mismatch(value, "array"),
                }
            }
        }
    )*};
}

from_array!(bool, i64, f64, Decimal, String, Uuid, Timestamp, Value);
