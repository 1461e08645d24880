//! TLS: handshakes, protocols, certificates of clients.

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::{Router, routing::get};
use cqi_core::{
    auth::{AnyOf, AuthType},
    health::Checker as _,
    policy::{Policy, Retry},
    service::ServiceHandle,
    tls::{ClientTlsOptions, TlsOptions},
};
use cqi_http::{AuthOptions, Caller, HttpClient, HttpClientOptions, HttpOptions, HttpServer};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tempfile::TempDir;
use tokio::{net::TcpStream, time::Instant};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::support::{Client, PATIENCE, SHORT, options, start};

const BILLING: &str = "spiffe://example.org/billing";

/// An authority, what it vouches for, and the server's files.
struct Authority {
    files: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let server = server.signed_by(&key, &issuer).unwrap();
        let authority = Self {
            files: tempfile::tempdir().unwrap(),
            issuer,
        };
        authority.write("cert.pem", &server.pem());
        authority.write("key.pem", &key.serialize_pem());
        authority.write("ca.pem", &authority.issuer.pem());
        authority
    }

    /// Replaces a file at once, as whatever renews certificates should.
    fn write(&self, name: &str, text: &str) {
        let new = self.files.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.files.path().join(name)).unwrap();
    }

    /// A new certificate of the server's, in the place of the old one.
    fn renew(&self) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let server = server.signed_by(&key, &self.issuer).unwrap();
        self.write("key.pem", &key.serialize_pem());
        self.write("cert.pem", &server.pem());
        server.der().clone()
    }

    /// The certificate that a new connection is shown.
    async fn shown(&self, address: SocketAddr) -> CertificateDer<'static> {
        let stream = self.connect(address, None, &[]).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    }

    /// The certificate of the authority itself.
    fn root(&self) -> PathBuf {
        self.files.path().join("ca.pem")
    }

    fn server(&self) -> TlsOptions {
        TlsOptions::new(
            self.files.path().join("cert.pem"),
            self.files.path().join("key.pem"),
        )
    }

    fn server_that_asks(&self, require_client: bool) -> TlsOptions {
        TlsOptions {
            client_ca: Some(self.root()),
            require_client,
            ..self.server()
        }
    }

    fn client(&self) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(BILLING.try_into().unwrap())];
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// Certificate and key of a client.
    fn client_files(&self) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.client();
        let paths = ["client.pem", "client-key.pem"].map(|name| self.files.path().join(name));
        fs::write(&paths[0], certificate.pem()).unwrap();
        fs::write(&paths[1], key.serialize_pem()).unwrap();
        paths.into()
    }

    /// Connects, with a client certificate of `issuer` if given.
    async fn connect(
        &self,
        address: SocketAddr,
        issuer: Option<&Self>,
        alpn: &[&[u8]],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match issuer {
            Some(issuer) => {
                let (certificate, key) = issuer.client();
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                builder
                    .with_client_auth_cert(vec![certificate.der().clone()], key)
                    .unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let stream = TcpStream::connect(address).await?;
        let name = "localhost".try_into().unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

fn router() -> Router {
    Router::new().route("/", get(|| async { "hello" })).route(
        "/whoami",
        get(|caller: Caller| async move {
            assert_eq!(caller.auth_type, AuthType::Mtls);
            caller.service_id.clone().unwrap()
        }),
    )
}

async fn secure(tls: TlsOptions, change: impl FnOnce(&mut HttpOptions)) -> (SocketAddr, ServiceHandle) {
    let mut options = HttpOptions {
        tls: Some(tls),
        ..options()
    };
    change(&mut options);
    start(HttpServer::new("http", router(), options).unwrap()).await
}

#[tokio::test]
async fn tls_serves_both_protocols_and_browsers_are_told_to_stay_with_it() {
    let authority = Authority::new();
    let (address, _handle) = secure(authority.server(), |_| {}).await;
    let stream = authority.connect(address, None, &[b"http/1.1"]).await.unwrap();
    let mut client = Client::from(stream);
    let answer = client.get("/").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "hello"));
    assert_eq!(
        answer.header("strict-transport-security"),
        Some("max-age=31536000")
    );

    let stream = authority
        .connect(address, None, &[b"h2", b"http/1.1"])
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let io = hyper_util::rt::TokioIo::new(stream);
    let handshake = hyper::client::conn::http2::handshake::<_, _, axum::body::Body>(
        hyper_util::rt::TokioExecutor::new(),
        io,
    );
    let (mut sender, connection) = handshake.await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(connection);
    let request = http::Request::get("https://localhost/")
        .body(axum::body::Body::empty())
        .unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);

    let mut plain = Client::from(TcpStream::connect(address).await.unwrap());
    plain.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(plain.answer_or_noise().await.is_none(), "it answers without TLS");
}

