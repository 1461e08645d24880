//! How long a caller waits, as a header.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

/// How long a caller waits for the answer, as `100m`: up to eight digits and a unit out of `H`, `M`, `S`, `m`, `u`,
/// `n` (hours to nanoseconds), the form of `grpc-timeout`.
pub(crate) const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout");

/// Reads a timeout; `None` when it is malformed.
pub(crate) fn parse_timeout(value: &HeaderValue) -> Option<Duration> {
    let (unit, digits) = value.as_bytes().split_last()?;
    if !(1..=8).contains(&digits.len()) {
        return None;
    }
    let count = digits.iter().try_fold(0u64, |count, digit| {
        digit
            .is_ascii_digit()
            .then(|| count * 10 + u64::from(digit - b'0'))
    })?;
    Some(match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

/// Writes a timeout in milliseconds, rounded down: the caller gives up a little earlier than it must.
pub(crate) fn timeout_header(timeout: Duration) -> Option<HeaderValue> {
    let millis = timeout.as_millis().min(99_999_999);
    HeaderValue::try_from(format!("{millis}m")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_the_form_of_grpc() {
        let read = |text: &'static str| parse_timeout(&HeaderValue::from_static(text));
        assert_eq!(read("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(read("2M"), Some(Duration::from_secs(120)));
        assert_eq!(read("3S"), Some(Duration::from_secs(3)));
        assert_eq!(read("1500m"), Some(Duration::from_millis(1500)));
        assert_eq!(read("5u"), Some(Duration::from_micros(5)));
        assert_eq!(read("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for bad in ["", "m", "1", "1s", "-1m", "1.5S", "123456789m", "1 m", "0x1m"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        let written = timeout_header(Duration::from_micros(1_500_900)).unwrap();
        assert_eq!(written, "1500m");
        assert_eq!(parse_timeout(&written), Some(Duration::from_millis(1500)));
    }
}
