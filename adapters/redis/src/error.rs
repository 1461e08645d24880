//! What the client's and the server's errors mean.

use std::{io, sync::Arc, time::Duration};

use cqi_core::{Code, Error, Kind};
use redis::{ErrorKind, RedisError};

/// What was tried, for the message and for whether it may have taken effect.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    /// For example `cache.get`.
    pub(crate) operation: &'static str,
    /// Whether it changes anything.
    pub(crate) writes: bool,
    /// Whether it touches its one key only, so that it may be carried out where that key has moved to before the rest of
    /// its slot has.
    pub(crate) one_key: bool,
}

impl Call {
    pub(crate) const fn read(operation: &'static str) -> Self {
        Self {
            operation,
            writes: false,
            one_key: true,
        }
    }

    pub(crate) const fn write(operation: &'static str) -> Self {
        Self {
            operation,
            writes: true,
            one_key: true,
        }
    }

    /// The same, for what touches more than its one key.
    pub(crate) const fn of_many_keys(self) -> Self {
        Self {
            one_key: false,
            ..self
        }
    }
}

/// What an error says about the connection it came on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Damage {
    /// The connection is as good as before.
    None,
    /// No answer in time; after a few of these the connection counts as dead.
    Timeout,
    /// The connection works, but leads to a server that cannot do its work: a replica, or one that is starting.
    WrongServer,
    /// The connection is of no use any more.
    Lost,
}

pub(crate) fn damage(error: &RedisError) -> Damage {
    match answer(error).map(|(code, _)| code) {
        Some("READONLY" | "LOADING" | "MASTERDOWN") => Damage::WrongServer,
        // Somebody changed the password, or took it from us.
        Some("NOAUTH" | "WRONGPASS") => Damage::Lost,
        Some(_) => Damage::None,
        None if error.is_timeout() => Damage::Timeout,
        None if error.is_io_error() || error.is_unrecoverable_error() => Damage::Lost,
        None => Damage::None,
    }
}

/// The error of a call on an open connection.
pub(crate) fn classify(error: &RedisError, call: Call, server: &str, timeout: Duration) -> Error {
    let made = match answer(error) {
        Some((code, detail)) => refused(code, detail),
        None => {
            let made = unanswered(error, server, timeout);
            if call.writes { made.maybe_applied() } else { made }
        }
    };
    made.with_operation(call.operation).with_context("server", server)
}

/// The error of connecting.
pub(crate) fn connecting(error: &RedisError, server: &str, tls: bool, limit: Duration) -> Error {
    let made = match error.kind() {
        ErrorKind::AuthenticationFailed => credentials(),
        ErrorKind::RESP3NotSupported => {
            Error::unsupported("RESP3, which came with Redis 6,").with_code(Code::Unsupported)
        }
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => not_redis(),
        ErrorKind::Io if tls && io_kind(error) == Some(io::ErrorKind::InvalidData) => with_cause(
            Kind::Permanent,
            "TLS with Redis failed: check that the server speaks TLS and that its certificate is trusted",
            error,
        )
        .with_code(Code::FailedPrecondition),
        // The handshake's own errors name what was refused, and the server's text is about our numbers only.
        _ => match answer(error) {
            Some((code, detail)) => refused(code, detail),
            None if error.is_timeout() => {
                Error::temporary(format!("no connection to Redis within {limit:?}"))
                    .with_code(Code::Unavailable)
            }
            None => unanswered(error, server, limit),
        },
    };
    made.with_operation("redis.connect")
        .with_context("server", server)
}

/// What a node of a cluster says to whom it takes for another cluster's client.
pub(crate) fn of_a_cluster(call: Call, server: &str) -> Error {
    Error::permanent("the Redis server is a node of a cluster: add ?cluster=true to its URL")
        .with_code(Code::FailedPrecondition)
        .with_operation(call.operation)
        .with_context("server", server)
}

pub(crate) fn not_redis() -> Error {
    Error::permanent("the server does not speak the Redis protocol: check host, port, and whether it wants TLS (rediss://)")
        .with_code(Code::FailedPrecondition)
}

/// An answer of a shape that the command never gives.
pub(crate) fn unexpected(call: Call, server: &str) -> Error {
    Error::permanent("Redis gave an answer that does not fit the command")
        .with_code(Code::Undecodable)
        .with_operation(call.operation)
        .with_context("server", server)
}

fn unanswered(error: &RedisError, server: &str, timeout: Duration) -> Error {
    if error.is_timeout() {
        return Error::temporary(format!("no answer from Redis within {timeout:?}")).with_code(Code::Timeout);
    }
    let why = match error.kind() {
        ErrorKind::InvalidClientConfig | ErrorKind::Client => {
            return with_cause(Kind::Permanent, "the connection to Redis cannot be made", error);
        }
        _ if error.is_connection_refusal() => "Redis refuses connections: check that it runs at this address",
        ErrorKind::Parse => "the connection to Redis was lost: an answer was malformed",
        ErrorKind::ClusterConnectionNotFound => "no node of the Redis cluster can be reached",
        _ if server.is_empty() => "Redis cannot be reached",
        _ if error.is_connection_dropped() => "the connection to Redis was lost",
        _ => "Redis cannot be reached",
    };
    with_cause(Kind::Temporary, why, error).with_code(Code::Unavailable)
}

