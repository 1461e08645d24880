//! Shared servers in containers, where an engine answers and an image is named.

use std::{
    env,
    io::{BufRead as _, BufReader, Read as _},
    net::TcpStream,
    process::{Command, Stdio},
    time::Duration,
};

use cqi_testkit::fixture::{self, Kind};

fn docker(arguments: &[&str]) -> Option<String> {
    let output = Command::new("docker").args(arguments).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The part of the other test that is killed.
#[test]
#[ignore = "started by another test, as a process to be killed"]
fn a_process_with_a_shared_server() {
    let kind: Kind = env::var_os("CQI_KIND_OF_TEST")
        .unwrap()
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let server = fixture::shared(kind).unwrap();
    println!("\nserver {} owned {}", server.address(), server.owned());
    // Until it is killed, or the other test has gone.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

#[test]
fn containers_end_with_a_killed_test_process() {
    let named = [
        (Kind::Nats, "CQI_TEST_NATS_IMAGE"),
        (Kind::Redis, "CQI_TEST_REDIS_IMAGE"),
    ];
    let named: Vec<_> = named
        .into_iter()
        .filter(|(_, variable)| env::var_os(variable).is_some())
        .collect();
    if named.is_empty() || docker(&["info"]).is_none() {
        return fixture::skip(
            "no container engine, or neither CQI_TEST_NATS_IMAGE nor CQI_TEST_REDIS_IMAGE is set",
        );
    }
    for (kind, _) in named {
        let mut process = Command::new(env::current_exe().unwrap())
            .args([
                "--exact",
                "container::a_process_with_a_shared_server",
                "--ignored",
                "--nocapture",
            ])
            .env("CQI_KIND_OF_TEST", kind.name())
            .env_remove(kind.variable())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let said = lines.map(Result::unwrap).find(|line| line.starts_with("server "));
        let said = said.unwrap_or_else(|| panic!("no {kind} server was started"));
        let (address, owned) = said.trim_start_matches("server ").split_once(" owned ").unwrap();
        assert_eq!(owned, "false");
        let published = docker(&["ps", "--format", "{{.Ports}}"]).unwrap();
        assert!(
            published.contains(&format!("{address}->")),
            "{address} is not in:\n{published}"
        );
        assert!(TcpStream::connect(address).is_ok());
        process.kill().unwrap();
        process.wait().unwrap();
        let mut looks = 0;
        while docker(&["ps", "--all", "--format", "{{.Ports}}"]).is_some_and(|ports| ports.contains(address))
        {
            looks += 1;
            assert!(looks < 500, "the container at {address} is still there");
            std::thread::park_timeout(Duration::from_millis(20));
        }
        assert!(TcpStream::connect(address).is_err());
    }
}
