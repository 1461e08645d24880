//! Log lines: one event of [`tracing`] is one line, written by one write.
//!
//! A line in JSON carries, in this order and where they apply: `timestamp` (RFC 3339, UTC, milliseconds), `level`,
//! `service_name`, `service_version`, `instance`, `trace_id`, `span_id`, `target`, `message`, the event's own fields,
//! and the fields of the spans around it, the inner ones hiding the outer ones of the same name. A field that would
//! hide one of the standard names gets the prefix `field_`. Control characters are escaped, so an event is one line
//! whatever it says. A duration belongs into a number named `duration_ms`.
//!
//! Writing blocks while the output does; use a file or a pipe that is read. A failing output loses lines, counts them
//! ([`LogHandle::dropped`]), and disturbs nobody.

mod encode;
mod fields;
mod filter;
mod layer;
mod output;
mod time;

pub(crate) use self::{fields::Chain, layer::LogLayer};
pub use self::{filter::LogHandle, output::Output};
