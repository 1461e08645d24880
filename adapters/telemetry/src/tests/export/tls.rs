//! Collectors behind TLS.

use cqi_core::tls::TlsOptions;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::*;

#[tokio::test]
async fn a_collector_behind_tls_is_believed_if_a_root_vouches_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let roots = file("ca.pem", &authority.pem());
    let tls = TlsOptions::new(
        file("server.pem", &certificate.pem()),
        file("server.key", &key.serialize_pem()),
    );
    for http in [false, true] {
        let (collector, path) = if http {
            (Collector::https(&tls).await, "/v1/traces")
        } else {
            (Collector::grpcs(&tls).await, "")
        };
        let endpoint = format!("https://localhost:{}{path}", collector.address.port());
        for believes in [false, true] {
            let options = ExportOptions {
                roots: believes.then(|| roots.clone()),
                attempts: 1,
                ..ExportOptions::default()
            };
            let rig = Exporting::to(&endpoint, options);
            rig.spans(3);
            let flushed = rig.telemetry.shutdown(LIMIT).await;
            assert_eq!(flushed.is_ok(), believes, "{endpoint}: {flushed:?}");
            assert_eq!(collector.spans().len(), if believes { 3 } else { 0 });
        }
    }
}
