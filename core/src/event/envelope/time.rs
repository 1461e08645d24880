//! Times of an envelope, RFC 3339.

use std::str::FromStr as _;

use jiff::{Timestamp, civil::DateTime, tz::Offset};

/// The moment that is written here, in whatever way the standard allows.
pub(super) fn parse(text: &[u8]) -> Option<Timestamp> {
    as_written(text).or_else(|| Timestamp::from_str(str::from_utf8(text).ok()?).ok())
}

/// One as [`super::write`] writes it, `2026-01-31T12:34:56.789Z`, for which nothing has to be searched.
fn as_written(text: &[u8]) -> Option<Timestamp> {
    let (time, rest) = text.split_first_chunk::<19>()?;
    let [
        y1,
        y2,
        y3,
        y4,
        b'-',
        mo1,
        mo2,
        b'-',
        d1,
        d2,
        b'T',
        h1,
        h2,
        b':',
        mi1,
        mi2,
        b':',
        s1,
        s2,
    ] = *time
    else {
        return None;
    };
    // Digits that are not written are zeros.
    let fraction = match rest.strip_suffix(b"Z")? {
        [] => [b'0'; 9],
        [b'.', written @ ..] => match written.try_into() {
            Ok(all) => all,
            Err(_) if (1..9).contains(&written.len()) => {
                std::array::from_fn(|at| *written.get(at).unwrap_or(&b'0'))
            }
            Err(_) => return None,
        },
        _ => return None,
    };
    let mut good = true;
    let year = i16::try_from(number([y1, y2, y3, y4], &mut good)).ok()?;
    let mut two = |a, b| i8::try_from(number([a, b], &mut good)).ok();
    let (month, day) = (two(mo1, mo2)?, two(d1, d2)?);
    let (hour, minute, second) = (two(h1, h2)?, two(mi1, mi2)?, two(s1, s2)?);
    let nanos = number(fraction, &mut good);
    if !good {
        return None;
    }
    let time = DateTime::new(year, month, day, hour, minute, second, nanos).ok()?;
    Offset::UTC.to_timestamp(time).ok()
}

/// The number of these digits, of which there are few enough. Whether all are digits is asked at the end only: that is
/// quicker.
fn number<const N: usize>(digits: [u8; N], good: &mut bool) -> i32 {
    digits.into_iter().fold(0, |number: i32, byte| {
        let digit = byte.wrapping_sub(b'0');
        *good &= digit <= 9;
        number.wrapping_mul(10).wrapping_add(i32::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_in_our_way_is_what_the_standard_reads() {
        for text in [
            "2026-01-31T12:34:56.789Z",
            "2026-01-31T12:34:56Z",
            "1969-12-31T23:59:59.999999999Z",
            "0000-02-29T00:00:00.1Z",
            "9999-12-30T22:00:00.000000001Z",
        ] {
            let read = as_written(text.as_bytes());
            assert!(read.is_some(), "{text}");
            assert_eq!(read, Timestamp::from_str(text).ok(), "{text}");
        }
    }

    #[test]
    fn what_is_written_otherwise_is_left_to_the_standard() {
        for text in [
            "2026-01-31T12:34:56+01:00",
            "2026-01-31 12:34:56Z",
            "2026-01-31T12:34:60Z",
            "2026-01-31T12:34:56,5Z",
        ] {
            assert_eq!(as_written(text.as_bytes()), None, "{text}");
            assert_eq!(parse(text.as_bytes()), Timestamp::from_str(text).ok(), "{text}");
            assert!(parse(text.as_bytes()).is_some(), "{text}");
        }
        for bad in [
            "",
            "yesterday",
            "2026-02-30T12:34:56Z",
            "2026-01-31T12:34:56.Z",
            "2026-01-31T12:34:56.1234567890Z",
            "2026-01-31T12:34:5/Z",
            "2026-01-31T12:34:56.1:Z",
            "2026-01-31T12:34:56",
        ] {
            assert_eq!(parse(bad.as_bytes()), Timestamp::from_str(bad).ok(), "{bad}");
        }
        assert_eq!(parse(b"2026-01-31T12:34:56.\xffZ"), None);
    }
}
