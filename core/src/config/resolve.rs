//! From settings to a checked value.
//!
//! Each given value is tried by itself on top of what is known to be good, so that every wrong one is found, and
//! found by its key whatever serde attributes stand in between.

use std::collections::BTreeMap;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{
    Keys, Loaded, Settings, Validate, Violation, Violations, loader::DEFAULT, resolve::text::readings,
    source::Given,
};
use crate::secret::REDACTED;

mod text;

/// Why there is no configuration.
pub(super) enum Failure {
    /// The sources are at fault.
    Violations(Vec<Violation>),
    /// The type is: its own default does not deserialise.
    Type(String),
}

pub(super) fn resolve<T>(keys: &Keys, settings: Settings, default: &T) -> Result<Loaded<T>, Failure>
where
    T: Serialize + DeserializeOwned + Validate,
{
    let (loaded, mut violations) = fill(keys, settings, default)?;
    let broken = broken_rules(&loaded.value, &loaded.origins, &violations);
    violations.extend(broken);
    if violations.is_empty() {
        Ok(loaded)
    } else {
        Err(Failure::Violations(violations))
    }
}

/// As [`resolve`], before the rules are checked: what can be read, and what is wrong with the rest.
pub(super) fn fill<T>(
    keys: &Keys,
    settings: Settings,
    default: &T,
) -> Result<(Loaded<T>, Vec<Violation>), Failure>
where
    T: Serialize + DeserializeOwned,
{
    let Settings {
        given,
        warnings,
        mut violations,
        ..
    } = settings;
    let mut tree = serde_json::to_value(default).map_err(|e| Failure::Type(e.to_string()))?;
    drop_hidden(&mut tree);
    let mut value = T::deserialize(&tree).map_err(|e| Failure::Type(e.to_string()))?;
    let mut origins = BTreeMap::new();
    for given in merged(given) {
        let Given { key, origin, .. } = &given;
        match put::<T>(&mut tree, keys, &given) {
            Ok(good) => {
                value = good;
            }
            Err((rule, shown)) => {
                violations.push(Violation {
                    key: key.clone(),
                    rule,
                    source: origin.clone(),
                    value: shown,
                });
            }
        }
        origins.insert(given.key, given.origin);
    }
    let loaded = Loaded {
        value,
        warnings,
        origins,
    };
    Ok((loaded, violations))
}

/// Removes what a secret shows of itself, so that `***` is never read back: an absent secret keeps its default.
fn drop_hidden(tree: &mut Value) {
    if let Value::Object(table) = tree {
        table.retain(|_, value| value.is_object() || !value.to_string().contains(REDACTED));
        table.values_mut().for_each(drop_hidden);
    }
}

/// One value per key. The sources come lowest priority first; tables merge, everything else is replaced.
fn merged(given: Vec<Given>) -> impl Iterator<Item = Given> {
    let mut by_key: BTreeMap<String, Given> = BTreeMap::new();
    for mut given in given {
        if let Some(below) = by_key.remove(&given.key) {
            given.loose |= below.loose && given.value.is_object();
            merge(&mut given.value, below.value);
        }
        by_key.insert(given.key.clone(), given);
    }
    by_key.into_values()
}

fn merge(above: &mut Value, below: Value) {
    if let (Value::Object(above), Value::Object(below)) = (above, below) {
        for (key, value) in below {
            match above.get_mut(&key) {
                Some(above) => merge(above, value),
                None => drop(above.insert(key, value)),
            }
        }
    }
}

/// Puts one value into the tree if `T` takes it; else leaves the tree as it was and says what is expected.
fn put<T>(tree: &mut Value, keys: &Keys, given: &Given) -> Result<T, (String, Option<String>)>
where
    T: Serialize + DeserializeOwned,
{
    let default = keys.default_of(&given.key);
    if given.value.as_str() == Some(REDACTED) && is_hidden::<T>(tree, &given.key, default) {
        return Err((
            format!("`{REDACTED}` stands for a hidden value, give the value itself"),
            None,
        ));
    }
    let mut why = String::new();
    for reading in readings(&given.value, given.loose, default) {
        let before = set(tree, &given.key, Some(reading));
        match T::deserialize(&*tree) {
            Ok(value) => return Ok(value),
            Err(error) => why = error.to_string(),
        }
        set(tree, &given.key, before);
    }
    let hidden = is_hidden::<T>(tree, &given.key, default);
    let shown = match &given.value {
        Value::Array(_) | Value::Object(_) => None,
        _ if hidden => Some(REDACTED.to_owned()),
        value => Some(text::shown(value)),
    };
    Err((text::expectation(&why, hidden || shown.is_none()), shown))
}