/// The code and the text of what the server answered.
fn answer(error: &RedisError) -> Option<(&str, &str)> {
    let (code, detail) = (error.code()?, error.detail().unwrap_or_default());
    Some(in_script(detail).unwrap_or((code, detail)))
}

/// Redis 6 wraps what a command of a script met: `Error running script (call to f_…): @user_script:4: @user_script: 4:
/// -READONLY …`. What counts stands at the end of it.
fn in_script(detail: &str) -> Option<(&str, &str)> {
    let mut met = detail.strip_prefix("Error running script")?.split_once("): ")?.1;
    while let Some((line, rest)) = met
        .strip_prefix("@user_script:")
        .and_then(|rest| rest.split_once(": "))
        && line.trim().parse::<u32>().is_ok()
    {
        met = rest;
    }
    let met = met.strip_prefix('-').unwrap_or(met);
    let (code, rest) = met.split_once(' ').unwrap_or((met, ""));
    let is_code = code.bytes().all(|b| b.is_ascii_uppercase());
    Some(if is_code { (code, rest) } else { ("ERR", met) })
}

/// An error that the server answered with: the command was not carried out.
fn refused(code: &str, detail: &str) -> Error {
    let unavailable = |why: &'static str| Error::temporary(why).with_code(Code::Unavailable);
    match code {
        "NOAUTH" | "WRONGPASS" => credentials(),
        "NOPERM" => Error::unauthorized("Redis refuses this user the command, key or channel: check its ACL")
            .with_code(Code::PermissionDenied),
        "WRONGTYPE" => Error::invalid_input("the key holds a Redis value of another type")
            .with_code(Code::FailedPrecondition),
        "OOM" => Error::temporary(
            "Redis is out of memory and evicts nothing: raise maxmemory or set an eviction policy",
        )
        .with_code(Code::Exhausted),
        "READONLY" => unavailable("the Redis server is a read-only replica"),
        "LOADING" => unavailable("Redis is still loading its data"),
        "MASTERDOWN" => unavailable("the Redis replica has lost its primary"),
        "CLUSTERDOWN" => unavailable("the Redis cluster is down: not every slot is served"),
        "MOVED" | "ASK" | "TRYAGAIN" => unavailable("the key moves to another node of the Redis cluster"),
        "BUSY" => unavailable("Redis is busy running a script"),
        "MISCONF" => unavailable("Redis cannot save to disk and refuses writes"),
        "NOREPLICAS" => unavailable("Redis has too few replicas and refuses writes"),
        _ if detail.starts_with("value is not an integer") => {
            Error::invalid_input("the stored value is not a decimal i64")
        }
        _ if detail.contains("would overflow") => Error::invalid_input("the sum does not fit an i64"),
        _ if detail.contains("DB index") => Error::invalid_input("Redis has no database of this number"),
        _ if detail.contains("max number of clients") => {
            Error::temporary("Redis has no room for another client").with_code(Code::Exhausted)
        }
        // A script was let in, one of its commands was not; Redis gives that no code of its own.
        _ if detail.starts_with("The user executing the script can't")
            || detail.starts_with("ACL failure in script") =>
        {
            refused("NOPERM", detail)
        }
        // The client leaves out the code when a database cannot be chosen.
        _ if detail.contains("has no permissions to run") => refused("NOPERM", detail),
        _ if detail.starts_with("Redis is busy running a script") => refused("BUSY", detail),
        // These repeat the command's arguments, which are no business of a log.
        _ if detail.starts_with("unknown ") => Error::unsupported("a command of this adapter"),
        _ => Error::permanent(format!("Redis refuses the command: {code} {detail}")),
    }
}

fn credentials() -> Error {
    Error::unauthorized("Redis refuses the credentials: check user and password")
}

/// Only errors of the network are kept as a cause; a server's text may repeat what was sent.
fn with_cause(kind: Kind, why: &'static str, error: &RedisError) -> Error {
    Error::from_source(kind, why, error.clone())
}

fn io_kind(error: &RedisError) -> Option<io::ErrorKind> {
    let cause = std::error::Error::source(error)?;
    // The client gives its shared pointer as the source.
    let cause = match cause.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>() {
        Some(shared) => &**shared,
        None => return cause.downcast_ref::<io::Error>().map(io::Error::kind),
    };
    cause.downcast_ref::<io::Error>().map(io::Error::kind)
}

#[cfg(test)]
mod tests {
    use redis::parse_redis_value;

    use super::*;

    fn server_error(line: &str) -> RedisError {
        let value = parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        value.extract_error().unwrap_err()
    }

