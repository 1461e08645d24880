//! What the environment of the process says of PostgreSQL changes nothing. A process of its own for each environment.

use std::{
    env,
    process::{Command, Stdio},
};

use cqi_postgres::{PostgresDatabase, PostgresOptions};

use crate::support::{one, run, shared};

/// What the child is to connect to, and which variable it has to refuse.
const URL: &str = "CQI_TEST_C14_URL";
const REFUSED: &str = "CQI_TEST_C14_REFUSED";

#[test]
fn c_14_the_environment_changes_no_connection() {
    let given = |name| env::var_os(name).map(|value| value.into_string().unwrap());
    if let Some(url) = given(URL) {
        return run(connects(&url, given(REFUSED)));
    }
    let Some(options) = shared() else { return };
    let PostgresOptions {
        host,
        port,
        database,
        user,
        ..
    } = options;
    let plain = format!("postgres://{user}@{host}:{port}/{database}");
    let encrypted = format!("{plain}?sslmode=require");
    let foreign = [
        ("PGHOST", "nowhere.invalid"),
        ("PGHOSTADDR", "192.0.2.1"),
        ("PGPORT", "1"),
        ("PGUSER", "nobody"),
        ("PGPASSWORD", "canary"),
        ("PGPASSFILE", "/nowhere"),
        ("PGDATABASE", "nowhere"),
        ("PGAPPNAME", "foreign"),
        ("PGSSLMODE", "require"),
        ("PGSSLROOTCERT", "/nowhere"),
        ("PGSSLCERT", "/nowhere"),
        ("PGSSLKEY", "/nowhere"),
    ];
    for (url, environment, refused) in [
        (&plain, &foreign[..], None),
        (
            &plain,
            &[("PGOPTIONS", "-c statement_timeout=1")],
            Some("PGOPTIONS"),
        ),
        (
            &encrypted,
            &[("PGSSLROOTCERT", "/nowhere")],
            Some("PGSSLROOTCERT"),
        ),
        (&encrypted, &[("PGSSLCERT", "/nowhere")], Some("PGSSLCERT")),
        (&encrypted, &[("PGSSLKEY", "/nowhere")], Some("PGSSLKEY")),
    ] {
        let mut child = Command::new(env::current_exe().unwrap());
        child
            .args([
                "--exact",
                "environment::c_14_the_environment_changes_no_connection",
            ])
            .stdin(Stdio::null())
            .env(URL, url)
            .envs(environment.iter().copied())
            .envs(refused.map(|name| (REFUSED, name)));
        let ended = child.output().unwrap();
        let said = String::from_utf8_lossy(&ended.stdout);
        assert!(
            ended.status.success() && said.contains("1 passed"),
            "{environment:?}: {said}"
        );
    }
}

async fn connects(url: &str, refused: Option<String>) {
    let options = PostgresOptions::from_url(url).unwrap();
    match (PostgresDatabase::connect(options.clone()).await, refused) {
        (Ok(db), None) => {
            let seen: String = one(
                &db,
                "SELECT concat_ws(' ', current_user, current_database(), current_setting('application_name'))",
            )
            .await;
            assert_eq!(seen, format!("{} {} cqi", options.user, options.database));
        }
        (Err(error), Some(name)) => {
            assert!(
                error.is_invalid_input() && error.to_string().contains(&name),
                "{error}"
            );
        }
        (connected, refused) => panic!("{connected:?}, to refuse is {refused:?}"),
    }
}
