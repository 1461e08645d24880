//! Hiding secrets: one masker for the fields, messages and errors of log lines and for the attributes of spans.
//!
//! A field is hidden by its name: `password`, `user_password`, `dbPassword` and `X-Api-Key` alike. Inside texts, whatever
//! their field is called, these are hidden: the values after such names (`token=…`, `"password": "…"`,
//! `Authorization: …`), bearer and basic credentials, JSON web tokens, passwords in URLs, card numbers with a right
//! check digit, and e-mail addresses if asked for. `***` stands in their place.
//!
//! Limits: what is encoded (`pass%77ord`, base64), split over several fields, spelt with invisible characters or known to
//! nobody as a secret is not recognised. Keep secrets in [`Secret`](cqi_core::secret::Secret), which never prints itself.

mod names;
mod scan;
#[cfg(test)]
mod tests;
mod values;

use std::ops::Range;

use cqi_core::config::LogConfig;

use self::names::Names;

/// What stands in the place of a secret.
pub(crate) const HIDDEN: &str = cqi_core::secret::REDACTED;

/// What is hidden in log lines and span attributes.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redaction {
    /// The names of fields whose values are hidden, case and separators aside: `api_key` means `apiKey`, `API-KEY` and
    /// `x-api-key` too. Default: [`Redaction::FIELDS`]. Empty: none.
    pub fields: Vec<String>,
    /// Whether secrets are looked for in texts. Default true.
    pub patterns: bool,
    /// Whether e-mail addresses are hidden as well. Default false.
    pub emails: bool,
}

impl Redaction {
    /// The names that are hidden by default.
    pub const FIELDS: &[&str] = &[
        "password",
        "passwords",
        "passwd",
        "pwd",
        "passphrase",
        "secret",
        "secrets",
        "token",
        "jwt",
        "authorization",
        "cookie",
        "cookies",
        "set-cookie",
        "api_key",
        "access_key",
        "private_key",
        "credential",
        "credentials",
        "dsn",
        "otp",
        "cvv",
        "card_number",
    ];
}

impl Redaction {
    /// With what the configuration adds.
    pub(crate) fn with(mut self, config: &LogConfig) -> Self {
        self.fields.extend_from_slice(&config.redact_fields);
        self.patterns &= config.redact_patterns;
        self.emails |= config.redact_emails;
        self
    }
}

impl Default for Redaction {
    fn default() -> Self {
        Self {
            fields: Self::FIELDS.iter().map(|&name| name.to_owned()).collect(),
            patterns: true,
            emails: false,
        }
    }
}

/// Finds what is to be hidden. Nothing here allocates.
#[derive(Debug)]
pub(crate) struct Masker {
    names: Names,
    patterns: bool,
    emails: bool,
}

impl Masker {
    pub(crate) fn new(redaction: &Redaction) -> Self {
        Self {
            names: Names::new(&redaction.fields),
            patterns: redaction.patterns,
            emails: redaction.emails,
        }
    }

    /// Whether the values of a field are hidden. The answer is remembered for each name.
    pub(crate) fn hides(&self, field: &'static str) -> bool {
        self.names.remembers(field)
    }

    /// Whether a number is one that must not be seen.
    pub(crate) fn hides_number(&self, number: u128) -> bool {
        const SHORTEST_CARD: u128 = 1_000_000_000_000;
        if number < SHORTEST_CARD || !self.patterns {
            return false;
        }
        let mut buffer = itoa::Buffer::new();
        values::is_card(buffer.format(number).bytes().map(|digit| digit - b'0'))
    }

    /// The next secret in `text` at or after `from`.
    pub(crate) fn find(&self, text: &str, from: usize) -> Option<Range<usize>> {
        if !self.patterns {
            return None;
        }
        scan::find(text.as_bytes(), from, &self.names, self.emails)
    }

    /// `text` with what is to be hidden replaced.
    pub(crate) fn masked(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut shown = 0;
        while let Some(secret) = self.find(text, shown) {
            out.push_str(&text[shown..secret.start]);
            out.push_str(HIDDEN);
            shown = secret.end;
        }
        out.push_str(&text[shown..]);
        out
    }
}
