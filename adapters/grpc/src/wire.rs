//! What gRPC writes into headers: timeouts, codes, messages.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::{Code, Status};

pub(crate) const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The longest status message, in bytes as sent (G-08).
pub(crate) const MAX_MESSAGE: usize = 1024;

/// The time a client gives a call. `None` when it gives none, or a malformed one.
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// The header of a timeout, in the finest unit that its eight digits allow; never longer than `limit`.
pub(crate) fn timeout_value(limit: Duration) -> HeaderValue {
    let units = [
        (limit.as_nanos(), 'n'),
        (limit.as_micros(), 'u'),
        (limit.as_millis(), 'm'),
        (u128::from(limit.as_secs()), 'S'),
        (u128::from(limit.as_secs() / 60), 'M'),
        (u128::from(limit.as_secs() / 3600), 'H'),
    ];
    let fits = units.into_iter().find(|(number, _)| *number < 100_000_000);
    let (number, unit) = fits.unwrap_or((99_999_999, 'H'));
    HeaderValue::try_from(format!("{number}{unit}")).unwrap_or(HeaderValue::from_static("0n"))
}

/// The code that a response's head or trailers tell.
pub(crate) fn code(headers: &HeaderMap) -> Option<Code> {
    let value = headers.get(Status::GRPC_STATUS)?;
    Some(Code::from_bytes(value.as_bytes()))
}

/// The name of a code as gRPC writes it, for labels and logs (OP-35).
pub(crate) const fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// Cuts a status message that is too long, which is percent-encoded, at the end of a character.
pub(crate) fn clip_message(headers: &mut HeaderMap) {
    let Some(message) = headers.get_mut(Status::GRPC_MESSAGE) else {
        return;
    };
    if message.len() <= MAX_MESSAGE {
        return;
    }
    let bytes = message.as_bytes();
    let mut end = MAX_MESSAGE;
    // Not inside of an encoded byte, and not inside of a character of several bytes.
    if let Some(percent) = (1..=2).find(|back| bytes[end - back] == b'%') {
        end -= percent;
    }
    while continues(&bytes[end..]) && end >= 3 {
        end -= 3;
    }
    // A prefix of a valid header is one.
    *message = HeaderValue::from_bytes(&bytes[..end]).unwrap_or(HeaderValue::from_static(""));
}

/// Whether an encoded byte follows that continues a character of UTF-8: 0x80 to 0xBF.
fn continues(rest: &[u8]) -> bool {
    matches!(rest, [b'%', b'8' | b'9' | b'A' | b'B' | b'a' | b'b', ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Option<Duration> {
        timeout(&HeaderMap::from_iter([(TIMEOUT, value.parse().unwrap())]))
    }

    #[test]
    fn timeouts_are_read_and_malformed_ones_are_none() {
        assert_eq!(read("5S"), Some(Duration::from_secs(5)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        for bad in ["", "S", "5", "5s", "+5S", "-1S", "123456789S", "5 S", "1.5S"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn timeouts_are_written_and_never_grow() {
        for (limit, text) in [
            (Duration::ZERO, "0n"),
            (Duration::from_millis(1), "1000000n"),
            (Duration::from_secs(5), "5000000u"),
            (Duration::from_secs(3600), "3600000m"),
            (Duration::MAX, "99999999H"),
        ] {
            assert_eq!(timeout_value(limit), text);
            assert!(read(text).unwrap() <= limit);
        }
    }

    #[test]
    fn g_08_a_long_message_is_cut_between_characters() {
        for message in [
            "x".repeat(5000),
            "é".repeat(5000),
            format!("a{}", "漢".repeat(900)),
        ] {
            let mut headers = HeaderMap::new();
            Status::not_found(message.clone())
                .add_header(&mut headers)
                .unwrap();
            clip_message(&mut headers);
            assert!(headers[Status::GRPC_MESSAGE].len() <= MAX_MESSAGE);
            let read = Status::from_header_map(&headers).unwrap();
            assert!(message.starts_with(read.message()) && read.message().len() > 100);
        }
    }
}
