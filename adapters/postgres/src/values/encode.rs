//! Values to the server.

use cqi_core::{
    Error, Result,
    database::{Decimal, Value},
};
use jiff::{Timestamp, civil, fmt::temporal::DateTimePrinter};
use sqlx::{
    Arguments as _, Encode, Postgres,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgArguments, PgTypeInfo, types::Oid},
};

use super::{EPOCH, Type, numeric};

/// Six digits of a second, always, so that texts sort as the points in time do, as on SQLite.
const TIMESTAMP: DateTimePrinter = DateTimePrinter::new().precision(Some(6));

/// The driver's form of the values.
pub(crate) fn bind(values: &[Value], types: &[Type]) -> Result<PgArguments> {
    let mut arguments = PgArguments::default();
    arguments.reserve(values.len(), 16 * values.len());
    for (number, (value, of)) in (1..).zip(values.iter().zip(types)) {
        arguments
            .add(Parameter { value, of })
            .map_err(|_| refuse(number, value, of))?;
    }
    Ok(arguments)
}

/// Says which parameter does not fit, never its value.
fn refuse(number: usize, value: &Value, of: &Type) -> Error {
    let remedy = match of {
        Type::Other(_) => "; bind a text and cast it, for example $1::text::interval",
        _ => "",
    };
    Error::invalid_input(format!(
        "parameter ${number} is {} and the value, {}, does not fit{remedy}",
        of.name(),
        value.type_name()
    ))
}

/// A value and the type the server wants it in.
struct Parameter<'a> {
    value: &'a Value,
    of: &'a Type,
}

impl sqlx::Type<Postgres> for Parameter<'_> {
    /// Unknown: the server says the types, whatever was bound first.
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(0))
    }
}

impl<'q> Encode<'q, Postgres> for Parameter<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> std::result::Result<IsNull, BoxDynError> {
        if *self.value == Value::Null {
            return Ok(IsNull::Yes);
        }
        write(self.value, self.of, buffer).ok_or("the value does not fit")?;
        Ok(IsNull::No)
    }
}

/// Appends the value; `None` when it does not fit the type.
fn write(value: &Value, of: &Type, out: &mut Vec<u8>) -> Option<()> {
    match (of, value) {
        (Type::Bool, Value::Bool(value)) => out.push(u8::from(*value)),
        (Type::Int2, value) => out.extend(i16::try_from(integer(value)?).ok()?.to_be_bytes()),
        (Type::Int4, value) => out.extend(i32::try_from(integer(value)?).ok()?.to_be_bytes()),
        (Type::Oid, value) => out.extend(u32::try_from(integer(value)?).ok()?.to_be_bytes()),
        (Type::Int8, value) => out.extend(integer(value)?.to_be_bytes()),
        (Type::Float8, value) => out.extend(float(value)?.to_be_bytes()),
        (Type::Float4, value) => out.extend(single(float(value)?)?.to_be_bytes()),
        (Type::Numeric, value) => numeric::write(&decimal(value)?, out)?,
        (Type::Bytes, Value::Bytes(value)) => out.extend_from_slice(value),
        (Type::Uuid, Value::Uuid(value)) => out.extend(value.as_bytes()),
        (Type::Uuid, Value::Text(text)) => out.extend(uuid::Uuid::try_parse(text).ok()?.as_bytes()),
        (Type::Timestamptz | Type::Timestamp, value) => out.extend(micros(value)?.to_be_bytes()),
        (Type::Date, Value::Text(text)) => {
            let date: civil::Date = text.parse().ok()?;
            out.extend(date.since(civil::date(2000, 1, 1)).ok()?.get_days().to_be_bytes());
        }
        (Type::Time, Value::Text(text)) => {
            let time: civil::Time = text.parse().ok()?;
            let since = time.duration_since(civil::Time::midnight()).as_micros();
            out.extend(i64::try_from(since).ok()?.to_be_bytes());
        }
        (Type::Json, Value::Json(value)) => serde_json::to_writer(out, value).ok()?,
        (Type::Json, Value::Text(text)) => out.extend_from_slice(text.as_bytes()),
        (Type::Jsonb, Value::Json(_) | Value::Text(_)) => {
            out.push(1); // the format's version
            write(value, &Type::Json, out)?;
        }
        (Type::Text, value) => text(value, out)?,
        (Type::Array { of, oid }, Value::Array(items)) => array(items, of, *oid, out)?,
        _ => return None,
    }
    Some(())
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Int(value) => Some(*value),
        Value::Decimal(value) => value.as_str().parse().ok(),
        _ => None,
    }
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Float(value) => Some(*value),
        Value::Int(value) if value.unsigned_abs() <= 1 << 53 => Some(*value as f64),
        Value::Decimal(value) => value.as_str().parse().ok(),
        _ => None,
    }
}

