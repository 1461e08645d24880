//! Servers and databases for the tests.
use cqi_postgres::PostgresOptions;
pub(crate) fn fresh_database() -> PostgresOptions {
    let url = std::env::var("CQI_TEST_POSTGRES_URL").unwrap();
    let admin = PostgresOptions::from_url(&url).unwrap();
    let name = cqi_testkit::unique("db");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        use cqi_core::database::Executor as _;
        let db = cqi_postgres::PostgresDatabase::connect(admin.clone())
            .await
            .unwrap();
        db.execute(cqi_core::database::sql(format!("CREATE DATABASE {name}")))
            .await
            .unwrap();
    });
    PostgresOptions {
        database: name,
        ..admin
    }
}
