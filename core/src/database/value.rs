//! The types that go into and come out of a database.

use std::{fmt, str::FromStr};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Error, Result};

/// A value of a parameter or a column.
#[non_exhaustive]
#[derive(Clone, PartialEq)]
pub enum Value {
    /// SQL's null.
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer of up to 64 bits.
    Int(i64),
    /// A double.
    Float(f64),
    /// An exact decimal number.
    Decimal(Decimal),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Bytes),
    /// A point in time, in microseconds.
    Timestamp(Timestamp),
    /// A UUID.
    Uuid(Uuid),
    /// A JSON document.
    Json(serde_json::Value),
    /// An array of values of one type.
    Array(Vec<Value>),
}

impl Value {
    /// The type's name, for errors.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) => "integer",
            Self::Float(_) => "float",
            Self::Decimal(_) => "decimal",
            Self::Text(_) => "text",
            Self::Bytes(_) => "bytes",
            Self::Timestamp(_) => "timestamp",
            Self::Uuid(_) => "uuid",
            Self::Json(_) => "json",
            Self::Array(_) => "array",
        }
    }
}

impl fmt::Debug for Value {
    /// Shows the type only: values may be confidential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.type_name())
    }
}

/// The most digits a [`Decimal`] may have.
const MAX_DIGITS: usize = 78;

/// An exact decimal number as text, as PostgreSQL's `numeric` shows it: no exponent, no leading zeros, no plus sign, and
/// the digits after the point kept as they were given. Two numbers are equal when their texts are: `1.0` is not `1.00`.
///
/// It is for storing and passing on amounts exactly; arithmetic is left to a library of the service's choice.
///
/// ```
/// use cqi_core::database::Decimal;
/// let amount: Decimal = "0012.500".parse()?;
/// assert_eq!(amount.as_str(), "12.500");
/// # Ok::<(), cqi_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Decimal(String);

impl Decimal {
    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Decimal {
    type Err = Error;

    /// Reads `[+-]digits[.digits]` with at most 78 digits.
    fn from_str(text: &str) -> Result<Self> {
        let (negative, digits) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let (whole, fraction) = match digits.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (digits, None),
        };
        let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !all_digits(whole) || !fraction.is_none_or(all_digits) || digits.len() > MAX_DIGITS {
            return Err(Error::invalid_input("not a decimal number of at most 78 digits")
                .with_context("value", crate::name::shown(text)));
        }
        let zero = digits.bytes().all(|b| matches!(b, b'0' | b'.'));
        let sign = if negative && !zero { "-" } else { "" };
        let whole = whole.trim_start_matches('0');
        let whole = if whole.is_empty() { "0" } else { whole };
        Ok(Self(match fraction {
            Some(fraction) => format!("{sign}{whole}.{fraction}"),
            None => format!("{sign}{whole}"),
        }))
    }
}

impl TryFrom<String> for Decimal {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Decimal> for String {
    fn from(decimal: Decimal) -> Self {
        decimal.0
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What can be bound to a parameter.
pub trait ToValue {
    /// The value to bind.
    fn to_value(self) -> Value;
}

impl ToValue for Value {
    fn to_value(self) -> Value {
        self
    }
}

macro_rules! to_value {
    ($($type:ty => $make:expr;)*) => {$(
        impl ToValue for $type {
            fn to_value(self) -> Value {
                let make: fn($type) -> Value = $make;
                make(self)
            }
        }
    )*};
}

to_value! {
    bool => Value::Bool;
    i64 => Value::Int;
    i32 => |v| Value::Int(v.into());
    i16 => |v| Value::Int(v.into());
    u32 => |v| Value::Int(v.into());
    u16 => |v| Value::Int(v.into());
    u8 => |v| Value::Int(v.into());
    f64 => Value::Float;
    Decimal => Value::Decimal;
    String => Value::Text;
    &str => |v| Value::Text(v.to_owned());
    &String => |v| Value::Text(v.clone());
    Bytes => Value::Bytes;
    Vec<u8> => |v| Value::Bytes(v.into());
    Timestamp => Value::Timestamp;
    Uuid => Value::Uuid;
    serde_json::Value => Value::Json;
}

impl<T: ToValue> ToValue for Option<T> {
    fn to_value(self) -> Value {
        self.map_or(Value::Null, T::to_value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_have_one_form() {
        for (text, canonical) in [
            ("1", "1"),
            ("+1.0", "1.0"),
            ("-0.00", "0.00"),
            ("00.10", "0.10"),
            ("-012.340", "-12.340"),
            ("0", "0"),
        ] {
            assert_eq!(text.parse::<Decimal>().unwrap().as_str(), canonical);
        }
        for bad in [
            "",
            "-",
            ".",
            "1.",
            ".5",
            "1e3",
            "1,5",
            " 1",
            "NaN",
            "١",
            &"9".repeat(79),
        ] {
            assert!(bad.parse::<Decimal>().unwrap_err().is_invalid_input(), "{bad}");
        }
    }

    #[test]
    fn debug_shows_no_value() {
        assert_eq!(format!("{:?}", Value::Text("canary".into())), "text");
    }
}
