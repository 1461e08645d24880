//! What a statement's text says before the server sees it, where the server would not mind.

use cqi_core::{Error, Result};

/// The statements of a text, without those that are empty. Cuts at each `;` outside of quotes and comments.
pub(crate) fn split(text: &str) -> Result<Vec<&str>> {
    if text.contains('\0') {
        return Err(Error::invalid_input("the statement holds a NUL character"));
    }
    let bytes = text.as_bytes();
    let (mut found, mut start, mut at, mut empty) = (Vec::new(), 0, 0, true);
    let mut body = Body::default();
    while let Some(&byte) = bytes.get(at) {
        let next = skip(text, at);
        let comment = (byte == b'-' || byte == b'/') && next > at + 1;
        if is_word(byte) && (at == 0 || !is_word(bytes[at - 1])) {
            body.word(&text[at..]);
        }
        if byte == b';' && body.depth == 0 {
            if !empty {
                found.push(&text[start..at]);
            }
            empty = true;
        } else if !byte.is_ascii_whitespace() && !comment {
            if empty {
                start = at;
            }
            empty = false;
        }
        at = next;
    }
    if !empty {
        found.push(&text[start..]);
    }
    if found.is_empty() {
        return Err(Error::invalid_input("the statement is empty"));
    }
    Ok(found)
}

/// The body of a function that is written as statements, `BEGIN ATOMIC …; END`.
#[derive(Default)]
struct Body {
    /// How many words `END` are to come.
    depth: usize,
    after_begin: bool,
}

impl Body {
    /// Takes the word at the beginning of `text`.
    fn word(&mut self, text: &str) {
        let word = words(text).next();
        if self.depth > 0 {
            self.depth += usize::from(is_one_of(word, &["CASE"]));
            self.depth -= usize::from(is_one_of(word, &["END"]));
        } else if self.after_begin && is_one_of(word, &["ATOMIC"]) {
            self.depth = 1;
        }
        self.after_begin = is_one_of(word, &["BEGIN"]);
    }
}

/// Where what begins at `at` ends: a quote or comment as a whole, else one byte.
fn skip(text: &str, at: usize) -> usize {
    let bytes = text.as_bytes();
    let after = |from: usize, end: &str| {
        text.get(from..)
            .and_then(|rest| rest.find(end))
            .map_or(bytes.len(), |n| from + n + end.len())
    };
    let word_before = at > 0 && is_word(bytes[at - 1]);
    match (bytes[at], bytes.get(at + 1)) {
        (b'\'', _) => {
            let escapes =
                at > 0 && matches!(bytes[at - 1], b'e' | b'E') && !(at > 1 && is_word(bytes[at - 2]));
            if escapes {
                after_escapes(bytes, at + 1)
            } else {
                after(at + 1, "'")
            }
        }
        (b'"', _) => after(at + 1, "\""),
        (b'-', Some(b'-')) => after(at + 2, "\n"),
        (b'/', Some(b'*')) => after_comment(bytes, at + 2),
        (b'$', _) if !word_before => match dollar_tag(text, at) {
            Some(tag) => after(at + tag.len(), tag),
            None => at + 1,
        },
        _ => at + 1,
    }
}

