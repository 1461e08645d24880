//! Configuration files: YAML, TOML and JSON, chosen by extension.

mod parse;

use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

use self::parse::Format;
use super::{Keys, Settings, Source, env::Vars, placeholder};

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// One file.
#[derive(Debug)]
pub(super) struct FileSource {
    path: PathBuf,
    /// The file's name without its folder, for errors.
    name: String,
    optional: bool,
    priority: i32,
    vars: Vars,
}

impl FileSource {
    pub(super) fn new(path: PathBuf, optional: bool, priority: i32, vars: Vars) -> Self {
        let name = path
            .file_name()
            .map_or_else(|| path.to_string_lossy(), |name| name.to_string_lossy());
        Self {
            name: name.into_owned(),
            path,
            optional,
            priority,
            vars,
        }
    }
}

impl Source for FileSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn priority(&self) -> i32 {
        self.priority
    }

    fn read(&self, keys: &Keys, settings: &mut Settings) {
        let path = self.path.display().to_string();
        let Some(format) = Format::of(&self.path) else {
            return settings.refuse(
                "",
                "unknown kind of file, expected .yaml, .yml, .toml or .json",
                path,
            );
        };
        let text = match read(&self.path) {
            Ok(text) => text,
            Err(Unreadable::Missing) if self.optional => return,
            Err(Unreadable::Missing) => return settings.refuse("", "no such file", path),
            Err(Unreadable::Because(why)) => return settings.refuse("", why, path),
        };
        take(&self.name, &path, format.parse(&text), keys, &self.vars, settings);
    }
}

/// A YAML text that is part of the program: its own defaults, below every file.
#[derive(Debug)]
pub(super) struct EmbeddedSource {
    pub(super) text: String,
    pub(super) priority: i32,
    pub(super) vars: Vars,
}

impl Source for EmbeddedSource {
    fn name(&self) -> &'static str {
        "built-in configuration"
    }

    fn priority(&self) -> i32 {
        self.priority
    }

    fn read(&self, keys: &Keys, settings: &mut Settings) {
        take(
            self.name(),
            self.name(),
            Format::Yaml.parse(&self.text),
            keys,
            &self.vars,
            settings,
        );
    }
}

/// Takes over a parsed text, or refuses it naming where it stands.
fn take(
    name: &str,
    place: &str,
    parsed: Result<serde_json::Value, String>,
    keys: &Keys,
    vars: &Vars,
    settings: &mut Settings,
) {
    match parsed {
        Ok(table) => {
            let mut found = Settings::default();
            found.set_table(keys, &table, name);
            expand(&mut found, vars);
            settings.given.append(&mut found.given);
            settings.named.append(&mut found.named);
            settings.violations.append(&mut found.violations);
        }
        Err(why) => settings.refuse("", why, place),
    }
}

/// Fills in the placeholders of every value.
fn expand(settings: &mut Settings, vars: &Vars) {
    for mut given in std::mem::take(&mut settings.given) {
        match placeholder::expand_all(&mut given.value, vars) {
            Ok(names) if names.is_empty() => settings.given.push(given),
            Ok(names) => {
                given.loose = true;
                given.origin = format!("{}, {}", given.origin, names.join(", "));
                settings.given.push(given);
                settings.named.extend(names);
            }
            Err(why) => settings.refuse(given.key, why, given.origin),
        }
    }
}

enum Unreadable {
    Missing,
    Because(String),
}

fn read(path: &Path) -> Result<String, Unreadable> {
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => Unreadable::Missing,
        _ => Unreadable::Because(format!("cannot be read: {error}")),
    };
    // Asked before opening: opening a pipe would wait for its writer.
    if !path.metadata().map_err(failed)?.is_file() {
        return Err(Unreadable::Because("is not a file".into()));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(failed)?
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Unreadable::Because(format!("is larger than {MAX_FILE} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| Unreadable::Because("is not UTF-8".into()))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}
