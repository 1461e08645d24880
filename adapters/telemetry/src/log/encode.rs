//! Values as JSON text, appended to a byte buffer without allocating.

use crate::mask::{HIDDEN, Masker};

/// Bytes that may need escaping: controls, `"`, `\`, DEL, and the first bytes of the Unicode controls and line
/// separators.
static SUSPECT: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table[0x7f] = true;
    table[0xc2] = true;
    table[0xe2] = true;
    table
};

/// Appends `text` escaped, without quotes.
pub(super) fn escaped(out: &mut Vec<u8>, text: &str) {
    let mut plain = 0;
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(step) = bytes[at..].iter().position(|byte| SUSPECT[usize::from(*byte)]) {
        at += step;
        // A suspect byte is the first of a character, never in the middle of one.
        let Some(character) = text[at..].chars().next() else {
            break;
        };
        let end = at + character.len_utf8();
        if needs_escape(character) {
            out.extend_from_slice(&bytes[plain..at]);
            escape(out, character);
            plain = end;
        }
        at = end;
    }
    out.extend_from_slice(&bytes[plain..]);
}

fn needs_escape(character: char) -> bool {
    character.is_control() || matches!(character, '"' | '\\' | '\u{2028}' | '\u{2029}')
}

fn escape(out: &mut Vec<u8>, character: char) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short: &[u8] = match character {
        '"' => b"\\\"",
        '\\' => b"\\\\",
        '\n' => b"\\n",
        '\r' => b"\\r",
        '\t' => b"\\t",
        _ => {
            let code = character as usize;
            let digit = |shift: u32| HEX[(code >> shift) & 0xf];
            out.extend_from_slice(&[b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]);
            return;
        }
    };
    out.extend_from_slice(short);
}

/// Appends `text` as a JSON string.
pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    escaped(out, text);
    out.push(b'"');
}

/// Appends `text` escaped, without quotes, and without what is to be hidden.
pub(super) fn masked(out: &mut Vec<u8>, text: &str, masker: &Masker) {
    let mut shown = 0;
    while let Some(secret) = masker.find(text, shown) {
        escaped(out, &text[shown..secret.start]);
        out.extend_from_slice(HIDDEN.as_bytes());
        shown = secret.end;
    }
    escaped(out, &text[shown..]);
}

/// Appends a number; JSON has none for infinity and NaN, they become texts.
pub(super) fn float(out: &mut Vec<u8>, value: f64) {
    let mut buffer = ryu::Buffer::new();
    let text = buffer.format(value);
    if value.is_finite() {
        out.extend_from_slice(text.as_bytes());
    } else {
        string(out, text);
    }
}

/// Appends a number.
pub(super) fn integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends `value` in hex, all digits of `N` bytes.
pub(super) fn hex<const N: usize>(out: &mut Vec<u8>, value: [u8; N]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for byte in value {
        out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0xf)]]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(text: &str) -> String {
        let mut out = Vec::new();
        string(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn ml_log_2_every_control_character_is_escaped_and_read_back() {
        let all: String = (0..0x2100u32)
            .filter_map(char::from_u32)
            .chain(['🦀', '\u{fffd}'])
            .collect();
        let json = encoded(&all);
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), all);
        assert!(
            !json
                .chars()
                .any(|c| c.is_control() || c == '\u{2028}' || c == '\u{2029}')
        );
    }

    #[test]
    fn plain_text_stays_as_it_is() {
        assert_eq!(encoded("a/b é €"), "\"a/b é €\"");
        assert_eq!(encoded("a\"\\\n"), r#""a\"\\\n""#);
        assert_eq!(encoded(""), "\"\"");
    }

    #[test]
    fn numbers_are_numbers() {
        let mut out = Vec::new();
        float(&mut out, 1.25);
        out.push(b' ');
        float(&mut out, f64::NAN);
        out.push(b' ');
        integer(&mut out, i64::MIN);
        hex(&mut out, 0x0af7u16.to_be_bytes());
        assert_eq!(out, b"1.25 \"NaN\" -92233720368547758080af7");
    }
}
