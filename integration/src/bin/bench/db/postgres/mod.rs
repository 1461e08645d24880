//! PostgreSQL through the database port beside bare clients: same server, same tables, pools of the same size.

mod sqlx;
mod tokio_postgres;

use std::sync::Arc;

use cqi_postgres::{PostgresDatabase, PostgresOptions};
use cqi_testkit::fixture::Kind;

use self::{sqlx::Sqlx, tokio_postgres::TokioPostgres};
use super::{Case, Db, Done, FIRST, Opened, ROWS, Run, Sql, port::Port};
use crate::{measure::SIZES, report::Report, servers};

/// The most connections of each pool.
const CONNECTIONS: u32 = 16;

const SQL: Sql = Sql {
    create: &[
        "DROP TABLE IF EXISTS cqi_bench_item, cqi_bench_outbox",
        "CREATE TABLE cqi_bench_item (id bigserial PRIMARY KEY, n bigint NOT NULL DEFAULT 0, body bytea NOT NULL)",
        "CREATE TABLE cqi_bench_outbox (id bigserial PRIMARY KEY, body bytea NOT NULL)",
    ],
    fill: "INSERT INTO cqi_bench_item (body) SELECT $1 FROM generate_series(1, $2)",
    select: "SELECT id, n, body FROM cqi_bench_item WHERE id = $1",
    insert: "INSERT INTO cqi_bench_item (body) VALUES ($1) RETURNING id",
    read: "SELECT n FROM cqi_bench_item WHERE id = $1 FOR UPDATE",
    update: "UPDATE cqi_bench_item SET n = n + 1 WHERE id = $1",
    outbox: "INSERT INTO cqi_bench_outbox (body) VALUES ($1)",
    counts: "SELECT count(*), sum(n)::bigint, (SELECT count(*) FROM cqi_bench_outbox) FROM cqi_bench_item",
};
const SETTLE: [&str; 2] = ["VACUUM ANALYZE cqi_bench_item", "CHECKPOINT"];
const DROP: &str = "DROP TABLE cqi_bench_item, cqi_bench_outbox";

const SQLX: &str = "sqlx";
const NO_PING: &str = "sqlx no-ping";
const PEERS: [&str; 4] = ["cqi", NO_PING, SQLX, "tokio-postgres"];

/// A case, its name, and how many calls are made one by one and by 16 tasks.
const CASES: [(Case, &str, usize, usize); 3] = [
    (Case::Select, "select", 3_000, 8_000),
    (Case::Insert, "insert", 500, 2_000),
    (Case::Transaction, "tx", 300, 1_000),
];

/// Every case once for every peer.
pub(crate) async fn round(report: &mut Report) {
    let Some(url) = servers::url(report, Kind::Postgres) else {
        return;
    };
    for size in SIZES {
        let bare = Sqlx::open(&url, true).await;
        bare.prepare(size).await;
        // All peers work on the same tables, so that these grow for all alike.
        let done = Arc::new(Done::default());
        let cqi = Some(with(&done, port(&url).await));
        let sqlx = Some(with(&done, bare));
        let no_ping = Some(with(&done, Sqlx::open(&url, false).await));
        let tokio_postgres = Some(with(&done, TokioPostgres::open(&url)));
        for (case, name, one_by_one, concurrent) in CASES {
            for (tasks, total) in [(1, one_by_one), (16, concurrent)] {
                let named = format!("{name} x{tasks}");
                for peer in report.peers(&PEERS) {
                    let run = Run {
                        peer,
                        named: &named,
                        case,
                        tasks,
                        total: report.count(total),
                        size,
                    };
                    match peer {
                        "cqi" => run.measure(report, &cqi).await,
                        SQLX => run.measure(report, &sqlx).await,
                        NO_PING => run.measure(report, &no_ping).await,
                        _ => run.measure(report, &tokio_postgres).await,
                    }
                }
                report.as_good_as(&named, size, NO_PING);
            }
        }
        if let Some(sqlx) = sqlx {
            sqlx.verify().await;
            sqlx.db.run(DROP).await;
        }
    }
    report.note("pools of 16, prepared statements, fsync on; a transaction is SELECT FOR UPDATE, UPDATE, INSERT between BEGIN and COMMIT: 5 round trips");
    report.note("sqlx: its pool as it is, which pings a connection before it lends it out; no-ping: with that off; tokio-postgres: under deadpool, which does not ping");
}

fn with<D: Db>(done: &Arc<Done>, db: D) -> Arc<Opened<D>> {
    Arc::new(Opened {
        db,
        done: Arc::clone(done),
    })
}

async fn port(url: &str) -> Port {
    let options = PostgresOptions {
        max_connections: CONNECTIONS,
        ..PostgresOptions::from_url(url).expect("a valid URL")
    };
    let db = PostgresDatabase::connect(options).await.expect("a database");
    Port {
        db: Arc::new(db),
        sql: &SQL,
    }
}
