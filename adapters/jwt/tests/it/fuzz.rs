//! A short run of the fuzz targets.

use crate::{fuzz_targets, mutator::run, token::pem};

#[test]
fn any_token() {
    let corpus: [&[u8]; 5] = [
        b"GOOD",
        b"eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ.",
        b"eyJhbGciOiJFZERTQSIsImNyaXQiOlsiZXhwIl19.e30.AAAA",
        b"a.b.c",
        "é.\0.\u{2028}".as_bytes(),
    ];
    run(&corpus, 3_000, fuzz_targets::any_token);
}

#[test]
fn signed_token() {
    let corpus: [&[u8]; 3] = [
        br#"{"alg":"EdDSA","typ":"JWT","kid":"a"}
{"iss":"https://id.example.com/","aud":"positions","sub":"ada","exp":NOW,"iat":NOW,"nbf":NOW}"#,
        br#"{"alg":"EdDSA","crit":["b64"],"jwk":{},"x5c":[]}
{"iss":["https://id.example.com/"],"aud":["positions"],"sub":"service:billing","exp":NOW00,"roles":["admin"]}"#,
        br#"{"alg":"EdDSA","typ":"at+jwt"}
{"aud":["orders","positions"],"exp":NOW.5,"sub":"\u0000","iss":"https://id.example.com/","token_use":"access"}"#,
    ];
    run(&corpus, 250, fuzz_targets::signed_token);
}

#[test]
fn pem_key() {
    let corpus = [
        pem!("rsa.pub"),
        pem!("rsa.pkcs1.pub"),
        pem!("p256.pub"),
        pem!("ed25519.pub"),
        pem!("certificate"),
    ];
    run(&corpus.map(str::as_bytes), 1_500, fuzz_targets::pem_key);
}
