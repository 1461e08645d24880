//! The suites on the in-memory defaults, the suites against liars, and the testkit's own tools.

mod harness;
mod suites;
