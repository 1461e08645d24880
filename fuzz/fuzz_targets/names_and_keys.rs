#![no_main]

#[path = "../../core/tests/fuzz/targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::names_and_keys(data));
