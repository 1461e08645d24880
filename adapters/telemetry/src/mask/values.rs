//! Secrets that are known by what they look like.

use std::ops::Range;

/// A token after `Bearer`, or user and password after `Basic`, at the first letter of that word.
pub(super) fn credentials(text: &[u8], at: usize) -> Option<Range<usize>> {
    /// Words that follow in prose.
    const PROSE: [&[u8]; 6] = [
        b"authentication",
        b"authorization",
        b"scheme",
        b"tokens",
        b"header",
        b"credentials",
    ];
    const SHORTEST: usize = 6;
    if at > 0 && text[at - 1].is_ascii_alphanumeric() {
        return None;
    }
    let is = |word: &[u8]| {
        text.get(at..at + word.len())
            .is_some_and(|found| found.eq_ignore_ascii_case(word))
    };
    let (bearer, basic) = (is(b"bearer "), is(b"basic "));
    if !(bearer || basic) {
        return None;
    }
    let start = skip(text, at + 6, |byte| byte == b' ');
    let end = skip(text, start, is_token);
    let token = &text[start..end];
    let prose = PROSE.iter().any(|word| token.eq_ignore_ascii_case(word));
    // Base64 of any length has more than small letters.
    let coded = bearer || token.iter().any(|byte| !byte.is_ascii_lowercase());
    (token.len() >= SHORTEST && coded && !prose).then_some(start..end)
}

/// A JSON web token, at the `J` of its `eyJ`.
pub(super) fn jwt(text: &[u8], at: usize) -> Option<Range<usize>> {
    const SHORTEST: usize = 20;
    let start = at.checked_sub(2)?;
    let inside = start > 0 && is_base64url(text[start - 1]);
    if inside || &text[start..at] != b"ey" {
        return None;
    }
    let end = skip(text, at, |byte| is_base64url(byte) || byte == b'.');
    let dots = text[start..end].iter().filter(|byte| **byte == b'.').count();
    (dots >= 2 && end - start >= SHORTEST).then_some(start..end)
}

/// The password of a URL, at the `:` of its `://`.
pub(super) fn url_password(text: &[u8], at: usize) -> Option<Range<usize>> {
    /// How much of a URL is looked at, so that a text full of them does not take the square of its length.
    const LONGEST: usize = 1024;
    if text.get(at + 1..at + 3) != Some(b"//") {
        return None;
    }
    let start = at + 3;
    let text = &text[..text.len().min(start + LONGEST)];
    let end = skip(text, start, |byte| !is_end_of_url(byte));
    let host_end = skip(text, start, |byte| {
        !(is_end_of_url(byte) || matches!(byte, b'/' | b'?' | b'#'))
    });
    let colon = start + text[start..host_end].iter().position(|byte| *byte == b':')?;
    let sign = match text[colon..host_end].iter().rposition(|byte| *byte == b'@') {
        Some(sign) => sign,
        // A password with a slash in it, which it should not have; but a port is no password.
        None if text[colon + 1..host_end].iter().all(u8::is_ascii_digit) => return None,
        None => text[colon..end].iter().rposition(|byte| *byte == b'@')?,
    };
    (sign > 1).then_some(colon + 1..colon + sign)
}

/// A card number, at its first digit; else where to look on.
pub(super) fn card(text: &[u8], at: usize) -> Result<Range<usize>, usize> {
    /// The fewest digits between two blanks or hyphens, and the most groups of them.
    const GROUP: usize = 3;
    const GROUPS: usize = 6;
    /// The fewest digits of a card.
    const SHORTEST: usize = 13;
    let digits_end = |from| skip(text, from, |byte: u8| byte.is_ascii_digit());
    let alone = |byte: Option<&u8>| byte.is_none_or(|byte| !(byte.is_ascii_alphanumeric() || *byte == b'_'));
    let run = digits_end(at);
    // Most digits stand inside an id, or there are too few.
    let inside = !alone(at.checked_sub(1).map(|before| &text[before]));
    if inside || run - at < GROUP || text.len() - at < SHORTEST {
        return Err(run);
    }
    let mut ends = [run; GROUPS];
    let mut groups = 1;
    while groups < GROUPS && matches!(text.get(ends[groups - 1]), Some(b' ' | b'-')) {
        let start = ends[groups - 1] + 1;
        ends[groups] = digits_end(start);
        if ends[groups] - start < GROUP {
            break;
        }
        groups += 1;
    }
    // The longest first: a number that follows may look like one more group.
    for &end in ends[..groups].iter().rev() {
        let digits = text[at..end].iter().filter(|byte| byte.is_ascii_digit());
        if alone(text.get(end)) && is_card(digits.map(|digit| digit - b'0')) {
            return Ok(at..end);
        }
    }
    Err(run)
}

/// Whether these are the digits of a card: one of the lengths and beginnings there are, with a right check digit.
pub(super) fn is_card(digits: impl Iterator<Item = u8>) -> bool {
    let mut number = [0; 20];
    let mut length = 0;
    for digit in digits {
        if length == 19 {
            return false;
        }
        number[length] = digit;
        length += 1;
    }
    let begins = u16::from(number[0]) * 1000
        + u16::from(number[1]) * 100
        + u16::from(number[2]) * 10
        + u16::from(number[3]);
    let known = match number[0] {
        2 => length == 16 && (2221..=2720).contains(&begins),
        3 => (14..=16).contains(&length),
        4 => matches!(length, 13 | 16 | 19),
        5 => length == 16,
        6 => (16..=19).contains(&length),
        _ => false,
    };
    known && luhn(&number[..length])
}

fn luhn(digits: &[u8]) -> bool {
    let twice = |digit: u8| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| u32::from(if place % 2 == 1 { twice(*digit) } else { *digit }))
        .sum();
    sum.is_multiple_of(10)
}

/// An e-mail address, at its `@`.
pub(super) fn email(text: &[u8], at: usize, from: usize) -> Option<Range<usize>> {
    let is_local = |byte: &u8| byte.is_ascii_alphanumeric() || b"._%+-".contains(byte);
    let local = text[from..at]
        .iter()
        .rev()
        .take_while(|byte| is_local(byte))
        .count();
    let end = skip(text, at + 1, |byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-')
    });
    // A full stop may follow that ends the sentence.
    let domain = text[at + 1..end].trim_ascii_end();
    let domain = domain.strip_suffix(b".").unwrap_or(domain);
    (local > 0 && domain.contains(&b'.')).then_some(at - local..at + 1 + domain.len())
}

/// Where bytes of a kind end.
pub(super) fn skip(text: &[u8], from: usize, is: impl Fn(u8) -> bool) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    from + rest.iter().position(|byte| !is(*byte)).unwrap_or(rest.len())
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte)
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn is_end_of_url(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte.is_ascii_control() || b"\"'<>`\\".contains(&byte)
}
