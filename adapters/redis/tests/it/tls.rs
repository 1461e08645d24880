//! TLS.

use std::{path::Path, process::Command};

use cqi_core::{Kind, cache::Cache};
use cqi_redis::{RedisCache, RedisOptions};
use cqi_testkit::{fixture, recorder::Recorder};

use crate::kit::{FOR_EVER, options, own};

/// Makes a certificate signed by itself; false without `openssl`.
fn certificate(folder: &Path) -> bool {
    let made = Command::new("openssl")
        .current_dir(folder)
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost".split(' '))
        .args("-addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE -keyout key.pem -out cert.pem".split(' '))
        .output();
    made.is_ok_and(|made| made.status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn c_13_tls_works_with_a_trusted_certificate_and_only_then() {
    let folder = tempfile::tempdir().unwrap();
    if !certificate(folder.path()) {
        return fixture::skip("openssl is not installed");
    }
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let lines = [
        format!("tls-port {}", free.port()),
        format!("tls-cert-file {}", file("cert.pem")),
        format!("tls-key-file {}", file("key.pem")),
        "tls-auth-clients no".to_owned(),
    ];
    let Some(_server) = own(&lines.each_ref().map(String::as_str)) else {
        return;
    };
    let trusting = RedisOptions {
        tls: true,
        root_certificates: Some(std::fs::read(folder.path().join("cert.pem")).unwrap()),
        ..options(free)
    };
    let cache = RedisCache::connect(trusting.clone()).await.unwrap();
    assert!(cache.set("k", "v".into(), FOR_EVER).await.unwrap());

    let untrusting = RedisOptions {
        root_certificates: None,
        ..trusting.clone()
    };
    let error = RedisCache::connect(untrusting).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Permanent, "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");

    let plain = RedisOptions {
        tls: false,
        ..trusting
    };
    let error = RedisCache::connect(plain).await.unwrap_err();
    assert!(!error.is_invalid_input() && !error.is_unauthorized(), "{error}");
}

/// Plain text to another machine works, as some networks are safe by themselves, and is warned of.
#[tokio::test]
async fn c_13_plain_text_that_leaves_this_machine_is_warned_of() {
    let Some(server) = own(&[]) else { return };
    // The way to this machine that does not look like it.
    let abroad = RedisOptions {
        nodes: vec![("0.0.0.0".to_owned(), server.address().port())],
        password: "".into(),
        ..options(server.address())
    };
    for (options, warned) in [(options(server.address()), false), (abroad, true)] {
        let recorder = Recorder::default();
        let installed = recorder.install();
        RedisCache::connect(options).await.unwrap().ping().await.unwrap();
        drop(installed);
        assert_eq!(
            recorder.contains("not encrypted"),
            warned,
            "{:?}",
            recorder.logs()
        );
    }
}
