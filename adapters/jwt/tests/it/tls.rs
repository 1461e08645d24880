//! Published keys over TLS. Nothing of it is installed for the process, so this also shows that no provider is missed.

use std::sync::Arc;

use cqi_jwt::{JwtOptions, JwtVerifier, KeySource};
use jsonwebtoken::Algorithm;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    issuer::{Issuer, key_set},
    token::{AUDIENCE, ISSUER, token, verify},
};

/// A server's side for `name`, and the PEM text of the root that vouches for it.
fn server(name: &str) -> (TlsAcceptor, String) {
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &root).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), root.pem())
}

#[tokio::test]
async fn ml_auth_2_keys_come_over_tls_from_whom_the_roots_vouch_for_only() {
    let keys = key_set(&[("ed", Algorithm::EdDSA)]);
    let connect = async |name: &str, roots: fn(String) -> Option<String>| {
        let (tls, root) = server(name);
        let issuer = Issuer::start_tls(tls).await;
        issuer.publishes("/keys", &keys);
        let url = format!("{}/keys", issuer.url);
        let mut options = JwtOptions::new(KeySource::Jwks(url), ISSUER, AUDIENCE);
        options.jwks.roots = roots(root);
        JwtVerifier::connect(options).await
    };
    let verifier = connect("127.0.0.1", Some).await.unwrap();
    assert!(verify(&verifier, &token(serde_json::json!({}))).await.is_ok());

    let unknown = connect("127.0.0.1", |_| None).await.unwrap_err();
    assert!(
        unknown.is_temporary() && unknown.chain().to_string().contains("certificate"),
        "{}",
        unknown.chain()
    );
    let other = connect("127.0.0.1", |_| Some(server("127.0.0.1").1))
        .await
        .unwrap_err();
    assert!(other.is_temporary(), "{other}");
    let misnamed = connect("id.example.com", Some).await.unwrap_err();
    assert!(misnamed.is_temporary(), "{misnamed}");
}
