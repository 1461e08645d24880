//! Finding secrets in texts, in one pass.

use std::ops::Range;

use super::{
    names::Names,
    values::{card, credentials, email, jwt, skip, url_password},
};

/// What a byte may be a sign of.
#[derive(Clone, Copy, PartialEq)]
enum Sign {
    Nothing,
    /// `=` or `:`, after a name or a URL's scheme.
    Assigns,
    /// The `b` of bearer and basic.
    Scheme,
    /// The `J` of a token's `eyJ`.
    Token,
    Digit,
    At,
}

static SIGNS: [Sign; 256] = {
    let mut signs = [Sign::Nothing; 256];
    signs[b'=' as usize] = Sign::Assigns;
    signs[b':' as usize] = Sign::Assigns;
    signs[b'b' as usize] = Sign::Scheme;
    signs[b'B' as usize] = Sign::Scheme;
    signs[b'J' as usize] = Sign::Token;
    signs[b'@' as usize] = Sign::At;
    let mut digit = b'0';
    while digit <= b'9' {
        signs[digit as usize] = Sign::Digit;
        digit += 1;
    }
    signs
};

/// The next secret at or after `from`. Begins and ends beside ASCII characters or at the ends of the text.
pub(super) fn find(text: &[u8], from: usize, names: &Names, emails: bool) -> Option<Range<usize>> {
    let mut at = from;
    while let Some(step) = text[at..]
        .iter()
        .position(|byte| SIGNS[usize::from(*byte)] != Sign::Nothing)
    {
        at += step;
        let found = match SIGNS[usize::from(text[at])] {
            Sign::Assigns => url_password(text, at).or_else(|| assigned(text, at, names)),
            Sign::Scheme => credentials(text, at),
            Sign::Token => jwt(text, at).filter(|secret| secret.start >= from),
            Sign::Digit => match card(text, at) {
                Ok(secret) => Some(secret),
                Err(end) => {
                    at = end;
                    continue;
                }
            },
            Sign::At if emails => email(text, at, from),
            Sign::At | Sign::Nothing => None,
        };
        if found.as_ref().is_some_and(|secret| !secret.is_empty()) {
            return found;
        }
        at += 1;
    }
    None
}

/// The value after a name on the list and `=` or `:`, in what logs, JSON, queries, headers and `Debug` look like.
fn assigned(text: &[u8], at: usize, names: &Names) -> Option<Range<usize>> {
    let name = name_before(text, at);
    // `a::b` is a path.
    let path = text[at] == b':' && (text.get(at + 1) == Some(&b':') || (at > 0 && text[at - 1] == b':'));
    if path || !names.has(name) {
        return None;
    }
    let start = skip(text, at + 1, |byte| matches!(byte, b'=' | b'>' | b' ' | b'\t'));
    let start = opened(text, start);
    let quote = backslashes(text, start);
    match text.get(quote)? {
        byte @ (b'"' | b'\'' | b'`') => Some(quote + 1..quoted_end(text, quote + 1, *byte, quote - start)),
        b'[' | b'{' | b'(' if quote == start => Some(start..closed(text, start)),
        _ if text[at] == b':' && is_header(name) => {
            Some(start..skip(text, start, |byte| !matches!(byte, b'\r' | b'\n' | b'"' | b'\'')))
        }
        _ => {
            let end = skip(text, start, |byte| !ends_value(byte));
            Some(
                start..if is_scheme(&text[start..end]) {
                    next_word(text, end)
                } else {
                    end
                },
            )
        }
    }
}

/// The name that ends right before `at`, quotes and blanks aside.
fn name_before(text: &[u8], at: usize) -> &[u8] {
    /// The longest name that is looked at from its end.
    const LONGEST: usize = 64;
    /// The most quotes, backslashes and blanks: a JSON text in a JSON text in another has eight.
    const MOST_QUOTING: usize = 9;
    let mut end = at;
    while end > 0 && matches!(text[end - 1], b' ' | b'"' | b'\'' | b'\\' | b'`') {
        end -= 1;
        if at - end > MOST_QUOTING {
            return &[];
        }
    }
    let is_name = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let length = text[..end].iter().rev().take(LONGEST).take_while(is_name).count();
    &text[end - length..end]
}

/// Behind `Some(`, `Secret(` and the like.
fn opened(text: &[u8], from: usize) -> usize {
    let word = skip(text, from, |byte| byte.is_ascii_alphanumeric());
    if word > from && text.get(word) == Some(&b'(') {
        opened(text, word + 1)
    } else {
        from
    }
}

/// Where a quoted value ends: before its quote, which has as many backslashes as the opening one. In a text inside a text
/// these are escaped, too: each backslash of the value is twice as many as those and its own quote, a quote one less.
fn quoted_end(text: &[u8], from: usize, quote: u8, depth: usize) -> usize {
    let mut at = from;
    while at < text.len() {
        let end = backslashes(text, at);
        let escapes = (end - at) % (2 * (depth + 1));
        // With fewer than the opening one it is the quote of a text around.
        if text.get(end) == Some(&quote) && escapes <= depth {
            return end - escapes;
        }
        at = end + 1;
    }
    text.len()
}

/// Where backslashes end.
fn backslashes(text: &[u8], from: usize) -> usize {
    skip(text, from, |byte| byte == b'\\')
}

/// Where a bracket is closed, that included.
fn closed(text: &[u8], from: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in text.iter().enumerate().skip(from) {
        match byte {
            b'[' | b'{' | b'(' => depth += 1,
            b']' | b'}' | b')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    text.len()
}

/// Headers whose values have blanks and go on to the end of the line.
fn is_header(name: &[u8]) -> bool {
    let ends = |header: &[u8]| {
        name.len() >= header.len() && name[name.len() - header.len()..].eq_ignore_ascii_case(header)
    };
    ends(b"authorization") || ends(b"cookie")
}

fn is_scheme(word: &[u8]) -> bool {
    [b"bearer".as_slice(), b"basic", b"digest", b"token", b"apikey"]
        .iter()
        .any(|scheme| word.eq_ignore_ascii_case(scheme))
}

fn next_word(text: &[u8], from: usize) -> usize {
    let start = skip(text, from, |byte| byte == b' ');
    skip(text, start, |byte| !ends_value(byte))
}

fn ends_value(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte.is_ascii_control() || b",;&)}]\"'<>|".contains(&byte)
}
