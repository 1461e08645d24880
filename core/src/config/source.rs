//! Where settings come from, and what a source hands over.

use std::{collections::BTreeSet, fmt};

use serde_json::Value;

use super::{Keys, Violation, keys::join};

/// A place settings come from. Files, the environment and flags are sources; a program can add its own.
pub trait Source: fmt::Debug + Send {
    /// The name shown in errors.
    fn name(&self) -> &str;

    /// The source of the higher priority wins, key by key. The environment has 300, files 200, flags 100, and the
    /// defaults 0; two sources must not have the same.
    fn priority(&self) -> i32;

    /// Adds everything that is set to `settings`, and what is wrong with it.
    fn read(&self, keys: &Keys, settings: &mut Settings);
}

/// What a source has to say.
#[derive(Debug, Default)]
pub struct Settings {
    pub(super) given: Vec<Given>,
    pub(super) warnings: Vec<String>,
    /// The variables that placeholders of files have named: they are of use even if they set nothing themselves.
    pub(super) named: BTreeSet<String>,
    pub(super) violations: Vec<Violation>,
}

/// One value for one key.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) key: String,
    pub(super) value: Value,
    /// Whether texts in the value may be read as numbers, bools and lists, as the field needs it.
    pub(super) loose: bool,
    pub(super) origin: String,
}

impl Settings {
    /// Sets a known key to a value of the field's own type.
    pub fn set(&mut self, key: impl Into<String>, value: Value, origin: impl Into<String>) {
        let (key, origin) = (key.into(), origin.into());
        self.given.push(Given {
            key,
            value,
            loose: false,
            origin,
        });
    }

    /// Sets a known key to a text, which is read as the field's type; lists are separated by commas.
    pub fn set_text(&mut self, key: impl Into<String>, text: impl Into<String>, origin: impl Into<String>) {
        let (key, origin, value) = (key.into(), origin.into(), Value::String(text.into()));
        self.given.push(Given {
            key,
            value,
            loose: true,
            origin,
        });
    }

    /// Sets every key of a table. Unknown keys are refused, with the nearest known one.
    pub fn set_table(&mut self, keys: &Keys, table: &Value, origin: &str) {
        self.walk(keys, "", table, origin);
    }

    /// Adds something the operator should know although it is no error.
    pub fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    /// Refuses the configuration: `rule` is broken at `key` (empty: the source as a whole).
    pub fn refuse(&mut self, key: impl Into<String>, rule: impl Into<String>, origin: impl Into<String>) {
        self.violations.push(Violation {
            key: key.into(),
            rule: rule.into(),
            source: origin.into(),
            value: None,
        });
    }

    fn walk(&mut self, keys: &Keys, path: &str, value: &Value, origin: &str) {
        match value {
            Value::Object(table) => {
                for (key, value) in table {
                    let key = join(path, key);
                    if keys.is_table(&key) {
                        self.walk(keys, &key, value, origin);
                    } else if keys.contains(&key) {
                        self.set(key, value.clone(), origin);
                    } else {
                        self.unknown(keys, &key, origin);
                    }
                }
            }
            // A section whose lines are all commented out.
            Value::Null => {}
            _ => self.refuse(path, "expected a table of keys", origin),
        }
    }

    pub(super) fn unknown(&mut self, keys: &Keys, key: &str, origin: &str) {
        let shown: String = key.chars().take(100).collect();
        let rule = match keys.nearest(key) {
            Some(near) => format!("unknown key, did you mean `{near}`?"),
            None => "unknown key".to_owned(),
        };
        self.refuse(shown, rule, origin);
    }
}

/// Values given on the command line.
#[derive(Debug)]
pub(super) struct Flags {
    pub(super) priority: i32,
    pub(super) given: Vec<(String, String)>,
}

impl Source for Flags {
    fn name(&self) -> &str {
        "flags"
    }

    fn priority(&self) -> i32 {
        self.priority
    }

    fn read(&self, keys: &Keys, settings: &mut Settings) {
        for (key, text) in &self.given {
            if keys.contains(key) {
                settings.set_text(key, text, format!("flag {key}"));
            } else {
                settings.unknown(keys, key, "flags");
            }
        }
    }
}
