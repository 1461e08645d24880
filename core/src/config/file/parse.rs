//! Text to a tree of values, within limits.

use std::{cell::Cell, fmt, path::Path};

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess};
use serde_json::{Map, Value};

/// The most values one file may hold. YAML aliases count as often as they are used, so they cannot multiply.
const MAX_VALUES: usize = 10_000;

/// What TOML dates look like to serde.
const TOML_DATE: &str = "$__toml_private_datetime";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Yaml,
    Toml,
    Json,
}

impl Format {
    pub(super) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "yaml" | "yml" => Some(Self::Yaml),
            "toml" => Some(Self::Toml),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    /// Reads a document. The error is one sentence with line and column; it may hold a piece of the text only where
    /// the parser quotes a key.
    pub(super) fn parse(self, text: &str) -> Result<Value, String> {
        if text.trim().is_empty() {
            return Ok(Value::Null);
        }
        let budget = Cell::new(MAX_VALUES);
        let tree = Tree(&budget);
        match self {
            Self::Yaml => tree
                .deserialize(yaml_serde::Deserializer::from_str(text))
                .map_err(|e| {
                    let at = e.location().map(|at| (at.line(), at.column()));
                    // Its message ends with the place, which is said once already; and where a tag such as `!!int` does not
                    // fit, with the value.
                    let why = e.to_string();
                    match why.split_once("invalid value: ") {
                        Some((key, _)) => said(&format!("{key}invalid value for its tag"), at),
                        None => said(why.split(" at line ").next().unwrap_or_default(), at),
                    }
                }),
            Self::Toml => {
                let at = |e: toml::de::Error| said(e.message(), e.span().map(|span| place(text, span.start)));
                tree.deserialize(toml::Deserializer::parse(text).map_err(at)?)
                    .map_err(at)
            }
            Self::Json => {
                let mut json = serde_json::Deserializer::from_str(text);
                let tree = tree
                    .deserialize(&mut json)
                    .and_then(|tree| json.end().map(|()| tree));
                tree.map_err(|e| {
                    let why = e.to_string();
                    said(
                        why.split(" at line ").next().unwrap_or_default(),
                        Some((e.line(), e.column())),
                    )
                })
            }
        }
    }
}

fn said(why: &str, at: Option<(usize, usize)>) -> String {
    match at {
        Some((line, column)) => format!("line {line}, column {column}: {why}"),
        None => why.to_owned(),
    }
}

/// Line and column, from 1, of a byte.
fn place(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (
        before.matches('\n').count() + 1,
        before[line_start..].chars().count() + 1,
    )
}

/// Reads one value: no key twice in a table, and no more values than the budget has.
#[derive(Clone, Copy)]
struct Tree<'a>(&'a Cell<usize>);

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Tree<'_> {
    fn spend<E: de::Error>(&self) -> Result<(), E> {
        let too_many = || E::custom(format_args!("more than {MAX_VALUES} values"));
        self.0.set(self.0.get().checked_sub(1).ok_or_else(too_many)?);
        Ok(())
    }
}

impl<'de> de::Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table, a list, a text, a number or a bool")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        self.spend().map(|()| value.into())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        self.spend().map(|()| value.into())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        self.spend().map(|()| value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        self.spend()?;
        let number = serde_json::Number::from_f64(value);
        number
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        self.spend().map(|()| value.into())
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        self.spend().map(|()| Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        self.spend()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        self.spend()?;
        let mut table = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value_seed(self)?;
            if key == TOML_DATE {
                return Ok(value);
            }
            if table.contains_key(&key) {
                return Err(de::Error::custom(format_args!("key `{key}` stands twice")));
            }
            table.insert(key, value);
        }
        Ok(Value::Object(table))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cfg_14_ml_cfg_8_three_formats_give_one_tree() {
        let expected = json!({"a": {"b": 1, "c": [true, "x"], "d": 1.5}});
        for (format, text) in [
            (Format::Yaml, "a:\n  b: 1\n  c: [true, x]\n  d: 1.5\n"),
            (Format::Yaml, "a:\r\n  b: 1\r\n  c: [true, x]\r\n  d: 1.5\r\n"),
            (Format::Toml, "[a]\nb = 1\nc = [true, 'x']\nd = 1.5\n"),
            (Format::Json, r#"{"a": {"b": 1, "c": [true, "x"], "d": 1.5}}"#),
        ] {
            assert_eq!(format.parse(text).as_ref(), Ok(&expected), "{format:?}");
        }
        assert_eq!(
            Format::Toml.parse("d = 2026-01-02").unwrap(),
            json!({"d": "2026-01-02"})
        );
        assert_eq!(Format::Yaml.parse(" \n").unwrap(), Value::Null);
        assert_eq!(Format::Yaml.parse("# only a remark\n").unwrap(), Value::Null);
    }

    #[test]
    fn ml_cfg_8_syntax_errors_have_line_and_column() {
        for (format, text, place) in [
            (Format::Yaml, "a: 1\nb: [1\nc: 2\n", "line 3, column "),
            (Format::Toml, "a = 1\nb = = 2\n", "line 2, column 5: "),
            (Format::Json, "{\"a\": 1,\n \"b\": }", "line 2, column 7: "),
        ] {
            let why = format.parse(text).unwrap_err();
            assert!(why.starts_with(place), "{format:?}: {why}");
            assert_eq!(why.matches("line").count(), 1, "{why}");
        }
    }

    #[test]
    fn c_02_a_value_that_does_not_fit_its_tag_is_not_shown() {
        for tag in ["int", "float", "bool", "null"] {
            let text = format!("database:\n  password: !!{tag} s3cr3t\n");
            let why = Format::Yaml.parse(&text).unwrap_err();
            assert!(
                why.starts_with("line 2, column ") && why.contains("database.password: invalid"),
                "{why}"
            );
            assert!(!why.contains("s3cr3t"), "{why}");
        }
    }

    #[test]
    fn c_05_a_key_twice_is_refused() {
        for (format, text) in [
            (Format::Yaml, "a: 1\nb: 2\na: 3\n"),
            (Format::Toml, "a = 1\na = 2\n"),
            (Format::Json, r#"{"a": 1, "a": 2}"#),
        ] {
            let why = format.parse(text).unwrap_err();
            assert!(why.contains("line"), "{format:?}: {why}");
        }
    }

    #[test]
    fn c_05_aliases_cannot_multiply() {
        let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (this, last) in ["b", "c", "d", "e", "f", "g", "h"]
            .into_iter()
            .zip(["a", "b", "c", "d", "e", "f", "g"])
        {
            let uses = vec![format!("*{last}"); 10].join(", ");
            bomb.push_str(&format!("{this}: &{this} [{uses}]\n"));
        }
        assert!(Format::Yaml.parse(&bomb).is_err());
        assert_eq!(
            Format::Yaml.parse("a: &a 1\nb: *a\n").unwrap(),
            json!({"a": 1, "b": 1})
        );
    }

    #[test]
    fn c_05_depth_is_limited() {
        let deep = "[".repeat(10_000);
        assert!(Format::Yaml.parse(&deep).is_err());
        assert!(Format::Json.parse(&deep).is_err());
        assert!(Format::Toml.parse(&format!("a = {deep}")).is_err());
    }

    #[test]
    fn numbers_are_finite() {
        assert!(Format::Yaml.parse("a: .nan").is_err());
        assert!(Format::Toml.parse("a = inf").is_err());
    }
}
