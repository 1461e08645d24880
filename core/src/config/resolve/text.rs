//! Texts as values, and values as text.

use serde_json::{Number, Value};

/// The longest value that an error shows whole, in characters.
const MAX_SHOWN: usize = 100;

/// What a given value may mean, the likeliest first. Only a loose one (from the environment, a flag or a placeholder)
/// has more than one reading; the field's default tells the likeliest.
pub(super) fn readings(value: &Value, loose: bool, default: &Value) -> Vec<Value> {
    match value {
        Value::String(text) if loose => {
            let own = Value::String(text.clone());
            let scalar = scalar(text);
            match default {
                Value::String(_) => vec![own],
                Value::Array(_) => vec![list(text, own_text), list(text, scalar_text)],
                Value::Null => {
                    let mut readings = vec![own];
                    readings.extend(scalar);
                    readings.extend([list(text, own_text), list(text, scalar_text)]);
                    readings
                }
                // The likeliest comes last too: its error is the one that is shown.
                _ => scalar.into_iter().chain([own]).collect(),
            }
        }
        Value::Array(_) | Value::Object(_) if loose => vec![value.clone(), scalars(value)],
        _ => vec![value.clone()],
    }
}

/// The number or bool that a text spells.
fn scalar(text: &str) -> Option<Value> {
    let text = text.trim();
    match text {
        "true" => return Some(true.into()),
        "false" => return Some(false.into()),
        _ => {}
    }
    if let Ok(number) = text.parse::<u64>() {
        return Some(number.into());
    }
    if let Ok(number) = text.parse::<i64>() {
        return Some(number.into());
    }
    Number::from_f64(text.parse().ok()?).map(Value::Number)
}

fn own_text(text: &str) -> Value {
    text.into()
}

fn scalar_text(text: &str) -> Value {
    scalar(text).unwrap_or_else(|| text.into())
}

/// The items of a text separated by commas (OP-14); the empty text is the empty list.
fn list(text: &str, item: fn(&str) -> Value) -> Value {
    let items = text.split(',').map(str::trim);
    if text.trim().is_empty() {
        Value::Array(Vec::new())
    } else {
        items.map(item).collect()
    }
}

/// `value` with every text that spells a number or bool read as one.
fn scalars(value: &Value) -> Value {
    match value {
        Value::String(text) => scalar_text(text),
        Value::Array(items) => items.iter().map(scalars).collect(),
        Value::Object(table) => table
            .iter()
            .map(|(key, value)| (key.clone(), scalars(value)))
            .collect(),
        _ => value.clone(),
    }
}

/// A value as an error shows it.
pub(super) fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text.char_indices().nth(MAX_SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// What serde expected, without the value it found: that is shown separately, or hidden.
pub(super) fn expectation(why: &str, hidden: bool) -> String {
    let Some((_, expected)) = why.rsplit_once(", expected ") else {
        return if hidden {
            "has an invalid value".to_owned()
        } else {
            why.to_owned()
        };
    };
    let plain = match expected {
        "u8" => "an integer from 0 to 255",
        "u16" => "an integer from 0 to 65535",
        "u32" => "an integer from 0 to 4294967295",
        "u64" | "usize" | "u128" => "an integer, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" | "i128" => "an integer",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a table",
        "a string" => "a text",
        other => other,
    };
    format!("expected {plain}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn op_14_lists_are_separated_by_commas() {
        assert_eq!(readings(&json!("a, b"), true, &json!([]))[0], json!(["a", "b"]));
        assert_eq!(readings(&json!("1,2"), true, &json!([]))[1], json!([1, 2]));
        assert_eq!(readings(&json!(""), true, &json!(["x"]))[0], json!([]));
    }

    #[test]
    fn only_loose_texts_have_other_readings() {
        assert_eq!(readings(&json!("5"), false, &json!(1)), [json!("5")]);
        assert_eq!(readings(&json!("5"), true, &json!(1)), [json!(5), json!("5")]);
        assert_eq!(readings(&json!("5"), true, &json!("x")), [json!("5")]);
    }

    #[test]
    fn c_02_a_hidden_value_is_not_in_the_expectation() {
        assert_eq!(
            expectation("invalid type: integer `123`, expected a string", true),
            "expected a text"
        );
        assert_eq!(expectation("bad value 123", true), "has an invalid value");
        assert_eq!(expectation("bad value 123", false), "bad value 123");
    }
}