/// Whether the field at `key` hides its value: its default does, its name says so, or a trial shows it.
fn is_hidden<T>(tree: &mut Value, key: &str, default: &Value) -> bool
where
    T: Serialize + DeserializeOwned,
{
    const TRIAL: &str = "cqi-trial";
    // A URL hides a part of itself.
    const TRIAL_URL: &str = "cqi://cqi-trial@host";
    if default.to_string().contains(REDACTED) || is_telling(key) {
        return true;
    }
    [Value::from(TRIAL_URL), Value::from(vec![TRIAL_URL])]
        .into_iter()
        .any(|trial| {
            let before = set(tree, key, Some(trial));
            let printed = T::deserialize(&*tree)
                .ok()
                .and_then(|value| serde_json::to_value(value).ok());
            set(tree, key, before);
            printed.is_some_and(|printed| !printed.to_string().contains(TRIAL))
        })
}

/// Whether the name of a key says that its value is a secret.
fn is_telling(key: &str) -> bool {
    [
        "password",
        "secret",
        "token",
        "api_key",
        "private_key",
        "credential",
    ]
    .iter()
    .any(|word| key.contains(word))
}

/// Checks the rules. What failed already is not reported a second time, and every value is shown as its type shows
/// itself, and not where its name says that it is a secret.
fn broken_rules<T: Serialize + Validate>(
    value: &T,
    origins: &BTreeMap<String, String>,
    known: &[Violation],
) -> Vec<Violation> {
    let mut rules = Violations::default();
    value.validate(&mut rules);
    if rules.found().next().is_none() {
        return Vec::new();
    }
    let printed = serde_json::to_value(value).unwrap_or_default();
    let fresh = rules
        .found()
        .filter(|(key, _)| known.iter().all(|violation| violation.key != *key));
    fresh
        .map(|(key, rule)| Violation {
            key: key.to_owned(),
            rule: rule.to_owned(),
            source: origin(key, origins).to_owned(),
            value: get(&printed, key)
                .map(text::shown)
                .filter(|shown| !shown.is_empty())
                .map(|shown| {
                    if is_telling(key) {
                        REDACTED.to_owned()
                    } else {
                        shown
                    }
                }),
        })
        .collect()
}

/// The origin of a key, or of the nearest list or table around it.
fn origin<'a>(key: &str, origins: &'a BTreeMap<String, String>) -> &'a str {
    let mut key = key;
    loop {
        if let Some(origin) = origins.get(key) {
            return origin;
        }
        match key.rfind(['.', '[']) {
            Some(at) => key = &key[..at],
            None => return DEFAULT,
        }
    }
}

/// The value at a key, unless it is a table, a list or null.
fn get<'a>(tree: &'a Value, key: &str) -> Option<&'a Value> {
    let found = key.split('.').try_fold(tree, |tree, segment| tree.get(segment))?;
    (!found.is_object() && !found.is_array() && !found.is_null()).then_some(found)
}

/// Sets the value at a key, or removes it, and gives what was there.
fn set(tree: &mut Value, key: &str, value: Option<Value>) -> Option<Value> {
    let (path, last) = key
        .rsplit_once('.')
        .map_or((None, key), |(path, last)| (Some(path), last));
    let mut table = tree;
    for segment in path.into_iter().flat_map(|path| path.split('.')) {
        table = table
            .as_object_mut()?
            .entry(segment)
            .or_insert_with(|| Value::Object(Map::new()));
    }
    let table = table.as_object_mut()?;
    match value {
        Some(value) => table.insert(last.to_owned(), value),
        None => table.remove(last),
    }
}
