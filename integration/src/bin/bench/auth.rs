//! What it costs to know who calls: a token beside the bare library with the same checks, and an API key among many.

use std::hint::black_box;

use cqi_core::{
    Error,
    auth::{ApiKeys, Verifier as _},
    secret::Secret,
};
use cqi_jwt::{JwtOptions, JwtVerifier, KeySource, load_public_key_from_pem};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode, get_current_timestamp,
};
use serde_json::{Map, Value, json};

use crate::{
    overhead::time,
    report::{Report, Target},
};

const BARE: &str = "jsonwebtoken";
const ISSUER: &str = "https://id.example.com/";
const AUDIENCE: &str = "positions";
/// How many API keys there are.
const KEYS: usize = 1000;

macro_rules! pem {
    ($name:literal) => {
        include_str!(concat!("../../../../adapters/jwt/tests/it/keys/", $name, ".pem"))
    };
}

/// A kind of token: its algorithm and its keys.
struct Kind {
    case: &'static str,
    algorithm: Algorithm,
    private: fn() -> jsonwebtoken::errors::Result<EncodingKey>,
    public: fn() -> jsonwebtoken::errors::Result<DecodingKey>,
    pem: &'static str,
}

const KINDS: [Kind; 3] = [
    Kind {
        case: "token, RS256",
        algorithm: Algorithm::RS256,
        private: || EncodingKey::from_rsa_pem(pem!("rsa").as_bytes()),
        public: || DecodingKey::from_rsa_pem(pem!("rsa.pub").as_bytes()),
        pem: pem!("rsa.pub"),
    },
    Kind {
        case: "token, ES256",
        algorithm: Algorithm::ES256,
        private: || EncodingKey::from_ec_pem(pem!("p256").as_bytes()),
        public: || DecodingKey::from_ec_pem(pem!("p256.pub").as_bytes()),
        pem: pem!("p256.pub"),
    },
    Kind {
        case: "token, EdDSA",
        algorithm: Algorithm::EdDSA,
        private: || EncodingKey::from_ed_pem(pem!("ed25519").as_bytes()),
        public: || DecodingKey::from_ed_pem(pem!("ed25519.pub").as_bytes()),
        pem: pem!("ed25519.pub"),
    },
];

/// Every case once for every peer.
pub(crate) async fn round(report: &mut Report) {
    for kind in KINDS {
        tokens(report, &kind).await;
    }
    api_keys(report).await;
    report.note("token: signature, exp, nbf, iss, aud and sub of a token with 8 claims, on one thread");
    report.note("API key: a known one");
}

async fn tokens(report: &mut Report, kind: &Kind) {
    let now = get_current_timestamp();
    let claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "service:billing", "iat": now, "nbf": now, "exp": now + 3600,
        "scope": "positions:read positions:write", "jti": "0197a3b0-7c3e-7d2a-9c56-3f1b0c2e9a7d",
    });
    let private = (kind.private)().expect("a private key");
    let token = encode(&Header::new(kind.algorithm), &claims, &private).expect("a token");
    let token = Secret::new(token);

    let key = load_public_key_from_pem(kind.pem).expect("a public key");
    let options = JwtOptions::new(KeySource::Given(vec![key]), ISSUER, AUDIENCE);
    let verifier = JwtVerifier::connect(options).await.expect("a verifier");

    let public = (kind.public)().expect("a public key");
    let mut validation = Validation::new(kind.algorithm);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation.validate_nbf = true;
    let bare = || async {
        decode::<Map<String, Value>>(black_box(token.expose()), &public, &validation)
            .map_err(|error| Error::permanent("refused").with_source(error))
    };
    for peer in report.peers(&["cqi", BARE]) {
        let nanos = match peer {
            BARE => time(report, 20_000, bare).await,
            _ => time(report, 20_000, || verifier.verify(black_box(&token))).await,
        };
        report.figure(kind.case, peer, 0, nanos, "ns/op");
    }
    report.target(kind.case, 0, "ns/op", Target::AtMost(1.1, BARE));
}

async fn api_keys(report: &mut Report) {
    let key = |number: usize| Secret::new(format!("{:032x}", (number as u128 + 1) << 64 | 0x5eed_c0de));
    let entries = (0..KEYS).map(|number| Secret::new(format!("service-{number}:{}", key(number).expose())));
    let keys = ApiKeys::parse(entries).expect("valid keys");
    let case = "API key, of 1,000";
    for peer in report.peers(&["cqi"]) {
        let known = key(KEYS / 2);
        let verify = || async { keys.verify(black_box(&known)).await };
        let nanos = time(report, 500_000, verify).await;
        report.figure(case, peer, 0, nanos, "ns/op");
    }
    report.target(case, 0, "ns/op", Target::Below(1000.0));
    let stranger = keys.verify(&key(KEYS)).await;
    assert!(stranger.is_err(), "an unknown key was accepted");
}
