//! `${NAME}` and `${NAME:default}` in the texts of a file (CFG-17).
//!
//! One pass: what a variable holds is never searched for placeholders again (C-06). `$${` stands for `${`. A variable
//! that is not set and has no default gives the empty text, so that a required field fails (OP-15).

use serde_json::Value;

use super::env::Vars;

/// A text after expansion, and the variables it took.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expanded {
    pub(super) text: String,
    pub(super) names: Vec<String>,
}

/// Expands every text inside `value` in place; gives the names of the variables used.
pub(super) fn expand_all(value: &mut Value, vars: &Vars) -> Result<Vec<String>, String> {
    match value {
        Value::String(text) if text.contains("${") => {
            let expanded = expand(text, vars)?;
            *text = expanded.text;
            Ok(expanded.names)
        }
        Value::Array(items) => collect(items.iter_mut(), vars),
        Value::Object(table) => collect(table.values_mut(), vars),
        _ => Ok(Vec::new()),
    }
}

fn collect<'a>(values: impl Iterator<Item = &'a mut Value>, vars: &Vars) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for value in values {
        names.extend(expand_all(value, vars)?);
    }
    Ok(names)
}

fn expand(text: &str, vars: &Vars) -> Result<Expanded, String> {
    let mut out = Expanded {
        text: String::with_capacity(text.len()),
        names: Vec::new(),
    };
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, tail) = rest.split_at(at);
        let tail = &tail[2..];
        if let Some(before) = before.strip_suffix('$') {
            out.text.push_str(before);
            out.text.push_str("${");
            rest = tail;
            continue;
        }
        out.text.push_str(before);
        let (inside, after) = tail.split_once('}').ok_or("the placeholder has no closing `}`")?;
        let (name, default) = inside.split_once(':').unwrap_or((inside, ""));
        if default.contains("${") {
            return Err("placeholders do not nest".into());
        }
        if !is_name(name) {
            return Err("the placeholder's name must be [A-Za-z_][A-Za-z0-9_]*".into());
        }
        out.text.push_str(vars.get(name).unwrap_or(default));
        out.names.push(name.to_owned());
        rest = after;
    }
    out.text.push_str(rest);
    Ok(out)
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with(text: &str) -> Result<String, String> {
        let vars = Vars::from_pairs([("HOST", "db"), ("EMPTY", ""), ("NESTED", "${HOST}")]);
        expand(text, &vars).map(|expanded| expanded.text)
    }

    #[test]
    fn cfg_17_the_value_else_the_default() {
        for (text, expected) in [
            ("${HOST}", "db"),
            ("${HOST:localhost}", "db"),
            ("${NONE:localhost}", "localhost"),
            ("${NONE:localhost:9092}", "localhost:9092"),
            ("${NONE:}", ""),
            ("${EMPTY:localhost}", ""),
            ("tcp://${HOST}:${PORT:1}/x", "tcp://db:1/x"),
            ("costs $5 {HOST}", "costs $5 {HOST}"),
        ] {
            assert_eq!(with(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn op_15_unset_without_default_is_empty() {
        assert_eq!(with("${NONE}").as_deref(), Ok(""));
    }

    #[test]
    fn c_06_one_pass_without_recursion() {
        assert_eq!(with("${NESTED}").as_deref(), Ok("${HOST}"));
        assert_eq!(with("$${HOST}").as_deref(), Ok("${HOST}"));
        assert_eq!(with("$${HOST}${HOST}").as_deref(), Ok("${HOST}db"));
        for bad in ["${", "${}", "${HOST", "${a b}", "${1A}", "${A:${B}}"] {
            assert!(with(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_expanded_or_refused(text in "[$:{}A-C ]{0,40}") {
            let _ = with(&text);
        }
    }
}
