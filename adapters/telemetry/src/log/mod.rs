//! Log lines: one event of [`tracing`] is one line, written by one write.
//!
//! A line in JSON carries, in this order and where they apply: `timestamp` (RFC 3339, UTC, milliseconds), `level`,
//! `service_name`, `service_version`, `instance`, `trace_id`, `span_id`, `target`, `message`, the event's own fields,
//! and the fields of the spans around it, the inner ones hiding the outer ones of the same name. A field that would
//! hide one of the standard names gets the prefix `field_`. Control characters are escaped, so an event is one line
//! whatever it says. A duration belongs into a number named `duration_ms`.
//!
//! A line is copied into a bounded buffer that a thread writes out. An output that is slow, full, closed or blocked loses
//! lines, which are counted ([`LogHandle::dropped`]) and told in a line when it works again; it never blocks who logs.

mod buffer;
mod encode;
mod fields;
mod filter;
mod layer;
mod output;
mod time;
mod writer;

pub(crate) use self::{fields::Chain, layer::LogLayer};
pub use self::{filter::LogHandle, output::Output};
