//! SQL without values, for spans and logs.

/// The longest outline, in bytes.
const MAX: usize = 2048;

/// The text of a statement as it may be shown: literals become `?`, comments go, white space becomes one blank, and what
/// is over 2 KiB is cut. Parameters (`$1`) and names stay; a name in double quotes is taken for a name, even where SQLite
/// would take it for a text.
///
/// ```
/// use cqi_core::database::outline;
/// assert_eq!(outline("SELECT id  FROM asset WHERE name = 'Bitcoin' AND n > $1"), "SELECT id FROM asset WHERE name = ? AND n > $1");
/// ```
pub fn outline(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len().min(MAX));
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        if out.len() >= MAX {
            let end = (0..=MAX).rev().find(|end| out.is_char_boundary(*end));
            out.truncate(end.unwrap_or(0));
            break;
        }
        let in_word = out
            .chars()
            .next_back()
            .is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '$'));
        let (length, shown) = match first {
            '\'' => {
                // E'..', X'..', N'..': the prefix is part of the literal.
                let prefix = literal_prefix(&out);
                if let Some(prefix) = prefix {
                    out.pop();
                    (quoted(rest, prefix.eq_ignore_ascii_case(&'e')), "?")
                } else {
                    (quoted(rest, false), "?")
                }
            }
            '"' | '`' => {
                let length = name(rest, first);
                (length, &rest[..length])
            }
            '$' if !in_word => match dollar_quoted(rest) {
                Some(length) => (length, "?"),
                None => (1, "$"),
            },
            '-' if rest.starts_with("--") => (rest.find('\n').unwrap_or(rest.len()), " "),
            '/' if rest.starts_with("/*") => (comment(rest), " "),
            '0'..='9' if !in_word => (number(rest), "?"),
            c if c.is_whitespace() => (c.len_utf8(), " "),
            c => (c.len_utf8(), &rest[..c.len_utf8()]),
        };
        if shown != " " || !(out.is_empty() || out.ends_with(' ')) {
            out.push_str(shown);
        }
        rest = &rest[length..];
    }
    out.truncate(out.trim_end().len());
    out
}

/// The letter right before a literal, if it is a word of its own.
fn literal_prefix(out: &str) -> Option<char> {
    let mut before = out.chars().rev();
    let prefix = before.next().filter(|c| "eExXbBnN".contains(*c))?;
    let in_word = before.next().is_some_and(|c| c.is_alphanumeric() || c == '_');
    (!in_word).then_some(prefix)
}

/// The length of a literal in single quotes, where two of them stand for one.
fn quoted(text: &str, backslashes: bool) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if backslashes => at += 2,
            b'\'' if bytes.get(at + 1) == Some(&b'\'') => at += 2,
            b'\'' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The length of a name in quotes.
fn name(text: &str, quote: char) -> usize {
    text[1..].find(quote).map_or(text.len(), |end| end + 2)
}

/// The length of `$tag$ … $tag$`; `None` for a parameter.
fn dollar_quoted(text: &str) -> Option<usize> {
    let end = text[1..].find('$')? + 2;
    let tag = &text[..end];
    let inner = &tag[1..end - 1];
    let is_tag = !inner.starts_with(|c: char| c.is_ascii_digit())
        && inner.chars().all(|c| c.is_alphanumeric() || c == '_');
    if !is_tag {
        return None;
    }
    let close = text[end..].find(tag);
    Some(close.map_or(text.len(), |close| end + close + tag.len()))
}

/// The length of a comment in brackets, which may hold others.
fn comment(text: &str) -> usize {
    let mut depth = 0;
    let bytes = text.as_bytes();
    let mut at = 0;
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

/// The length of a number, its fraction and exponent included.
fn number(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let exponent = at > 0 && matches!(bytes[at - 1], b'e' | b'E') && !text.starts_with("0x");
        let part = byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_');
        if !(part || (exponent && matches!(byte, b'+' | b'-'))) {
            break;
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_trc_1_sql_is_shown_without_values() {
        for (sql, shown) in [
            (
                "SELECT a1 FROM t2 WHERE id = $1",
                "SELECT a1 FROM t2 WHERE id = $1",
            ),
            (
                "SELECT  *\n\tFROM t WHERE a='canary'",
                "SELECT * FROM t WHERE a=?",
            ),
            ("a = 'it''s canary' AND b", "a = ? AND b"),
            (r"a = E'it\'s canary' AND b", "a = ? AND b"),
            (r"a = 'c:\' AND b = 'canary'", "a = ? AND b = ?"),
            ("X'00canary', like'canary'", "?, like?"),
            ("$$canary$$ $fn$ it's $$ canary $fn$ x", "? ? x"),
            ("1, -2.5e-10, 0xcafe, 1_000, .5", "?, -?, ?, ?, .?"),
            ("-- canary\nSELECT 1 /* canary /* in */ it */ + 1", "SELECT ? + ?"),
            ("SELECT 'canary", "SELECT ?"),
            ("SELECT $x$canary", "SELECT ?"),
            ("SELECT /* canary", "SELECT"),
            ("SELECT \"a'b\", `c`", "SELECT \"a'b\", `c`"),
            ("é = 'ünï' -- canary", "é = ?"),
            ("$1$2", "$1$2"),
            ("", ""),
        ] {
            assert_eq!(outline(sql), shown, "{sql}");
        }
        let long = outline(&"é, ".repeat(5000));
        assert!(long.len() <= MAX && long.len() > MAX - 4);
    }
}
