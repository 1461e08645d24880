use std::fs;

use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType, string::Ia5String};
use tempfile::TempDir;

use rustls::RootCertStore;

use super::{files::MAX_FILE, *};
use crate::health::Checker as _;

/// A folder with certificates made on the spot.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        let key = KeyPair::generate().unwrap();
        let certificate = params(&["localhost"]).self_signed(&key).unwrap();
        files.write("cert.pem", &certificate.pem());
        files.write("key.pem", &key.serialize_pem());
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        files.write("ca.pem", &authority.pem());
        files.write("other.pem", &KeyPair::generate().unwrap().serialize_pem());
        files.write("empty.pem", "");
        files.write(
            "broken.pem",
            "-----BEGIN CERTIFICATE-----\n%%canary%%\n-----END CERTIFICATE-----\n",
        );
        files.write(
            "garbage.pem",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        );
        files.write("large.pem", &"x".repeat(usize::try_from(MAX_FILE).unwrap() + 1));
        files
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
    }

    fn options(&self, certificate: &str, key: &str) -> TlsOptions {
        TlsOptions::new(self.0.path().join(certificate), self.0.path().join(key))
    }

    fn with_ca(&self, ca: &str) -> TlsOptions {
        TlsOptions {
            client_ca: Some(self.0.path().join(ca)),
            require_client: true,
            ..self.options("cert.pem", "key.pem")
        }
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    CertificateParams::new(names).unwrap()
}

