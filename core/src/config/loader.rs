//! Putting the sources together.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    Keys, Settings, Source, Validate,
    env::{Env, Vars},
    file::{EmbeddedSource, FileSource},
    resolve::{fill, resolve},
    source::Flags,
    validate::into_error,
};
use crate::{Error, Result, secret::REDACTED};

/// Loads a configuration from a file and the variables with `prefix` (CFG-13). Warnings are logged.
///
/// # Errors
/// `InvalidInput` that names everything that is wrong; see [`violations`](super::violations).
pub fn load<T>(path: impl Into<PathBuf>, prefix: &str) -> Result<T>
where
    T: Serialize + DeserializeOwned + Default + Validate,
{
    Ok(Loader::new().file(path).env_prefix(prefix).load()?.value)
}

/// As [`load`], for `main`.
///
/// # Panics
/// When the configuration cannot be loaded, with the error's text. This is the only deliberate panic of cqi (RS-12).
#[allow(clippy::panic)] // what it is for
pub fn must_load<T>(path: impl Into<PathBuf>, prefix: &str) -> T
where
    T: Serialize + DeserializeOwned + Default + Validate,
{
    load(path, prefix).unwrap_or_else(|error| panic!("{error}"))
}

/// A loaded configuration and what there is to say about it.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    /// The configuration.
    pub value: T,
    /// What the operator should know: variables that fit no key. Already logged.
    pub warnings: Vec<String>,
    pub(super) origins: BTreeMap<String, String>,
}

impl<T> Loaded<T> {
    /// Where the value of `key` came from: `config.yaml`, `CQI_DATABASE_PORT`, `default`.
    pub fn origin(&self, key: &str) -> &str {
        self.origins.get(key).map_or(DEFAULT, String::as_str)
    }
}

/// The origin of what nobody has set.
pub(super) const DEFAULT: &str = "default";

/// Builds a configuration from sources. They are read when [`Loader::load`] is called; that blocks on files, so call
/// it before the runtime is busy.
#[derive(Debug, Default)]
pub struct Loader {
    files: Vec<(PathBuf, bool)>,
    prefix: Option<String>,
    flags: Vec<(String, String)>,
    flags_priority: Option<i32>,
    vars: Option<Vars>,
    sources: Vec<Box<dyn Source>>,
    embedded: Option<String>,
    file_variable: Option<String>,
}