#[tokio::test]
async fn h_02_a_handshake_that_does_not_come_closes_the_connection() {
    let authority = Authority::new();
    let (address, _handle) = secure(authority.server(), |options| options.handshake_timeout = SHORT).await;
    let begun = Instant::now();
    let mut silent = Client::connect(address).await;
    let mut half = Client::connect(address).await;
    // The start of a client's first message, which announces 512 bytes.
    half.send([22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]).await;
    silent.closed().await;
    half.closed().await;
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_handshake_under_way_does_not_hold_up_the_drain() {
    let authority = Authority::new();
    let (address, mut handle) = secure(authority.server(), |_| {}).await;
    let mut silent = Client::connect(address).await;
    let begun = Instant::now();
    handle.stop(PATIENCE).await.unwrap();
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
    silent.closed().await;
}

#[tokio::test]
async fn ml_grpc_3_a_bad_file_is_a_failed_start_that_names_it() {
    let authority = Authority::new();
    let mut tls = authority.server();
    tls.key = authority.root();
    let options = HttpOptions {
        tls: Some(tls),
        ..options()
    };
    let server = HttpServer::new("http", router(), options).unwrap();
    let error = ServiceHandle::start(server, PATIENCE).await.unwrap_err();
    assert!(
        error
            .chain()
            .to_string()
            .contains("ca.pem must hold a private key"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_new_certificate_is_served_to_new_connections_and_a_broken_one_is_not() {
    let authority = Authority::new();
    let mut tls = authority.server();
    tls.reload_interval = Duration::from_millis(10);
    let options = HttpOptions {
        tls: Some(tls),
        ..options()
    };
    let server = HttpServer::new("http", router(), options).unwrap();
    let checker = server.tls_checker().unwrap();
    assert_eq!(checker.name(), "http_tls");
    let (address, _handle) = start(server).await;
    let mut old = Client::from(authority.connect(address, None, &[]).await.unwrap());
    assert_eq!(old.get("/").await.body, "hello");

    let new = authority.renew();
    let begun = Instant::now();
    while authority.shown(address).await != new {
        assert!(begun.elapsed() < PATIENCE, "the old one is still served");
    }
    assert_eq!(old.get("/").await.body, "hello", "an open connection goes on");
    while checker.check().await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "{:?}", checker.check().await);
        tokio::task::yield_now().await;
    }

    authority.write("cert.pem", "nonsense");
    let begun = Instant::now();
    while checker.check().await.is_ok() {
        assert!(begun.elapsed() < PATIENCE, "nobody is told");
        tokio::task::yield_now().await;
    }
    assert_eq!(authority.shown(address).await, new);
    assert_eq!(old.get("/").await.body, "hello");
}

#[tokio::test]
async fn p_auth_4_a_client_without_the_right_certificate_gets_no_answer() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (address, _handle) = secure(authority.server_that_asks(true), |_| {}).await;
    for issuer in [None, Some(&stranger)] {
        // The refusal reaches the client with its first read.
        if let Ok(stream) = authority.connect(address, issuer, &[]).await {
            let mut client = Client::from(stream);
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            assert!(client.answer().await.is_none(), "it was answered");
        }
    }
    let stream = authority.connect(address, Some(&authority), &[]).await.unwrap();
    assert_eq!(Client::from(stream).get("/").await.body, "hello");
}

#[tokio::test]
async fn p_auth_4_the_outgoing_client_trusts_and_is_trusted_by_files() {
    let authority = Authority::new();
    let (address, _handle) = secure(authority.server_that_asks(true), |_| {}).await;
    let call = async |tls: ClientTlsOptions| {
        let options = HttpClientOptions {
            tls,
            ..HttpClientOptions::new(format!("https://localhost:{}", address.port()))
        };
        let client = HttpClient::new(options, Policy::new(PATIENCE, Retry::never())).unwrap();
        client.get("/").send().await
    };
    let error = call(ClientTlsOptions::default()).await.unwrap_err();
    assert!(
        error.is_permanent() && error.message().contains("not trusted"),
        "{error:?}"
    );
    let trusting = ClientTlsOptions {
        roots: Some(authority.root()),
        ..ClientTlsOptions::default()
    };
    assert!(
        call(trusting.clone()).await.is_err(),
        "without a certificate of its own"
    );
    let (certificate, key) = authority.client_files();
    let both = ClientTlsOptions {
        certificate: Some(certificate),
        key: Some(key),
        ..trusting
    };
    assert_eq!(call(both).await.unwrap().body(), "hello");
}

#[tokio::test]
async fn p_auth_4_a_client_certificate_is_a_credential_where_it_is_meant_to_be() {
    let authority = Authority::new();
    for counts in [true, false] {
        let options = HttpOptions {
            tls: Some(authority.server_that_asks(false)),
            auth: AuthOptions {
                client_certificates: counts,
                ..AuthOptions::default()
            },
            ..options()
        };
        let server = HttpServer::new("http", router(), options).unwrap();
        let (address, _handle) = start(server.auth(Arc::new(AnyOf::new())).unwrap()).await;
        let with = authority.connect(address, Some(&authority), &[]).await.unwrap();
        let mut with = Client::from(with);
        let answer = with.get("/whoami").await;
        if counts {
            assert_eq!((answer.status, answer.body.as_str()), (200, BILLING));
        } else {
            assert_eq!(answer.status, 401);
        }
        let answer = with.get_with("/whoami", "Authorization: Bearer wrong\r\n").await;
        assert_eq!(answer.status, 401, "another credential decides");
        let without = authority.connect(address, None, &[]).await.unwrap();
        assert_eq!(Client::from(without).get("/whoami").await.status, 401);
    }
}
