//! RFC 3339 timestamps; the part down to the second is formatted once a second.

use std::cell::Cell;

use jiff::{Timestamp, tz::Offset};

thread_local! {
    /// The second that was formatted last on this thread, and its text.
    static LAST: Cell<(i64, [u8; 20])> = const { Cell::new((i64::MIN, *b"0000-00-00T00:00:00.")) };
}

/// Appends `now` as `2026-01-02T03:04:05.678Z`.
pub(super) fn timestamp(out: &mut Vec<u8>, now: Timestamp) {
    let millis = now.as_millisecond();
    let (second, milli) = (millis.div_euclid(1000), millis.rem_euclid(1000));
    let (known, mut text) = LAST.get();
    if known != second {
        text = date(now);
        LAST.set((second, text));
    }
    out.extend_from_slice(&text);
    out.extend_from_slice(&[digit(milli / 100), digit(milli / 10), digit(milli), b'Z']);
}

fn date(now: Timestamp) -> [u8; 20] {
    let at = Offset::UTC.to_datetime(now);
    let mut text = *b"0000-00-00T00:00:00.";
    let mut put = |start: usize, length: usize, value: i64| {
        let mut rest = value;
        for place in text[start..start + length].iter_mut().rev() {
            *place = digit(rest);
            rest /= 10;
        }
    };
    put(0, 4, at.year().into());
    put(5, 2, at.month().into());
    put(8, 2, at.day().into());
    put(11, 2, at.hour().into());
    put(14, 2, at.minute().into());
    put(17, 2, at.second().into());
    text
}

/// The last decimal digit.
fn digit(value: i64) -> u8 {
    b'0' + u8::try_from(value.rem_euclid(10)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn op_36_rfc_3339_utc_with_milliseconds() {
        for millis in [
            0,
            1,
            999,
            1_000,
            1_767_322_845_678,
            951_782_400_000,
            4_102_444_799_999,
        ] {
            let mut out = Vec::new();
            let now = Timestamp::from_millisecond(millis).unwrap();
            timestamp(&mut out, now);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{now:.3}"));
        }
    }
}
