//! The keys a configuration knows.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use crate::{Error, Result};

/// How alike two keys must be for one to be offered instead of the other.
const ALIKE: f64 = 0.75;

/// The known keys of a configuration type, as full paths: `database.port`. Lists, and maps that are empty by default,
/// are one key each.
#[derive(Debug)]
pub struct Keys {
    defaults: BTreeMap<String, Value>,
    tables: BTreeSet<String>,
}

impl Keys {
    pub(super) fn of<T: Serialize>(default: &T) -> Result<Self> {
        let cannot = |why: String| Error::permanent(format!("the default cannot be serialised: {why}"));
        let tree = serde_json::to_value(default).map_err(|e| cannot(e.to_string()))?;
        let mut keys = Self {
            defaults: BTreeMap::new(),
            tables: BTreeSet::new(),
        };
        match &tree {
            Value::Object(_) => keys.add("", &tree),
            _ => return Err(cannot("not a struct".into()).with_operation("configuration")),
        }
        Ok(keys)
    }

    fn add(&mut self, path: &str, value: &Value) {
        match value {
            Value::Object(table) if path.is_empty() || !table.is_empty() => {
                self.tables.insert(path.to_owned());
                for (key, value) in table {
                    self.add(&join(path, key), value);
                }
            }
            _ => drop(self.defaults.insert(path.to_owned(), value.clone())),
        }
    }

    /// Every key that takes a value, in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.defaults.keys().map(String::as_str)
    }

    /// Whether `key` takes a value.
    pub fn contains(&self, key: &str) -> bool {
        self.defaults.contains_key(key)
    }

    /// Whether `key` is a table of further keys.
    pub fn is_table(&self, key: &str) -> bool {
        self.tables.contains(key)
    }

    /// The default of a key, serialised; a secret's is `***`.
    pub(super) fn default_of(&self, key: &str) -> &Value {
        self.defaults.get(key).unwrap_or(&Value::Null)
    }

    /// The known key, or table, that `key` was probably meant to be: one beside it where its table is known.
    pub fn nearest(&self, key: &str) -> Option<&str> {
        let all = || self.iter().chain(self.tables.iter().map(String::as_str));
        let table = key.rsplit_once('.').map_or("", |(table, _)| table);
        if !self.is_table(table) {
            return nearest(key, all());
        }
        // Compared without the table's name, whose likeness says nothing.
        let (prefix, word) = key.split_at(if table.is_empty() { 0 } else { table.len() + 1 });
        let near = nearest(word, all().filter_map(|known| known.strip_prefix(prefix)))?;
        all().find(|known| known.strip_prefix(prefix) == Some(near))
    }
}

/// The candidate most like `word`, if one is alike enough.
pub(super) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // The comparison is quadratic and the word comes from outside.
    let word: String = word.chars().take(200).collect();
    candidates
        .filter(|candidate| !candidate.is_empty())
        .map(|candidate| {
            (
                strsim::normalized_damerau_levenshtein(&word, candidate),
                candidate,
            )
        })
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}