/// `E'…'`, in which a backslash escapes the quote.
fn after_escapes(bytes: &[u8], mut at: usize) -> usize {
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'\'' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Comments nest.
fn after_comment(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 1_usize;
    while depth > 0 && at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            (b'/', Some(b'*')) => (depth, at) = (depth + 1, at + 2),
            (b'*', Some(b'/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    at
}

/// `$$` or `$tag$`; `$1` is a parameter.
fn dollar_tag(text: &str, at: usize) -> Option<&str> {
    let rest = &text[at + 1..];
    let end = rest.find('$')?;
    let tag = &rest.as_bytes()[..end];
    let is_tag =
        tag.first().is_none_or(|byte| !byte.is_ascii_digit()) && tag.iter().all(|byte| is_word(*byte));
    is_tag.then(|| &text[at..at + end + 2])
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn words(statement: &str) -> impl Iterator<Item = &str> {
    statement
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
}

fn is_one_of(word: Option<&str>, list: &[&str]) -> bool {
    word.is_some_and(|word| list.iter().any(|one| one.eq_ignore_ascii_case(word)))
}

/// Refuses what would begin or end a transaction behind the port's back.
pub(crate) fn refuse_transaction_control(statement: &str) -> Result<()> {
    let mut words = words(statement);
    let (first, second, third) = (words.next(), words.next(), words.next());
    let to = &["TO"];
    // Whoever hides words in a comment gets a refusal, not a hole.
    let hides = statement.contains("--") || statement.contains("/*");
    let refused = is_one_of(first, &["BEGIN", "START", "COMMIT", "END", "ABORT"])
        || is_one_of(first, &["PREPARE"]) && (is_one_of(second, &["TRANSACTION"]) || hides)
        || is_one_of(first, &["ROLLBACK"]) && (!is_one_of(second, to) && !is_one_of(third, to) || hides);
    if refused {
        return Err(Error::invalid_input(
            "transactions begin with Database::begin and end with commit or rollback",
        ));
    }
    Ok(())
}

/// Whether a statement changes the session for whoever gets the connection next.
pub(crate) fn changes_session(statement: &str) -> bool {
    const WORDS: [&str; 9] = [
        "SET",
        "RESET",
        "LISTEN",
        "UNLISTEN",
        "PREPARE",
        "DEALLOCATE",
        "DISCARD",
        "LOAD",
        "DECLARE",
    ];
    const TEMPORARY: [&str; 2] = ["TEMP", "TEMPORARY"];
    let has = |word: &str| words(statement).any(|one| one.eq_ignore_ascii_case(word));
    let mut words = words(statement);
    match words.next() {
        first if is_one_of(first, &WORDS) => {
            !is_one_of(words.next(), &["LOCAL", "TRANSACTION", "CONSTRAINTS"])
        }
        // A table of the session, unless it ends with the transaction (`ON COMMIT DROP`).
        first if is_one_of(first, &["CREATE"]) => {
            let kind = words.find(|word| !is_one_of(Some(word), &["OR", "REPLACE", "GLOBAL", "LOCAL"]));
            is_one_of(kind, &TEMPORARY) && !has("DROP")
        }
        first => {
            let makes_table = is_one_of(first, &["SELECT", "WITH"])
                && words.any(|word| is_one_of(Some(word), &["INTO"]))
                && is_one_of(
                    words.find(|word| !is_one_of(Some(word), &["GLOBAL", "LOCAL"])),
                    &TEMPORARY,
                );
            // The third argument says whether it is for the transaction only.
            makes_table || has("set_config") && (has("false") || !has("true"))
        }
    }
}

/// Whether a statement may commit within, so that part of it stays when it fails.
pub(crate) fn commits(statement: &str) -> bool {
    is_one_of(words(statement).next(), &["CALL", "DO"])
}

/// Whether a statement changes tables, so that prepared statements may have become stale.
pub(crate) fn changes_schema(statement: &str) -> bool {
    is_one_of(words(statement).next(), &["ALTER", "DROP"])
}

/// Whether the server's count is of changed rows; for others it is of rows found.
pub(crate) fn changes_rows(statement: &str) -> bool {
    const WRITES: [&str; 4] = ["INSERT", "UPDATE", "DELETE", "MERGE"];
    let first = words(statement).next();
    is_one_of(first, &WRITES)
        || is_one_of(first, &["WITH"]) && words(statement).any(|word| is_one_of(Some(word), &WRITES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_cut_outside_of_quotes_and_comments() {
        for (text, expected) in [
            ("SELECT 1", vec!["SELECT 1"]),
            (" ;SELECT 1 ; ;", vec!["SELECT 1 "]),
            (
                "SELECT ';', \"a;b\" -- ;\n, 'it''s;'",
                vec!["SELECT ';', \"a;b\" -- ;\n, 'it''s;'"],
            ),
            (
                "-- x;\nSELECT 1; /* a /* ; */ ; */ SELECT 2",
                vec!["SELECT 1", "SELECT 2"],
            ),
            (
                "SELECT E'\\';', e'a'; SELECT 2",
                vec!["SELECT E'\\';', e'a'", " SELECT 2".trim()],
            ),
            ("DO $$ a; b $$; SELECT $1", vec!["DO $$ a; b $$", "SELECT $1"]),
            (
                "DO $x$ a; $$; $x$; SELECT 2",
                vec!["DO $x$ a; $$; $x$", "SELECT 2"],
            ),
            ("SELECT $1;$2", vec!["SELECT $1", "$2"]),
            (
                "CREATE FUNCTION f() BEGIN ATOMIC SELECT CASE 1 WHEN 1 THEN 2 END; SELECT 3; END; SELECT 4",
                vec![
                    "CREATE FUNCTION f() BEGIN ATOMIC SELECT CASE 1 WHEN 1 THEN 2 END; SELECT 3; END",
                    "SELECT 4",
                ],
            ),
            ("SELECT x.atomic; SELECT 2", vec!["SELECT x.atomic", "SELECT 2"]),
            ("SELECT 'open;", vec!["SELECT 'open;"]),
            ("SELECT 1 - 2; SELECT 4 / 2", vec!["SELECT 1 - 2", "SELECT 4 / 2"]),
        ] {
            assert_eq!(split(text).unwrap(), expected, "{text}");
        }
        for bad in ["", " ;; -- nothing\n /* at all */", "SELECT 1\0"] {
            assert!(split(bad).unwrap_err().is_invalid_input(), "{bad}");
        }
    }

    #[test]
    fn transaction_control_is_left_to_the_port() {
        for (text, refused) in [
            ("BEGIN", true),
            ("start transaction", true),
            ("commit", true),
            ("END", true),
            ("ABORT", true),
            ("PREPARE TRANSACTION 'x'", true),
            ("ROLLBACK", true),
            ("ROLLBACK PREPARED 'x'", true),
            ("ROLLBACK /* TO */", true),
            ("ROLLBACK -- TO\n", true),
            ("PREPARE /* x */ TRANSACTION 'x'", true),
            ("ROLLBACK TO cqi", false),
            ("ROLLBACK TRANSACTION TO SAVEPOINT cqi", false),
            ("SAVEPOINT cqi", false),
            ("SELECT 1", false),
        ] {
            assert_eq!(refuse_transaction_control(text).is_err(), refused, "{text}");
        }
    }

    #[test]
    fn statements_are_sorted_by_their_words() {
        assert!(changes_session("SET search_path = x") && !changes_session("SET LOCAL a = 1"));
        assert!(
            changes_session("create temp table a (b int)") && !changes_session("CREATE TABLE temp (b int)")
        );
        assert!(!changes_session("CREATE TEMP TABLE a (b int) ON COMMIT DROP"));
        assert!(changes_session("SELECT 1 AS a INTO TEMPORARY b"));
        assert!(changes_session(
            "with a as (select 1) select * into temp b from a"
        ));
        assert!(!changes_session("INSERT INTO temp SELECT 1") && !changes_session("SELECT temp FROM a"));
        assert!(changes_session("SELECT set_config('a.b', $1, false)"));
        assert!(changes_session("SELECT set_config('a.b', $1, $2)"));
        assert!(!changes_session("SELECT pg_catalog.set_config('a.b', $1, true)"));
        assert!(commits("call p(1)") && commits("DO $$ x $$") && !commits("SELECT 1"));
        assert!(changes_schema("alter table a") && !changes_schema("SELECT 1"));
        assert!(changes_rows("with a as (delete from b) select 1") && !changes_rows("SELECT 1"));
    }
}
