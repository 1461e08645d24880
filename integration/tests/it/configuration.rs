//! What is wrong with a configuration is said at once and in full, with exit code 2 and without secrets.

use std::net::SocketAddr;

use crate::{
    startup::{failed, one_line},
    support::{Process, Program},
};

#[tokio::test]
async fn cfg_4_all_errors_of_the_environment_are_named_at_once() {
    let ended = failed(
        &[
            ("CQI_SERVER_PORT", "eighty"),
            ("CQI_DATABASE_MAX_CONNECTIONS", "0"),
            ("CQI_SERVER_WRITE_TIMEOUT", "0s"),
            ("LOG_LEVEL", "loud"),
            ("CQI_DATABASE_PASSWORD", "canary-password"),
            ("CQI_AUTH_API_KEYS", "canary-key"),
        ],
        2,
    )
    .await;
    one_line(
        &ended,
        &[
            "5 errors",
            "server.port (CQI_SERVER_PORT)",
            "database.max_connections (CQI_DATABASE_MAX_CONNECTIONS)",
            "server.write_timeout (CQI_SERVER_WRITE_TIMEOUT)",
            "logging.level (LOG_LEVEL)",
            "auth.api_keys (CQI_AUTH_API_KEYS)",
        ],
    );
    assert_eq!(ended.log, "");
}

#[tokio::test]
async fn cfg_4_all_errors_of_a_file_are_named_with_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("production.yaml");
    let text =
        "server: { prot: 1, port: many }\ndatabase: { password: canary-password, max_connections: 0 }\n";
    std::fs::write(&file, text).unwrap();
    let path = file.to_str().unwrap();
    let ended = failed(&[("CQI_CONFIG", path)], 2).await;
    let parts = [
        "server.prot (",
        "did you mean `server.port`",
        "database.max_connections (",
        "production.yaml)",
    ];
    one_line(&ended, &parts);

    std::fs::write(&file, "server: {\n").unwrap();
    one_line(&failed(&[("CQI_CONFIG", path)], 2).await, &["production.yaml"]);
    std::fs::remove_file(&file).unwrap();
    one_line(
        &failed(&[("CQI_CONFIG", path)], 2).await,
        &["production.yaml: no such file"],
    );
}

#[tokio::test]
async fn the_command_line_is_checked_and_helps() {
    let run = |args: &'static [&'static str]| Process::command(Program::Quickstart, &[], args).ended();
    let help = run(&["--help"]).await;
    assert_eq!(help.code, Some(0));
    for variable in [
        "CQI_SERVER_PORT",
        "CQI_DATABASE_URL",
        "CQI_EVENT_BUS_URL",
        "CQI_LOGGING_LEVEL",
    ] {
        assert!(help.log.contains(variable), "no {variable} in {}", help.log);
    }
    let check = run(&["--check-config"]).await;
    assert_eq!(
        (check.code, check.log.as_str()),
        (Some(0), "configuration is valid\n")
    );
    let wrong = run(&["--port", "1"]).await;
    assert_eq!(wrong.code, Some(2));
    one_line(&wrong, &["--port"]);
}

#[tokio::test]
async fn cfg_13_variables_win_over_the_file_and_the_file_over_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("service.toml");
    std::fs::write(
        &file,
        "service_name = \"ledger\"\n[server]\nport = 1\nmax_body_bytes = 10\n",
    )
    .unwrap();
    let service = Process::quickstart(&[("CQI_CONFIG", file.to_str().unwrap())]).await;
    let ready = service.line_with("start: ready").await;
    assert_eq!(ready["service_name"], "ledger");
    let address: SocketAddr = service.http();
    assert_ne!(address.port(), 1);
    service.stop().await;
}
