//! TLS against a server with a certificate of its own.

use std::io::Write as _;

use cqi_core::{
    Code, Kind,
    database::{Database, Executor, sql},
};
use cqi_postgres::{PostgresDatabase, PostgresOptions, TlsMode, TlsOptions};
use cqi_testkit::fixture::{self, Options};

use crate::support::{connect, one, own, run, until};

/// Made by the server itself, in its data folder, for `localhost`.
const CERTIFICATE: &str = "COPY (SELECT '') TO PROGRAM 'openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE \
    -keyout server.key -out server.crt && chmod 600 server.key'";

#[test]
fn c_13_ml_db_5_tls_is_as_strict_as_was_asked_for() {
    let Some((_server, options)) = own(&Options::default()) else {
        return;
    };
    run(async {
        let admin = connect(&options).await;
        if let Err(error) = admin.execute(sql(CERTIFICATE)).await {
            return fixture::skip(&format!("no certificate without openssl: {error}"));
        }
        for statement in ["ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()"] {
            admin.execute(sql(statement)).await.unwrap();
        }
        until(&admin, "SELECT current_setting('ssl') = 'on'").await;
        let certificate: String = one(&admin, "SELECT pg_read_file('server.crt')").await;
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(certificate.as_bytes()).unwrap();
        let tls = |host: &str, mode, root: bool| PostgresOptions {
            host: host.into(),
            password: "canary".into(),
            tls: TlsOptions {
                mode: Some(mode),
                root_cert: root.then(|| file.path().to_owned()),
                ..TlsOptions::default()
            },
            ..options.clone()
        };
        // The listener has read the new configuration when it first offers TLS.
        let encrypted = tls("localhost", TlsMode::Require, false);
        while PostgresDatabase::connect(encrypted.clone()).await.is_err() {
            tokio::task::yield_now().await;
        }
        for good in [
            encrypted,
            tls("localhost", TlsMode::VerifyFull, true),
            tls("127.0.0.1", TlsMode::VerifyCa, true),
        ] {
            let db = connect(&good).await;
            assert!(one::<bool>(&db, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").await);
            db.close().await.unwrap();
        }
        for bad in [
            tls("localhost", TlsMode::VerifyFull, false),
            tls("localhost", TlsMode::VerifyCa, false),
            tls("127.0.0.1", TlsMode::VerifyFull, true),
        ] {
            let error = PostgresDatabase::connect(bad.clone())
                .await
                .map(drop)
                .unwrap_err();
            let shown = format!("{error} {error:?} {}", error.chain());
            assert_eq!(
                (error.kind(), error.code()),
                (Kind::Permanent, Some(Code::FailedPrecondition)),
                "{shown}"
            );
            assert!(shown.contains("sslmode") && !shown.contains("canary"), "{shown}");
        }
    });
}
