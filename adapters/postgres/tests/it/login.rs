//! DB-2, ML-DB-5: what is wrong with the configuration is said at once, in one line, without the password.

use std::time::Duration;

use cqi_core::{
    Code, Error, Kind,
    database::{Executor, sql},
};
use cqi_postgres::{PostgresDatabase, PostgresOptions, TlsMode, TlsOptions};
use cqi_testkit::fixture::Options;

use crate::support::{connect, own, run};

async fn refused(options: PostgresOptions) -> Error {
    let server = options.host.clone();
    let error = PostgresDatabase::connect(options).await.map(drop).unwrap_err();
    let shown = format!("{error} {error:?} {}", error.chain());
    assert!(!shown.contains("canary"), "{shown}");
    assert!(
        error.to_string().contains(&server) && !error.to_string().contains('\n'),
        "{error}"
    );
    assert_eq!(error.operation(), Some("database.connect"));
    assert!(!error.may_have_applied());
    error
}

#[test]
fn ml_db_5_a_wrong_configuration_is_named() {
    let Some((server, options)) = own(&Options::default()) else {
        return;
    };
    run(async {
        let admin = connect(&options).await;
        admin
            .execute(sql("CREATE ROLE app LOGIN PASSWORD 'right'"))
            .await
            .unwrap();
        let hba: String = crate::support::one(&admin, "SELECT current_setting('hba_file')").await;
        let lines = "SELECT unnest(ARRAY['host all app all scram-sha-256', 'host all all all trust'])";
        admin
            .execute(sql(format!("COPY ({lines}) TO '{hba}'")))
            .await
            .unwrap();
        admin.execute(sql("SELECT pg_reload_conf()")).await.unwrap();
        let app = PostgresOptions {
            user: "app".into(),
            password: "right".into(),
            ..options.clone()
        };
        crate::support::until(&admin, "SELECT count(*) = 2 FROM pg_hba_file_rules").await;
        let db = connect(&app).await;

        let denied = db
            .execute(sql("CREATE TABLE pg_catalog.t (a BIGINT)"))
            .await
            .unwrap_err();
        assert_eq!(
            (denied.kind(), denied.code()),
            (Kind::Permanent, Some(Code::PermissionDenied))
        );

        // The reload reaches the server's listener a moment later than this session.
        let wrong = PostgresOptions {
            password: "canary".into(),
            ..app.clone()
        };
        let error = refused(wrong).await;
        assert_eq!(error.kind(), Kind::Unauthorized, "{error}");

        let error = refused(PostgresOptions {
            database: "nowhere".into(),
            ..app.clone()
        })
        .await;
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::Permanent, Some(Code::FailedPrecondition)),
            "{error}"
        );

        let tls = TlsOptions {
            mode: Some(TlsMode::Require),
            ..TlsOptions::default()
        };
        let error = refused(PostgresOptions {
            tls,
            password: "canary".into(),
            ..app.clone()
        })
        .await;
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::Permanent, Some(Code::FailedPrecondition)),
            "{error}"
        );
        assert!(error.message().contains("sslmode=disable"), "{error}");
    });
    let nobody = PostgresOptions {
        password: "canary".into(),
        ..options.clone()
    };
    server.stop();
    run(async {
        let error = refused(nobody.clone()).await;
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::Temporary, Some(Code::Unavailable)),
            "{error}"
        );
        let unknown = PostgresOptions {
            host: "no-such-host.invalid".into(),
            ..nobody.clone()
        };
        let error = refused(unknown).await;
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::Temporary, Some(Code::Unavailable)),
            "{error}"
        );
    });
}

/// Something that listens and is no PostgreSQL, and something that never answers.
#[test]
fn a_server_of_another_kind_is_found_out_in_time() {
    run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let options = PostgresOptions {
            host: "127.0.0.1".into(),
            port,
            database: "a".into(),
            password: "canary".into(),
            connection_timeout: Duration::from_millis(300),
            ..PostgresOptions::default()
        };
        let start = tokio::time::Instant::now();
        let error = refused(options.clone()).await;
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::Temporary, Some(Code::Unavailable)),
            "{error}"
        );
        assert!(start.elapsed() < Duration::from_secs(2));
        let answering = async {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::io::AsyncWriteExt::write_all(&mut stream, b"-ERR unknown command\r\n-ERR\r\n")
                    .await
                    .unwrap();
                tokio::io::AsyncWriteExt::shutdown(&mut stream).await.unwrap();
            }
        };
        let error = tokio::select! {
            () = answering => unreachable!(),
            error = refused(options) => error,
        };
        assert_ne!(error.kind(), Kind::InvalidInput, "{error}");
    });
}
