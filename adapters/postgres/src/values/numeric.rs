//! `numeric` to and from text, exactly: digits to the base of 10,000 around the decimal point.

use cqi_core::database::Decimal;

const NEGATIVE: u16 = 0x4000;
/// Four decimal digits.
const GROUP: usize = 4;

/// Appends a number; `None` when it is too long for the format, which no [`Decimal`] is.
pub(super) fn write(decimal: &Decimal, out: &mut Vec<u8>) -> Option<()> {
    let text = decimal.as_str();
    let (sign, digits) = text
        .strip_prefix('-')
        .map_or((0, text), |digits| (NEGATIVE, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = whole.trim_start_matches('0');
    let first = whole.len() % GROUP;
    let (head, tail) = whole.as_bytes().split_at(first);
    let mut groups = Vec::with_capacity(text.len() / GROUP + 2);
    if !head.is_empty() {
        groups.push(group(head, false));
    }
    groups.extend(tail.chunks(GROUP).map(|chunk| group(chunk, false)));
    // The power of 10,000 of the first group.
    let mut weight = i16::try_from(groups.len()).ok()? - 1;
    groups.extend(fraction.as_bytes().chunks(GROUP).map(|chunk| group(chunk, true)));
    let zeros = groups.iter().take_while(|group| **group == 0).count();
    groups.drain(..zeros);
    weight -= i16::try_from(zeros).ok()?;
    while groups.last() == Some(&0) {
        groups.pop();
    }
    if groups.is_empty() {
        weight = 0;
    }
    out.extend(i16::try_from(groups.len()).ok()?.to_be_bytes());
    out.extend(weight.to_be_bytes());
    out.extend(sign.to_be_bytes());
    out.extend(i16::try_from(fraction.len()).ok()?.to_be_bytes());
    for group in groups {
        out.extend(group.to_be_bytes());
    }
    Some(())
}

/// Up to four digits as a number; those of a fraction are filled up on the right.
fn group(digits: &[u8], fraction: bool) -> i16 {
    let value = digits
        .iter()
        .fold(0, |value, digit| value * 10 + i16::from(digit - b'0'));
    let missing = if fraction { GROUP - digits.len() } else { 0 };
    (0..missing).fold(value, |value, _| value * 10)
}

/// Reads a number; `None` for NaN, infinity and what has more digits than a [`Decimal`] takes.
pub(super) fn read(bytes: &[u8]) -> Option<Decimal> {
    let (head, groups) = bytes.split_first_chunk::<8>()?;
    let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let (count, sign, scale) = (usize::from(word(0)), word(4), usize::from(word(6)));
    let weight = i16::from_be_bytes([head[2], head[3]]);
    if !(sign == 0 || sign == NEGATIVE) || groups.len() != count * 2 {
        return None;
    }
    // Longer texts are refused below anyway.
    if !(-20..=20).contains(&weight) || scale > 80 {
        return None;
    }
    let group = |power: i16| {
        let at = usize::try_from(weight - power).ok();
        let pair = at.and_then(|at| groups.get(at * 2..at * 2 + 2));
        pair.map_or(0, |pair| u16::from_be_bytes([pair[0], pair[1]]))
    };
    let mut text = String::with_capacity(8 + count * GROUP + scale);
    if sign == NEGATIVE {
        text.push('-');
    }
    text.push('0');
    for power in (0..=weight).rev() {
        text.push_str(&format!("{:04}", group(power)));
    }
    if scale > 0 {
        text.push('.');
        let end = text.len() + scale;
        let mut power = -1;
        while text.len() < end {
            text.push_str(&format!("{:04}", group(power)));
            power -= 1;
        }
        text.truncate(end);
    }
    trim(&text).parse().ok()
}

/// Leading zeros count against the most digits of a [`Decimal`].
fn trim(text: &str) -> String {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let trimmed = digits.trim_start_matches('0');
    let zero = if trimmed.is_empty() || trimmed.starts_with('.') {
        "0"
    } else {
        ""
    };
    format!("{sign}{zero}{trimmed}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digit_survives() {
        for text in [
            "0",
            "0.0",
            "1",
            "-1",
            "9999",
            "10000",
            "10000.0001",
            "0.1",
            "0.0001",
            "0.00001",
            "-0.00001000",
            "12.500",
            "100000000",
            "123456789012345678901234567890.123456789",
            "0.000000000000000001",
        ] {
            let decimal: Decimal = text.parse().unwrap();
            let mut bytes = Vec::new();
            write(&decimal, &mut bytes).unwrap();
            assert_eq!(read(&bytes).unwrap(), decimal, "{text}");
        }
        let longest: Decimal = "9".repeat(78).parse().unwrap();
        let mut bytes = Vec::new();
        write(&longest, &mut bytes).unwrap();
        assert_eq!(read(&bytes).unwrap(), longest);
    }

    #[test]
    fn what_is_no_decimal_is_not_read() {
        for bytes in [
            &[][..],
            &[0; 7],
            &[0, 1, 0, 0, 0, 0, 0, 0],
            &[0, 0, 0, 0, 0xc0, 0, 0, 0],
        ] {
            assert_eq!(read(bytes), None);
        }
    }
}
