//! Values from the server.

use bytes::Bytes;
use cqi_core::database::Value;
use jiff::{SignedDuration, Timestamp, civil};
use uuid::Uuid;

use super::{EPOCH, Type, numeric};

/// Reads a value that is not null; `None` when it cannot be: of a type not known, infinite, out of range.
pub(crate) fn decode(of: &Type, bytes: &[u8]) -> Option<Value> {
    Some(match of {
        Type::Bool => Value::Bool(*bytes.first()? != 0),
        Type::Int2 => Value::Int(i16::from_be_bytes(bytes.try_into().ok()?).into()),
        Type::Int4 => Value::Int(i32::from_be_bytes(bytes.try_into().ok()?).into()),
        Type::Oid => Value::Int(u32::from_be_bytes(bytes.try_into().ok()?).into()),
        Type::Int8 => Value::Int(i64::from_be_bytes(bytes.try_into().ok()?)),
        Type::Float4 => Value::Float(f32::from_be_bytes(bytes.try_into().ok()?).into()),
        Type::Float8 => Value::Float(f64::from_be_bytes(bytes.try_into().ok()?)),
        Type::Numeric => Value::Decimal(numeric::read(bytes)?),
        Type::Text => Value::Text(std::str::from_utf8(bytes).ok()?.to_owned()),
        Type::Bytes => Value::Bytes(Bytes::copy_from_slice(bytes)),
        Type::Timestamptz | Type::Timestamp => Value::Timestamp(timestamp(bytes)?),
        Type::Date => Value::Text(date(bytes)?.to_string()),
        Type::Time => Value::Text(time(bytes)?.to_string()),
        Type::Uuid => Value::Uuid(Uuid::from_slice(bytes).ok()?),
        Type::Json => Value::Json(serde_json::from_slice(bytes).ok()?),
        Type::Jsonb => Value::Json(serde_json::from_slice(bytes.strip_prefix(&[1])?).ok()?),
        Type::Void => Value::Null,
        Type::Array { of, .. } => array(of, bytes)?,
        Type::Other(_) => return None,
    })
}

fn timestamp(bytes: &[u8]) -> Option<Timestamp> {
    let micros = i64::from_be_bytes(bytes.try_into().ok()?);
    Timestamp::from_microsecond(micros.checked_add(EPOCH * 1_000_000)?).ok()
}

fn date(bytes: &[u8]) -> Option<civil::Date> {
    let days = i32::from_be_bytes(bytes.try_into().ok()?);
    let since = SignedDuration::from_hours(i64::from(days) * 24);
    civil::date(2000, 1, 1).checked_add(since).ok()
}

fn time(bytes: &[u8]) -> Option<civil::Time> {
    let micros = i64::from_be_bytes(bytes.try_into().ok()?);
    civil::Time::midnight()
        .checked_add(SignedDuration::from_micros(micros))
        .ok()
}

/// Takes `N` bytes off the front.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = bytes.split_first_chunk::<N>()?;
    *bytes = tail;
    Some(*head)
}

fn length(bytes: &mut &[u8]) -> Option<i32> {
    take::<4>(bytes).map(i32::from_be_bytes)
}

fn array(of: &Type, mut bytes: &[u8]) -> Option<Value> {
    let dimensions = length(&mut bytes)?;
    take::<8>(&mut bytes)?; // whether nulls are there, and the type, which the column has said
    let mut sizes = Vec::new();
    for _ in 0..dimensions {
        sizes.push(usize::try_from(length(&mut bytes)?).ok()?);
        take::<4>(&mut bytes)?; // where its numbers begin
    }
    if sizes.is_empty() {
        return Some(Value::Array(Vec::new()));
    }
    nested(of, &sizes, &mut bytes)
}

fn nested(of: &Type, sizes: &[usize], bytes: &mut &[u8]) -> Option<Value> {
    let Some((size, inner)) = sizes.split_first() else {
        let Ok(length) = usize::try_from(length(bytes)?) else {
            return Some(Value::Null);
        };
        let (item, tail) = bytes.split_at_checked(length)?;
        *bytes = tail;
        return decode(of, item);
    };
    let items: Option<Vec<_>> = (0..*size).map(|_| nested(of, inner, bytes)).collect();
    items.map(Value::Array)
}
