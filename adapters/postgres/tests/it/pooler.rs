//! PgBouncer between us and the server.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use cqi_core::{
    Code, Kind,
    database::{Database, Executor, sql},
};
use cqi_postgres::{PostgresDatabase, PostgresOptions};
use cqi_testkit::{
    eventually,
    fixture::{self, Options},
};
use tempfile::TempDir;

use crate::support::{connect, one, own, run};

/// Runs it until this process closes the pipe or is gone. It refuses to be root.
const SCRIPT: &str = r#"
[ "$(id -u)" = 0 ] && as='setpriv --reuid=postgres --regid=postgres --init-groups --'
$as "$0" "$1" & pid=$!
cat >/dev/null
kill "$pid"; wait "$pid"
"#;

struct PgBouncer {
    address: SocketAddr,
    child: Child,
    _home: TempDir,
}

impl PgBouncer {
    /// In front of `server`, with these settings too.
    async fn start(program: &Path, server: &PostgresOptions, settings: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let address = fixture::free_address().unwrap();
        let (users, file) = (home.path().join("users"), home.path().join("ini"));
        fs::write(&users, format!("\"{}\" \"\"\n", server.user)).unwrap();
        let (host, port) = (&server.host, server.port);
        let ini = format!(
            "[databases]\n* = host={host} port={port}\n[pgbouncer]\nlisten_addr = {}\nlisten_port = {}\n\
             unix_socket_dir =\nauth_type = trust\nauth_file = {}\n{settings}\n",
            address.ip(),
            address.port(),
            users.display(),
        );
        fs::write(&file, ini).unwrap();
        let child = Command::new("sh")
            .args(["-c", SCRIPT])
            .args([program, &file])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let listens = async || tokio::net::TcpStream::connect(address).await;
        let listens = eventually("PgBouncer listens", Duration::from_secs(20), listens).await;
        drop(listens.unwrap());
        Self {
            address,
            child,
            _home: home,
        }
    }

    fn options(&self, server: &PostgresOptions) -> PostgresOptions {
        PostgresOptions {
            host: self.address.ip().to_string(),
            port: self.address.port(),
            ..server.clone()
        }
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

/// Debian's is where a user's search path does not look.
fn installed() -> Option<PathBuf> {
    let search = "PATH=$PATH:/usr/sbin; command -v pgbouncer";
    let found = Command::new("sh").args(["-c", search]).output().ok()?;
    let path = String::from_utf8(found.stdout).ok()?;
    found.status.success().then(|| PathBuf::from(path.trim()))
}

#[test]
fn f_db_11_a_pooler_is_refused_unless_it_is_one_of_sessions_that_keeps_the_limits() {
    let Some(program) = installed() else {
        return fixture::skip("PgBouncer is not installed: apt-get install pgbouncer");
    };
    let Some((_server, direct)) = own(&Options::default()) else {
        return;
    };
    run(async {
        let server = connect(&direct).await;
        for (settings, why) in [
            ("pool_mode = transaction", "startup parameter"),
            (
                "pool_mode = transaction\nignore_startup_parameters = options",
                "statement_timeout",
            ),
            (
                "pool_mode = session\nignore_startup_parameters = options",
                "statement_timeout",
            ),
        ] {
            let pooler = PgBouncer::start(&program, &direct, settings).await;
            let refused = PostgresDatabase::connect(pooler.options(&direct)).await;
            let error = refused.map(drop).unwrap_err();
            assert_eq!(
                (error.kind(), error.code()),
                (Kind::Permanent, Some(Code::FailedPrecondition)),
                "{settings}: {error}"
            );
            let shown = error.to_string();
            assert!(
                shown.contains("pooler") && shown.contains(why),
                "{settings}: {shown}"
            );
        }

        let millis = direct.statement_timeout.as_millis();
        server
            .execute(sql(format!(
                "ALTER ROLE {} SET statement_timeout = {millis}",
                direct.user
            )))
            .await
            .unwrap();
        let settings = "pool_mode = session\nignore_startup_parameters = options";
        let pooler = PgBouncer::start(&program, &direct, settings).await;
        let db = connect(&pooler.options(&direct)).await;
        db.execute(sql("CREATE TABLE t (a BIGINT)")).await.unwrap();
        for n in 0..20_i64 {
            let insert = sql("INSERT INTO t VALUES ($1)").bind(n);
            assert_eq!(db.execute(insert).await.unwrap(), 1);
        }
        assert_eq!(one::<i64>(&db, "SELECT count(*) FROM t").await, 20);
        db.close().await.unwrap();
        server.close().await.unwrap();
    });
}