#[test]
fn ml_grpc_3_good_files_make_a_configuration() {
    let files = Files::new();
    let options = files.options("cert.pem", "key.pem");
    let config = options.server_config(&[b"h2", b"http/1.1"]).unwrap();
    assert_eq!(config.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    files.with_ca("ca.pem").server_config(&[]).unwrap();
    let both = fs::read_to_string(files.0.path().join("cert.pem")).unwrap()
        + &fs::read_to_string(files.0.path().join("key.pem")).unwrap();
    files.write("both.pem", &both);
    files.options("both.pem", "both.pem").server_config(&[]).unwrap();
}

#[test]
fn ml_grpc_3_a_bad_file_is_named_with_its_rule() {
    let files = Files::new();
    let cases = [
        (
            files.options("gone.pem", "key.pem"),
            "certificate",
            "gone.pem cannot be read",
        ),
        (
            files.options("cert.pem", "gone.pem"),
            "key",
            "gone.pem cannot be read",
        ),
        (files.options("", "key.pem"), "certificate", "cannot be read"),
        (
            files.options("empty.pem", "key.pem"),
            "certificate",
            "empty.pem must hold a certificate",
        ),
        (
            files.options("cert.pem", "empty.pem"),
            "key",
            "empty.pem must hold a private key",
        ),
        (
            files.options("key.pem", "cert.pem"),
            "certificate",
            "key.pem must hold a certificate",
        ),
        (
            files.options("cert.pem", "cert.pem"),
            "key",
            "cert.pem must hold a private key",
        ),
        (
            files.options("broken.pem", "key.pem"),
            "certificate",
            "broken.pem must be in PEM form",
        ),
        (
            files.options("garbage.pem", "key.pem"),
            "certificate",
            "garbage.pem must be an X.509 certificate",
        ),
        (
            files.options("cert.pem", "garbage.pem"),
            "key",
            "garbage.pem must be an RSA",
        ),
        (
            files.options("large.pem", "key.pem"),
            "certificate",
            "large.pem must be at most 4 MiB",
        ),
        (
            files.options("cert.pem", "other.pem"),
            "key",
            "other.pem is not the key of the certificate",
        ),
        (files.with_ca("gone.pem"), "client CA", "gone.pem cannot be read"),
        (
            files.with_ca("empty.pem"),
            "client CA",
            "empty.pem must hold a certificate",
        ),
        (
            files.with_ca("garbage.pem"),
            "client CA",
            "garbage.pem must hold certificates of authorities",
        ),
    ];
    for (options, what, rule) in cases {
        let error = options.server_config(&[]).unwrap_err();
        let text = error.to_string();
        assert!(error.is_invalid_input(), "{error:?}");
        assert!(
            text.starts_with(&format!("TLS {what} ")) && text.contains(rule),
            "{rule}: {text}"
        );
        assert!(!error.chain().to_string().contains("canary"), "{}", error.chain());
    }
}

#[test]
fn clients_must_not_be_needed_without_anybody_who_vouches_for_them() {
    let files = Files::new();
    let options = TlsOptions {
        client_ca: None,
        ..files.with_ca("ca.pem")
    };
    let text = options.server_config(&[]).unwrap_err().to_string();
    assert!(text.contains("client_ca must be given"), "{text}");
}

#[test]
fn p_auth_4_a_client_reads_its_files_by_the_same_rules() {
    let files = Files::new();
    let path = |name: &str| Some(files.0.path().join(name));
    let config = |roots, certificate, key| {
        let options = ClientTlsOptions {
            roots,
            certificate,
            key,
        };
        options.client_config(RootCertStore::empty(), &[b"h2"])
    };
    let good = config(path("ca.pem"), path("cert.pem"), path("key.pem")).unwrap();
    assert_eq!(good.alpn_protocols, [b"h2".to_vec()]);
    config(None, None, None).unwrap();
    for (bad, rule) in [
        (config(path("gone.pem"), None, None), "gone.pem cannot be read"),
        (
            config(path("garbage.pem"), None, None),
            "garbage.pem must hold certificates of authorities",
        ),
        (
            config(None, path("cert.pem"), path("other.pem")),
            "other.pem is not the key",
        ),
        (config(None, path("cert.pem"), None), "both certificate and key"),
        (config(None, None, path("key.pem")), "both certificate and key"),
    ] {
        let error = bad.unwrap_err();
        assert!(
            error.is_invalid_input() && error.to_string().contains(rule),
            "{error}"
        );
    }
}

#[test]
fn p_auth_4_a_client_is_named_by_uri_then_dns_name() {
    let uri = |uri: &str| SanType::URI(Ia5String::try_from(uri).unwrap());
    let named = |names: &[&str], uris: &[&str]| {
        let mut params = params(names);
        params.subject_alt_names.extend(uris.iter().map(|name| uri(name)));
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        peer_identity(&[certificate.der().clone()])
    };
    let billing = "spiffe://example.org/billing";
    let caller = named(&["billing.example.org"], &[billing]).unwrap();
    assert_eq!(
        (caller.service_id.as_deref(), caller.auth_type),
        (Some(billing), AuthType::Mtls)
    );
    assert_eq!(
        named(&["*.example.org", "orders.example.org"], &[])
            .unwrap()
            .service_id
            .as_deref(),
        Some("orders.example.org")
    );
    assert_eq!(named(&["*.example.org"], &[]), None);
    assert_eq!(named(&["127.0.0.1"], &[]), None);
    assert_eq!(peer_identity(&[]), None);
    assert_eq!(
        peer_identity(&[CertificateDer::from(&b"no certificate"[..])]),
        None
    );
}

/// Whether new connections get another configuration than that one.
fn served(live: &LiveTls, before: &Arc<ServerConfig>) -> bool {
    !Arc::ptr_eq(&live.config(), before)
}

#[tokio::test(start_paused = true)]
async fn certificates_that_change_are_used_and_broken_ones_are_not() {
    let files = Files::new();
    let tls = TlsFiles::new(files.options("cert.pem", "key.pem"), &[b"h2"]);
    let checker = tls.checker("http_tls");
    let live = tls.load().await.unwrap();
    let mut following = Box::pin(live.follow());
    // Two looks.
    let minutes = Duration::from_secs(121);
    let mut look = async || {
        let following = tokio::time::timeout(minutes, &mut following);
        assert!(following.await.is_err());
    };
    let first = live.config();
    look().await;
    assert!(!served(&live, &first), "nothing has changed");

    // A certificate whose key has not come yet.
    let key = KeyPair::generate().unwrap();
    let certificate = params(&["localhost"]).self_signed(&key).unwrap();
    files.write("cert.pem", &certificate.pem());
    look().await;
    assert!(!served(&live, &first));
    let error = checker.check().await.unwrap_err();
    assert!(error.message().contains("key.pem is not the key"), "{error}");

    files.write("key.pem", &key.serialize_pem());
    look().await;
    checker.check().await.unwrap();
    let second = live.config();
    assert!(served(&live, &first));
    assert_eq!(second.alpn_protocols, [b"h2".to_vec()]);

    for broken in ["", "nonsense"] {
        files.write("cert.pem", broken);
        look().await;
        assert!(!served(&live, &second), "{broken:?}");
        assert!(checker.check().await.unwrap_err().is_invalid_input());
    }
    fs::remove_file(files.0.path().join("cert.pem")).unwrap();
    look().await;
    assert!(
        checker
            .check()
            .await
            .unwrap_err()
            .message()
            .contains("cannot be read")
    );
    // The one before, again: it is read anew.
    files.write("cert.pem", &certificate.pem());
    look().await;
    checker.check().await.unwrap();
    assert!(served(&live, &second));
}

#[tokio::test(start_paused = true)]
async fn who_vouches_for_clients_may_change_and_never_is_an_interval() {
    let files = Files::new();
    let authority = fs::read_to_string(files.0.path().join("ca.pem")).unwrap();
    for (interval, changes) in [(Duration::from_secs(5), true), (Duration::ZERO, false)] {
        files.write("ca.pem", &authority);
        let options = TlsOptions {
            reload_interval: interval,
            ..files.with_ca("ca.pem")
        };
        let live = TlsFiles::new(options, &[]).load().await.unwrap();
        let first = live.config();
        files.write(
            "ca.pem",
            &fs::read_to_string(files.0.path().join("cert.pem")).unwrap(),
        );
        let followed = tokio::time::timeout(Duration::from_secs(11), live.follow()).await;
        assert!(followed.is_err());
        assert_eq!(served(&live, &first), changes);
    }
}