    #[test]
    fn each_answer_has_its_kind_and_code_and_was_not_applied() {
        use Code::*;
        use Kind::*;
        for (line, kind, code) in [
            ("NOAUTH Authentication required.", Unauthorized, None),
            ("WRONGPASS invalid username-password pair", Unauthorized, None),
            (
                "NOPERM this user has no permissions",
                Unauthorized,
                Some(PermissionDenied),
            ),
            (
                "WRONGTYPE Operation against a key",
                InvalidInput,
                Some(FailedPrecondition),
            ),
            ("OOM command not allowed", Temporary, Some(Exhausted)),
            ("READONLY You can't write", Temporary, Some(Unavailable)),
            ("LOADING Redis is loading", Temporary, Some(Unavailable)),
            (
                "MASTERDOWN Link with MASTER is down",
                Temporary,
                Some(Unavailable),
            ),
            ("CLUSTERDOWN The cluster is down", Temporary, Some(Unavailable)),
            ("MOVED 1 127.0.0.1:7001", Temporary, Some(Unavailable)),
            (
                "BUSY Redis is busy running a script",
                Temporary,
                Some(Unavailable),
            ),
            (
                "MISCONF Redis is configured to save",
                Temporary,
                Some(Unavailable),
            ),
            ("ERR value is not an integer or out of range", InvalidInput, None),
            ("ERR increment or decrement would overflow", InvalidInput, None),
            ("ERR DB index is out of range", InvalidInput, None),
            ("ERR max number of clients reached", Temporary, Some(Exhausted)),
            (
                "ERR unknown command 'X', with args beginning with: 'canary'",
                Permanent,
                Some(Unsupported),
            ),
            ("ERR something else", Permanent, None),
        ] {
            let call = Call::write("cache.set");
            let error = classify(&server_error(line), call, "h:1", Duration::from_secs(1));
            assert_eq!((error.kind(), error.code()), (kind, code), "{line}");
            assert!(!error.may_have_applied(), "{line}");
            assert!(error.to_string().starts_with("cache.set: "), "{error}");
            assert!(
                error.to_string().contains("h:1") && !format!("{error:?}").contains("canary"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_was_cut_may_have_applied_if_it_writes() {
        for (kind, code, hurt) in [
            (io::ErrorKind::TimedOut, Code::Timeout, Damage::Timeout),
            (io::ErrorKind::BrokenPipe, Code::Unavailable, Damage::Lost),
            (io::ErrorKind::ConnectionReset, Code::Unavailable, Damage::Lost),
            (io::ErrorKind::HostUnreachable, Code::Unavailable, Damage::Lost),
        ] {
            let error = RedisError::from(io::Error::from(kind));
            assert_eq!(damage(&error), hurt);
            for (call, applied) in [(Call::write("a"), true), (Call::read("a"), false)] {
                let error = classify(&error, call, "h:1", Duration::from_secs(1));
                assert_eq!((error.kind(), error.code()), (Kind::Temporary, Some(code)));
                assert_eq!(error.may_have_applied(), applied);
            }
        }
    }

    #[test]
    fn what_a_script_met_counts_not_its_wrapping() {
        use Code::*;
        use Kind::*;
        let call = Call::write("cache.add");
        for (met, kind, code, hurt) in [
            (
                "@user_script: 4: -READONLY You can't write against a read only replica.",
                Temporary,
                Some(Unavailable),
                Damage::WrongServer,
            ),
            (
                "-READONLY You can't write against a read only replica.",
                Temporary,
                Some(Unavailable),
                Damage::WrongServer,
            ),
            (
                "@user_script: 4: -OOM command not allowed when used memory > 'maxmemory'.",
                Temporary,
                Some(Exhausted),
                Damage::None,
            ),
            (
                "WRONGTYPE Operation against a key holding the wrong kind of value",
                InvalidInput,
                Some(FailedPrecondition),
                Damage::None,
            ),
            (
                "ERR value is not an integer or out of range",
                InvalidInput,
                None,
                Damage::None,
            ),
            (
                "@user_script: 4: The user executing the script can't run this command or subcommand",
                Unauthorized,
                Some(PermissionDenied),
                Damage::None,
            ),
            ("attempt to index a nil value", Permanent, None, Damage::None),
        ] {
            let hash = "4ca5d03e6d3ebdf8bc1e58f8a7e5b5d3f3ca9d18";
            let line = format!("ERR Error running script (call to f_{hash}): @user_script:4: {met}");
            let error = server_error(&line);
            assert_eq!(damage(&error), hurt, "{line}");
            let error = classify(&error, call, "h:1", Duration::from_secs(1));
            assert_eq!((error.kind(), error.code()), (kind, code), "{line}");
        }
        // Newer servers put the code first and say less of the right.
        let error = server_error("ERR ACL failure in script: User u has no permissions script: 8a2f");
        let error = classify(&error, call, "h:1", Duration::from_secs(1));
        assert_eq!(error.code(), Some(PermissionDenied));
    }

    #[test]
    fn a_server_that_cannot_work_is_told_from_a_lost_connection() {
        assert_eq!(damage(&server_error("READONLY x")), Damage::WrongServer);
        assert_eq!(damage(&server_error("LOADING x")), Damage::WrongServer);
        assert_eq!(damage(&server_error("NOAUTH x")), Damage::Lost);
        assert_eq!(damage(&server_error("OOM x")), Damage::None);
        assert_eq!(damage(&server_error("ERR x")), Damage::None);
    }
}
