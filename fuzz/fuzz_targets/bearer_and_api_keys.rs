#![no_main]

#[path = "../../core/tests/fuzz/targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::bearer_and_api_keys(data));
