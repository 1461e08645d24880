//! A statement: SQL text and its parameters.

use std::{borrow::Cow, fmt};

use super::{ToValue, Value};

/// SQL with `$1`, `$2`, … and one value for each. Values travel apart from the text and never become part of it.
///
/// ```
/// use cqi_core::database::sql;
///
/// let statement = sql("UPDATE asset SET name = $1 WHERE id = $2").bind("Bitcoin").bind(7);
/// assert_eq!(statement.operation(), "UPDATE");
/// ```
#[derive(Clone)]
#[must_use]
pub struct Statement {
    text: Cow<'static, str>,
    params: Vec<Value>,
}

/// A statement without parameters yet; add them in order with [`Statement::bind`].
pub fn sql(text: impl Into<Cow<'static, str>>) -> Statement {
    Statement {
        text: text.into(),
        params: Vec::new(),
    }
}

impl Statement {
    /// Adds the value of the next parameter.
    pub fn bind(mut self, value: impl ToValue) -> Self {
        self.params.push(value.to_value());
        self
    }

    /// The SQL.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The values, in order.
    pub fn params(&self) -> &[Value] {
        &self.params
    }

    /// Both parts, for adapters.
    pub fn into_parts(self) -> (Cow<'static, str>, Vec<Value>) {
        (self.text, self.params)
    }

    /// The first word, for logs and errors: `SELECT`, `INSERT`, … Comments and opening brackets before it are skipped.
    pub fn operation(&self) -> &str {
        let mut text = self.text.as_ref();
        loop {
            text = text.trim_start_matches(|c: char| c.is_whitespace() || c == '(' || c == ';');
            let comment = if let Some(rest) = text.strip_prefix("--") {
                rest.split_once('\n')
            } else if let Some(rest) = text.strip_prefix("/*") {
                rest.split_once("*/")
            } else {
                break;
            };
            text = comment.map_or("", |(_, rest)| rest);
        }
        let end = text
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(text.len());
        &text[..end]
    }
}

impl fmt::Debug for Statement {
    /// Shows the text and how many parameters there are, never their values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statement")
            .field("text", &self.text)
            .field("params", &self.params.len())
            .finish()
    }
}

impl From<&'static str> for Statement {
    fn from(text: &'static str) -> Self {
        sql(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operation_is_the_first_word() {
        for (text, operation) in [
            ("SELECT 1", "SELECT"),
            (" ;\n insert into a", "insert"),
            ("-- why\n/* what; */ (UPDATE a", "UPDATE"),
            ("-- only", ""),
            ("", ""),
            ("1", ""),
        ] {
            assert_eq!(sql(text).operation(), operation, "{text}");
        }
    }

    #[test]
    fn s_01_debug_shows_no_value() {
        let shown = format!("{:?}", sql("SELECT $1").bind("canary"));
        assert!(
            shown.contains("SELECT $1") && !shown.contains("canary"),
            "{shown}"
        );
    }
}
