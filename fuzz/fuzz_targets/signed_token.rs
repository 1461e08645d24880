#![no_main]

#[path = "../../adapters/jwt/tests/it/fuzz_targets.rs"]
mod targets;
#[path = "../../adapters/jwt/tests/it/token.rs"]
#[allow(dead_code)] // helpers of other tests
mod token;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::signed_token(data));