/// Rounded, and refused when nothing is left of it or it became infinite, as the server does with a double for a real.
fn single(value: f64) -> Option<f32> {
    #[allow(clippy::cast_possible_truncation)] // that is what is looked at
    let single = value as f32;
    let kept = single.is_infinite() == value.is_infinite() && (single == 0.0) == (value == 0.0);
    kept.then_some(single)
}

fn decimal(value: &Value) -> Option<Decimal> {
    match value {
        Value::Decimal(value) => Some(value.clone()),
        Value::Int(value) => value.to_string().parse().ok(),
        Value::Float(value) => value.to_string().parse().ok(),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    }
}

/// Microseconds since 2000. Finer digits are cut off.
fn micros(value: &Value) -> Option<i64> {
    let time = match value {
        Value::Timestamp(time) => *time,
        Value::Text(text) => match text.parse::<Timestamp>() {
            Ok(time) => time,
            // Without a zone it is UTC, as everywhere here.
            Err(_) => text
                .parse::<civil::DateTime>()
                .ok()?
                .to_zoned(jiff::tz::TimeZone::UTC)
                .ok()?
                .timestamp(),
        },
        _ => return None,
    };
    time.as_microsecond().checked_sub(EPOCH * 1_000_000)
}

/// Scalars become text where text is wanted, as `SELECT $1` and text columns do.
fn text(value: &Value, out: &mut Vec<u8>) -> Option<()> {
    match value {
        Value::Text(text) => out.extend_from_slice(text.as_bytes()),
        Value::Decimal(value) => out.extend_from_slice(value.as_str().as_bytes()),
        Value::Json(value) => serde_json::to_writer(out, value).ok()?,
        Value::Int(value) => out.extend(value.to_string().into_bytes()),
        Value::Float(value) => out.extend(value.to_string().into_bytes()),
        Value::Bool(value) => out.extend(value.to_string().into_bytes()),
        Value::Uuid(value) => out.extend(value.hyphenated().to_string().into_bytes()),
        Value::Timestamp(value) => out.extend(TIMESTAMP.timestamp_to_string(value).into_bytes()),
        _ => return None,
    }
    Some(())
}

fn array(items: &[Value], of: &Type, oid: u32, out: &mut Vec<u8>) -> Option<()> {
    let dimensions = i32::from(!items.is_empty());
    out.extend(dimensions.to_be_bytes());
    out.extend(i32::from(items.contains(&Value::Null)).to_be_bytes());
    out.extend(oid.to_be_bytes());
    if items.is_empty() {
        return Some(());
    }
    out.extend(i32::try_from(items.len()).ok()?.to_be_bytes());
    out.extend(1_i32.to_be_bytes()); // where its numbers begin
    for item in items {
        let start = out.len();
        out.extend((-1_i32).to_be_bytes());
        if *item != Value::Null {
            write(item, of, out)?;
            let length = i32::try_from(out.len() - start - 4).ok()?;
            out[start..start + 4].copy_from_slice(&length.to_be_bytes());
        }
    }
    Some(())
}
