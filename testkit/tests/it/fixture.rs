//! Each kind of server: started, killed and started again, paused; and gone when the test process is.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Command, Stdio},
    time::Duration,
};

use cqi_testkit::fixture::{self, Kind, Options};

/// What a server of this kind says to a plain request, as far as it comes within the limit; `None` when nobody listens.
fn greeting(kind: Kind, server: &fixture::Server) -> Option<String> {
    let mut stream = TcpStream::connect(server.address()).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let request: &[u8] = match kind {
        Kind::Nats => b"",
        Kind::Redis => b"PING\r\n",
        // Whether it would speak TLS: it answers with one letter.
        Kind::Postgres => b"\0\0\0\x08\x04\xd2\x16\x2f",
        // Which versions it speaks.
        _ => b"\0\0\0\x0b\0\x12\0\0\0\0\0\x01\0\x01c",
    };
    stream.write_all(request).ok()?;
    let mut answer = [0; 4];
    let read = stream.read(&mut answer).unwrap_or(0);
    Some(String::from_utf8_lossy(&answer[..read]).into_owned())
}

fn is_killed_and_starts_again(kind: Kind) {
    let Some(server) = fixture::require_own(kind, &Options::default()) else {
        return;
    };
    assert!(server.owned() && server.address().ip().is_loopback());
    assert!(
        server.url().starts_with(&format!("{kind}://")),
        "{}",
        server.url()
    );
    let first = greeting(kind, &server).unwrap();
    assert!(!first.is_empty());

    server.pause();
    assert_eq!(
        greeting(kind, &server).as_deref(),
        Some(""),
        "it answers while it is paused"
    );
    server.resume();
    assert_eq!(greeting(kind, &server).unwrap(), first);

    let address = server.address();
    for end in [fixture::Server::kill, fixture::Server::stop] {
        end(&server);
        assert_eq!(greeting(kind, &server), None, "it is still there");
        server.start();
        assert_eq!(server.address(), address);
        assert_eq!(greeting(kind, &server).unwrap(), first);
    }
    // A paused server can be killed as well.
    server.pause();
    server.kill();
    assert_eq!(greeting(kind, &server), None, "it is still there");
}

#[test]
fn nats_is_killed_and_starts_again() {
    is_killed_and_starts_again(Kind::Nats);
}

#[test]
fn kafka_is_killed_and_starts_again() {
    is_killed_and_starts_again(Kind::Kafka);
}

#[test]
fn redis_is_killed_and_starts_again() {
    is_killed_and_starts_again(Kind::Redis);
}

#[test]
fn postgres_is_killed_and_starts_again() {
    is_killed_and_starts_again(Kind::Postgres);
}

/// Lines sent to Redis, and the first line of the last answer.
fn redis(server: &fixture::Server, commands: &[&str]) -> String {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let mut answer = String::new();
    for command in commands {
        stream.write_all(format!("{command}\r\n").as_bytes()).unwrap();
        answer.clear();
        answers.read_line(&mut answer).unwrap();
    }
    answer
}

#[test]
fn lines_of_configuration_apply_and_data_stays() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::new()
        .line("appendonly yes")
        .line("appendfsync always")
        .data(folder.path());
    let Some(server) = fixture::require_own(Kind::Redis, &options) else {
        return;
    };
    assert_eq!(redis(&server, &["SET a 1"]), "+OK\r\n");
    server.kill();
    server.start();
    assert_eq!(redis(&server, &["INCR a"]), ":2\r\n");
    assert!(folder.path().join("appendonlydir").is_dir());
}

/// TKT-3: of each kind, with what is needed to connect.
#[test]
fn all_tests_share_one_server() {
    let Some(server) = fixture::require(Kind::Redis) else {
        return;
    };
    let again = std::thread::spawn(|| fixture::require(Kind::Redis).unwrap())
        .join()
        .unwrap();
    assert!(std::ptr::eq(server, again));
    assert!(redis(again, &["PING"]).starts_with('+'));
}

#[test]
#[should_panic(expected = "it does not start")]
fn a_server_that_does_not_start_is_a_failure_with_its_log() {
    let Some(_server) = fixture::require_own(Kind::Redis, &Options::new().line("no-such-directive yes"))
    else {
        panic!("it does not start, nor is it installed");
    };
}

/// The part of `servers_end_with_a_killed_test_process` that is killed.
#[test]
#[ignore = "started by another test, as a process to be killed"]
fn a_process_with_servers() {
    let kinds = [Kind::Nats, Kind::Redis, Kind::Postgres];
    let servers: Vec<_> = kinds
        .into_iter()
        .filter_map(|kind| fixture::require_own(kind, &Options::default()))
        .collect();
    for server in &servers {
        println!("address {}", server.address());
    }
    // One runs on, and those that are paused must be found and ended as well.
    servers.iter().skip(1).for_each(fixture::Server::pause);
    println!("started");
    // Until it is killed, or the other test has gone.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

#[test]
fn servers_end_with_a_killed_test_process() {
    let Some(_) = fixture::require(Kind::Redis) else {
        return;
    };
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "fixture::a_process_with_servers",
            "--ignored",
            "--nocapture",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let lines: Vec<String> = lines
        .map(Result::unwrap)
        .take_while(|line| line != "started")
        .collect();
    let addresses: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.split_once("address "))
        .map(|(_, at)| at)
        .collect();
    assert!(!addresses.is_empty(), "no server was started: {lines:?}");
    process.kill().unwrap();
    process.wait().unwrap();
    for address in addresses {
        let mut looks = 0;
        while TcpStream::connect(address).is_ok() {
            looks += 1;
            assert!(looks < 1000, "{address} is still served");
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}
