//! W3C trace context: the ids that tie logs, spans and events of one request together.
//!
//! Format: <https://www.w3.org/TR/trace-context/>, version 00.

use std::{fmt, num::NonZeroU64, num::NonZeroU128, sync::Arc};

/// The longest `tracestate` that is carried on; a longer one is dropped (L-08).
pub const MAX_TRACESTATE: usize = 512;

/// The most entries of a `tracestate`; with more it is dropped, as W3C demands.
const MAX_MEMBERS: usize = 32;

/// Which trace and span a piece of work belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace: 16 bytes, never zero.
    pub trace_id: NonZeroU128,
    /// The span: 8 bytes, never zero.
    pub span_id: NonZeroU64,
    /// Whether the trace is recorded (the lowest bit of the W3C flags).
    pub sampled: bool,
    /// Vendor data, passed on unread.
    pub state: Option<Arc<str>>,
}

impl TraceContext {
    /// Reads a `traceparent` header and an optional `tracestate`. `None` when it is malformed: a new trace starts then.
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let bytes = traceparent.as_bytes();
        // version "-" trace-id "-" parent-id "-" flags; a later version may add more after another "-".
        if bytes.len() < 55 || bytes[2] != b'-' || bytes[35] != b'-' || bytes[52] != b'-' {
            return None;
        }
        let version = hex(&bytes[..2])?;
        if version == 0xff || (version == 0 && bytes.len() != 55) || (bytes.len() > 55 && bytes[55] != b'-') {
            return None;
        }
        let state = tracestate.filter(|s| {
            let members = || s.split(',').filter(|member| !member.trim().is_empty());
            s.len() <= MAX_TRACESTATE
                && s.bytes().all(|b| (b' '..=b'~').contains(&b))
                && (1..=MAX_MEMBERS).contains(&members().count())
        });
        Some(Self {
            trace_id: NonZeroU128::new(hex(&bytes[3..35])?)?,
            span_id: NonZeroU64::new(u64::try_from(hex(&bytes[36..52])?).ok()?)?,
            sampled: hex(&bytes[53..55])? & 1 == 1,
            state: state.map(Arc::from),
        })
    }

    /// The `traceparent` header of this context.
    pub fn traceparent(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "00-{:032x}-{:016x}-{:02x}",
            self.trace_id,
            self.span_id,
            u8::from(self.sampled)
        )
    }
}

/// Lower-case hex only, as the format demands.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0u128, |value, digit| {
        let nibble = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(nibble))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn trc_4_5_reads_and_writes_the_w3c_form() {
        let context = TraceContext::parse(GOOD, Some("a=1,b=2")).unwrap();
        assert!(context.sampled);
        assert_eq!(context.state.as_deref(), Some("a=1,b=2"));
        assert_eq!(context.traceparent(), GOOD);
    }

    #[test]
    fn ml_trc_2_malformed_headers_are_no_context() {
        let zero_trace = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        let zero_span = "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01";
        for bad in [
            "",
            "00",
            "xx",
            &GOOD.to_uppercase(),
            &GOOD[..54],
            &format!("{GOOD}-x"),
            zero_trace,
            zero_span,
        ] {
            assert_eq!(TraceContext::parse(bad, None), None, "{bad}");
        }
        assert!(TraceContext::parse(&GOOD.replacen("00", "ff", 1), None).is_none());
        assert!(TraceContext::parse(&format!("{}-later", GOOD.replacen("00", "01", 1)), None).is_some());
    }

    #[test]
    fn l_08_oversized_tracestate_is_dropped() {
        let long = "a".repeat(MAX_TRACESTATE + 1);
        assert_eq!(TraceContext::parse(GOOD, Some(&long)).unwrap().state, None);
        assert_eq!(TraceContext::parse(GOOD, Some("a=\u{7f}")).unwrap().state, None);
        let members = |count| (0..count).map(|n| format!("k{n}=v,")).collect::<String>();
        let (most, more) = (members(MAX_MEMBERS), members(MAX_MEMBERS + 1));
        assert_eq!(
            TraceContext::parse(GOOD, Some(&most)).unwrap().state.as_deref(),
            Some(&*most)
        );
        assert_eq!(TraceContext::parse(GOOD, Some(&more)).unwrap().state, None);
        assert_eq!(TraceContext::parse(GOOD, Some(" ,")).unwrap().state, None);
    }
}