impl Loader {
    /// A loader without sources: it gives the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a file: `.yaml`, `.yml`, `.toml` or `.json`, of at most 1 MiB. A missing file is an error. Of several
    /// files the later ones win: the first has priority 200, the next 201.
    ///
    /// In texts, `${NAME}` is replaced by the variable of that name, or by nothing, and `${NAME:default}` by the
    /// variable or the default; `$${` stands for `${`. Such a text may fill a number, a bool or a list too.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.push((path.into(), false));
        self
    }

    /// Takes a YAML text that is part of the program, usually by `include_str!`: its own defaults, priority 50. Written as
    /// a file is; see [`Loader::file`].
    pub fn embedded(mut self, yaml: impl Into<String>) -> Self {
        self.embedded = Some(yaml.into());
        self
    }

    /// As [`Loader::file`], and the file may be missing.
    pub fn optional_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.push((path.into(), true));
        self
    }

    /// Reads the file that this environment variable names, if it is set and not empty. The variable may have the prefix;
    /// it is no setting then.
    pub fn file_variable(mut self, name: impl Into<String>) -> Self {
        self.file_variable = Some(name.into());
        self
    }

    /// Reads the environment variables that begin with `prefix` and `_`. The prefix is `[A-Z][A-Z0-9_]*`.
    pub fn env_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// Takes these variables for the environment, for the prefix and for placeholders. Default: the process's own.
    pub fn vars<K: Into<OsString>, V: Into<OsString>>(
        mut self,
        vars: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.vars = Some(Vars::from_pairs(vars));
        self
    }

    /// Sets a key from the command line. Call it only for flags that were given. Files and environment win over flags
    /// unless [`Loader::flags_priority`] raises them.
    pub fn flag(mut self, key: impl Into<String>, text: impl Into<String>) -> Self {
        self.flags.push((key.into(), text.into()));
        self
    }

    /// Sets the priority of the flags. Default 100; above 300 they win over everything.
    pub fn flags_priority(mut self, priority: i32) -> Self {
        self.flags_priority = Some(priority);
        self
    }

    /// Adds a source.
    pub fn source(mut self, source: impl Source + 'static) -> Self {
        self.sources.push(Box::new(source));
        self
    }

    /// Reads every source, merges, and validates.
    ///
    /// # Errors
    /// `InvalidInput` for a wrong prefix, two sources of one priority, or naming everything that is wrong with the
    /// configuration; `Permanent` when `T`'s default cannot be serialised and read back.
    pub fn load<T>(self) -> Result<Loaded<T>>
    where
        T: Serialize + DeserializeOwned + Default + Validate,
    {
        let default = T::default();
        let keys = Keys::of(&default)?;
        let mut settings = Settings::default();
        for source in self.into_sources()? {
            source.read(&keys, &mut settings);
        }
        for warning in &settings.warnings {
            tracing::warn!(warning = warning.as_str(), "configuration");
        }
        resolve(&keys, settings, &default).map_err(into_error_or_own)
    }

    /// Every environment variable with its value without an environment, one `NAME=value` a line, for a program's
    /// `--help`. Secrets are left empty, and URLs show none.
    ///
    /// # Errors
    /// As [`Loader::load`] but for broken rules.
    pub fn describe<T>(mut self) -> Result<String>
    where
        T: Serialize + DeserializeOwned + Default,
    {
        let default = T::default();
        let keys = Keys::of(&default)?;
        self.vars = Some(Vars::default());
        let prefix = self.prefix.take().unwrap_or_default();
        let env = Env {
            prefix,
            vars: Vars::default(),
            not_a_setting: None,
        };
        let mut settings = Settings::default();
        for source in self.into_sources()? {
            source.read(&keys, &mut settings);
        }
        let (filled, violations) = fill(&keys, settings, &default).map_err(into_error_or_own)?;
        if !violations.is_empty() {
            return Err(into_error(violations));
        }
        // As the types show themselves, so that secrets stay hidden.
        let shown = serde_json::to_value(&filled.value).unwrap_or_default();
        let mut lines = String::new();
        for key in keys.iter() {
            let value = key.split('.').try_fold(&shown, |tree, segment| tree.get(segment));
            let value = value.map(as_text).unwrap_or_default();
            lines.push_str(&format!("  {}={value}\n", env.variable(key)));
        }
        Ok(lines)
    }

    /// All sources, the lowest priority first.
    fn into_sources(self) -> Result<Vec<Box<dyn Source>>> {
        let vars = self.vars.unwrap_or_else(Vars::of_process);
        let mut sources = self.sources;
        if let Some(text) = self.embedded {
            sources.push(Box::new(EmbeddedSource {
                text,
                priority: 50,
                vars: vars.clone(),
            }));
        }
        let named = self
            .file_variable
            .as_deref()
            .and_then(|name| vars.get(name))
            .filter(|path| !path.is_empty());
        let named = named.map(|path| (PathBuf::from(path), false));
        for (priority, (path, optional)) in (200..).zip(self.files.into_iter().chain(named)) {
            sources.push(Box::new(FileSource::new(path, optional, priority, vars.clone())));
        }
        if !self.flags.is_empty() {
            let priority = self.flags_priority.unwrap_or(100);
            sources.push(Box::new(Flags {
                priority,
                given: self.flags,
            }));
        }
        if let Some(prefix) = self.prefix {
            Env::check_prefix(&prefix).map_err(|e| e.with_operation("configuration"))?;
            sources.push(Box::new(Env {
                prefix,
                vars,
                not_a_setting: self.file_variable,
            }));
        }
        sources.sort_by_key(|source| source.priority());
        for pair in sources.windows(2) {
            if let [a, b] = pair
                && a.priority() == b.priority()
            {
                let why = format!(
                    "sources {} and {} have the same priority, {}",
                    a.name(),
                    b.name(),
                    a.priority()
                );
                return Err(Error::invalid_input(why).with_operation("configuration"));
            }
        }
        Ok(sources)
    }
}

/// A value as a variable has it; a secret is the empty text.
fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) if text == REDACTED => String::new(),
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Array(items) => {
            let texts = items.iter().map(as_text).filter(|text| !text.is_empty());
            texts.collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}

fn into_error_or_own(failure: super::resolve::Failure) -> Error {
    match failure {
        super::resolve::Failure::Violations(violations) => into_error(violations),
        super::resolve::Failure::Type(why) => {
            Error::permanent(format!("the default cannot be read back: {why}"))
                .with_operation("configuration")
        }
    }
}
