//! Tests that cross crates and processes live in `tests/`; the benchmarks are the program `bench`.
