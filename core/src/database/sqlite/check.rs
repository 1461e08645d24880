//! What a statement's text says before SQLite sees it. The driver would bind null for a missing value in silence,
//! run several statements in one text, and hang on a NUL.

use crate::{Error, Result};

/// What [`scan`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// The highest `n` of all `$n`.
    pub(super) parameters: usize,
    /// Where each statement after the first begins.
    pub(super) later: Vec<usize>,
}

/// Looks at the text outside of quotes and comments.
pub(super) fn scan(text: &str) -> Result<Scan> {
    if text.contains('\0') {
        return Err(Error::invalid_input("the statement holds a NUL character"));
    }
    let bytes = text.as_bytes();
    let (mut parameters, mut later, mut ended, mut empty) = (0, Vec::new(), false, true);
    let mut at = 0;
    // Where the quote or comment that starts here ends.
    let after = |from: usize, end: &str| {
        text.get(from..)
            .and_then(|rest| rest.find(end))
            .map_or(bytes.len(), |n| from + n + end.len())
    };
    while let Some(&byte) = bytes.get(at) {
        let here = at;
        let next = bytes.get(at + 1).copied();
        at = match byte {
            b'\'' => after(at + 1, "'"),
            b'"' => after(at + 1, "\""),
            b'`' => after(at + 1, "`"),
            b'[' => after(at + 1, "]"),
            b'-' if next == Some(b'-') => after(at + 2, "\n"),
            b'/' if next == Some(b'*') => after(at + 2, "*/"),
            b'?' => return Err(Error::invalid_input("parameters are written $1, $2, …, not ?")),
            b'$' if at == 0 || !is_word(bytes[at - 1]) => {
                let digits = bytes[at + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
                let number = text[at + 1..at + 1 + digits].parse().unwrap_or(0);
                if number == 0 {
                    return Err(Error::invalid_input("parameters are written $1, $2, …"));
                }
                parameters = parameters.max(number);
                at + 1 + digits
            }
            _ => at + 1,
        };
        let comment = matches!((byte, next), (b'-', Some(b'-')) | (b'/', Some(b'*')));
        match byte {
            b';' => ended = !empty,
            byte if !byte.is_ascii_whitespace() && !comment => {
                if ended {
                    later.push(here);
                    ended = false;
                }
                empty = false;
            }
            _ => {}
        }
    }
    if empty {
        return Err(Error::invalid_input("the statement is empty"));
    }
    Ok(Scan { parameters, later })
}

/// Whether a text holds more than one statement. Most are told apart by a look for `;`.
pub(super) fn is_several(text: &str) -> bool {
    let end = |c: char| c.is_whitespace() || c == ';';
    text.trim_end_matches(end).contains(';') && scan(text).is_ok_and(|scan| !scan.later.is_empty())
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// Whether `operation` changes tables, so that prepared statements may have become stale.
pub(super) fn changes_schema(operation: &str) -> bool {
    is_one_of(operation, &["CREATE", "ALTER", "DROP", "REINDEX"])
}

/// Whether SQLite's count of changed rows belongs to this statement; after any other it is an earlier one's.
pub(super) fn changes_rows(operation: &str, text: &str) -> bool {
    const WRITES: [&str; 4] = ["INSERT", "UPDATE", "DELETE", "REPLACE"];
    is_one_of(operation, &WRITES)
        || (is_one_of(operation, &["WITH"])
            && text
                .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .any(|word| is_one_of(word, &WRITES)))
}

/// Whether a statement needs the write lock.
pub(super) fn writes(operation: &str, text: &str) -> bool {
    !is_one_of(operation, &["SELECT", "VALUES", "EXPLAIN", "PRAGMA", "WITH"]) || changes_rows(operation, text)
}

/// Refuses what would begin or end a transaction behind the port's back, in the statements after the first. Inside of
/// a trigger's body, which `END` closes, nothing can.
pub(super) fn refuse_later_transaction_control(
    text: &str,
    later: &[usize],
    in_transaction: bool,
) -> Result<()> {
    let mut in_trigger = begins_trigger(text);
    for &start in later {
        let statement = text.get(start..).unwrap_or_default();
        let end = statement
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(statement.len());
        let operation = &statement[..end];
        if in_trigger {
            in_trigger = !is_one_of(operation, &["END"]);
            continue;
        }
        refuse_transaction_control(operation, statement, in_transaction)?;
        in_trigger = begins_trigger(statement);
    }
    Ok(())
}

/// Whether the first statement of a text is a `CREATE TRIGGER`. Whoever hides those words in a comment before it gets a
/// refusal, not a hole.
fn begins_trigger(text: &str) -> bool {
    let mut words = text.split_ascii_whitespace();
    let mut next_is = |wanted: &[&str]| words.next().is_some_and(|word| is_one_of(word, wanted));
    next_is(&["CREATE"]) && {
        let second = text.split_ascii_whitespace().nth(1).unwrap_or_default();
        is_one_of(second, &["TRIGGER"]) || (next_is(&["TEMP", "TEMPORARY"]) && next_is(&["TRIGGER"]))
    }
}

/// Refuses what would begin or end a transaction behind the port's back.
pub(super) fn refuse_transaction_control(operation: &str, text: &str, in_transaction: bool) -> Result<()> {
    let refused = if is_one_of(operation, &["ROLLBACK"]) {
        !in_transaction || !goes_to_savepoint(text)
    } else if is_one_of(operation, &["SAVEPOINT", "RELEASE"]) {
        !in_transaction
    } else {
        is_one_of(operation, &["BEGIN", "COMMIT", "END"])
    };
    if refused {
        return Err(Error::invalid_input(
            "transactions begin with Database::begin and end with commit or rollback",
        ));
    }
    Ok(())
}

/// Whether a `ROLLBACK` goes back to a savepoint. Whoever hides words in a comment gets a refusal, not a hole.
fn goes_to_savepoint(text: &str) -> bool {
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || c == ';');
    let statement = text.split(';').next().unwrap_or_default();
    let mut words = statement.split_ascii_whitespace().skip(1).take(2);
    let hides = statement.contains("--") || statement.contains("/*");
    !hides && words.any(|word| word.eq_ignore_ascii_case("TO"))
}

fn is_one_of(operation: &str, words: &[&str]) -> bool {
    words.iter().any(|word| word.eq_ignore_ascii_case(operation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_counted_outside_of_quotes_and_comments() {
        for (text, parameters, several) in [
            ("SELECT 1", 0, false),
            ("SELECT $1, $2, $1", 2, false),
            (
                "SELECT '$3', \"$4\", [$5], `$6`, a$7 -- $8\n, /* $9; */ $1 ;",
                1,
                false,
            ),
            ("SELECT 'it''s $2' || $1; -- done", 1, false),
            ("SELECT 'ü$1' || $10", 10, false),
            ("CREATE TABLE a (b); CREATE TABLE c (d);", 0, true),
            ("SELECT 'open", 0, false),
            (" ; SELECT 1", 0, false),
        ] {
            let found = scan(text).unwrap();
            assert_eq!(
                (found.parameters, !found.later.is_empty()),
                (parameters, several),
                "{text}"
            );
        }
        for bad in [
            "",
            " ;; -- nothing\n /* at all */",
            "SELECT ?",
            "SELECT $0",
            "SELECT $name",
            "SELECT $",
            "SELECT 1;\0",
            "SELECT '\0'",
            "SELECT $99999999999999999999",
        ] {
            assert!(scan(bad).unwrap_err().is_invalid_input(), "{bad}");
        }
    }

    #[test]
    fn transaction_control_is_left_to_the_port() {
        for (operation, text, in_transaction, refused) in [
            ("BEGIN", "BEGIN", false, true),
            ("commit", "commit", true, true),
            ("ROLLBACK", "ROLLBACK", true, true),
            ("ROLLBACK", "ROLLBACK TO cqi", true, false),
            ("ROLLBACK", "ROLLBACK TRANSACTION TO SAVEPOINT cqi", true, false),
            ("ROLLBACK", "ROLLBACK TO cqi", false, true),
            ("ROLLBACK", "ROLLBACK /* TO */", true, true),
            ("ROLLBACK", "ROLLBACK -- TO\n", true, true),
            ("ROLLBACK", "ROLLBACK; VALUES (to)", true, true),
            ("ROLLBACK", "ROLLBACK TO s; SELECT 1", true, false),
            ("SAVEPOINT", "SAVEPOINT cqi", true, false),
            ("SAVEPOINT", "SAVEPOINT cqi", false, true),
            ("SELECT", "SELECT 1", false, false),
        ] {
            assert_eq!(
                refuse_transaction_control(operation, text, in_transaction).is_err(),
                refused,
                "{text}"
            );
            let hidden = format!("SELECT ';'; -- ;\n {text};");
            let later = scan(&hidden).unwrap().later;
            let result = refuse_later_transaction_control(&hidden, &later, in_transaction);
            assert_eq!(result.is_err(), refused, "{hidden}");
        }
    }
}
