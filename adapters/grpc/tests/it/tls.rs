//! TLS, and clients known by their certificates.

use std::{fs, path::PathBuf, time::Duration};

use cqi_core::{auth::Requirement, health::Checker as _, service::ServiceHandle, tls::TlsOptions};
use cqi_grpc::{GrpcAuth, GrpcChannel, GrpcClientOptions, GrpcClientTls, GrpcOptions};
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::time::Instant;
use tonic::Code;

use crate::{
    echo::{Client, note},
    raw::Raw,
    support::{PATIENCE, Running, SHORT, options, serve_with, server, soon},
};

/// A folder with an authority, a server's and a client's certificate.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        files.write("ca.pem", &authority.pem());
        for name in ["localhost", "billing"] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new([name.to_owned()]).unwrap();
            files.write(
                &format!("{name}.pem"),
                &params.signed_by(&key, &authority).unwrap().pem(),
            );
            files.write(&format!("{name}.key"), &key.serialize_pem());
        }
        files
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn server(&self, client_ca: bool) -> GrpcOptions {
        let mut tls = TlsOptions::new(self.path("localhost.pem"), self.path("localhost.key"));
        tls.client_ca = client_ca.then(|| self.path("ca.pem"));
        GrpcOptions {
            tls: Some(tls),
            ..options()
        }
    }

    async fn client(&self, running: &Running, identity: bool) -> Client<GrpcChannel> {
        let mut options = GrpcClientOptions::uri(format!("https://localhost:{}", running.address.port()));
        options.tls = Some(GrpcClientTls {
            ca: Some(self.path("ca.pem")),
            identity: identity.then(|| (self.path("billing.pem"), self.path("billing.key"))),
            domain: None,
        });
        Client::new(GrpcChannel::connect(options).await.unwrap())
    }
}

#[tokio::test]
async fn ml_grpc_3_calls_go_over_tls_and_plain_text_does_not() {
    let files = Files::new();
    let running = serve_with(files.server(false), |server| server).await;
    let mut client = files.client(&running, false).await;
    assert_eq!(client.ask("over TLS").await.unwrap().text, "over TLS");
    soon(running.client.clone().ask("plain")).await.unwrap_err();
    // The roots of the web do not vouch for this server.
    let stranger = GrpcClientOptions::uri(format!("https://localhost:{}", running.address.port()));
    let mut stranger = Client::new(GrpcChannel::connect(stranger).await.unwrap());
    assert_eq!(
        stranger.ask("who are you?").await.unwrap_err().code(),
        Code::Unavailable
    );
}

#[tokio::test]
async fn a_new_certificate_is_served_to_new_connections() {
    let files = Files::new();
    let mut options = files.server(false);
    options.tls.as_mut().unwrap().reload_interval = Duration::from_millis(10);
    let running = serve_with(options, |server| {
        assert_eq!(server.tls_checker().unwrap().name(), "grpc_tls");
        server
    })
    .await;
    let mut old = files.client(&running, false).await;
    old.ask("old").await.unwrap();
    // Another authority and what it vouches for: only who trusts it is served.
    let new = Files::new();
    for name in ["localhost.pem", "localhost.key"] {
        fs::rename(new.path(name), files.path(name)).unwrap();
    }
    let begun = Instant::now();
    while new.client(&running, false).await.ask("new").await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "the old one is still served");
    }
    old.ask("old").await.unwrap();
}

#[tokio::test]
async fn ml_grpc_3_a_client_is_known_by_its_certificate() {
    let files = Files::new();
    let running = serve_with(files.server(true), |server| {
        let requirement = Requirement::authenticated();
        server
            .require("test.v1.Echo/Unary", requirement)
            .unwrap()
            .auth(GrpcAuth::client_certificates())
    })
    .await;
    let mut known = files.client(&running, true).await;
    assert_eq!(known.ask("who").await.unwrap().text, "billing");
    let mut stream = known.count(note("who", 0)).await.unwrap();
    assert_eq!(stream.message().await.unwrap().unwrap().text, "billing");
    let mut unknown = files.client(&running, false).await;
    assert_eq!(
        unknown.ask("who").await.unwrap_err().code(),
        Code::Unauthenticated
    );
    // A credential that nobody verifies is no way around.
    let mut request = tonic::Request::new(note("who", 0));
    request
        .metadata_mut()
        .insert("authorization", "Bearer x".parse().unwrap());
    assert_eq!(
        known.unary(request).await.unwrap_err().code(),
        Code::Unauthenticated
    );
}

#[tokio::test]
async fn a_certificate_counts_only_where_it_was_asked_for() {
    let files = Files::new();
    let running = serve_with(files.server(true), |server| {
        let mut auth = GrpcAuth::client_certificates();
        auth.client_certificates = false;
        server.auth(auth)
    })
    .await;
    let mut known = files.client(&running, true).await;
    assert_eq!(known.ask("who").await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn ml_grpc_3_a_client_without_the_certificate_it_needs_is_turned_away() {
    let files = Files::new();
    let mut options = files.server(true);
    options.tls.as_mut().unwrap().require_client = true;
    let running = serve_with(options, |server| server).await;
    files.client(&running, true).await.ask("in").await.unwrap();
    let status = soon(files.client(&running, false).await.ask("out"))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn ml_grpc_3_wrong_files_are_a_start_error_that_names_them() {
    let files = Files::new();
    for (certificate, key, named) in [
        ("gone.pem", "localhost.key", "gone.pem"),
        ("localhost.pem", "billing.key", "billing.key"),
        ("localhost.pem", "localhost.pem", "localhost.pem"),
    ] {
        let options = GrpcOptions {
            tls: Some(TlsOptions::new(files.path(certificate), files.path(key))),
            ..options()
        };
        let error = ServiceHandle::start(server(options), PATIENCE).await.unwrap_err();
        assert!(
            error.is_invalid_input() && error.chain().to_string().contains(named),
            "{}",
            error.chain()
        );
    }
    for identity in [("gone.pem", "billing.key"), ("billing.pem", "localhost.key")] {
        let mut options = GrpcClientOptions::uri("https://localhost:1");
        options.tls = Some(GrpcClientTls {
            identity: Some((files.path(identity.0), files.path(identity.1))),
            ..GrpcClientTls::default()
        });
        assert!(
            GrpcChannel::connect(options)
                .await
                .unwrap_err()
                .is_invalid_input(),
            "{identity:?}"
        );
    }
}

#[tokio::test]
async fn h_02_a_silent_tls_client_is_closed_and_does_not_hold_up_the_drain() {
    let files = Files::new();
    let mut options = files.server(false);
    options.handshake_timeout = SHORT;
    let running = serve_with(options, |server| server).await;
    let mut silent = Raw::silent(running.address).await;
    silent.closed().await;
    let mut running = serve_with(files.server(false), |server| server).await;
    let mut silent = Raw::silent(running.address).await;
    running.handle.stop(PATIENCE / 2).await.unwrap();
    silent.closed().await;
}
