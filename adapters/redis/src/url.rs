//! Reading a Redis URL. Errors never repeat it: it may hold a password.

use cqi_core::{Error, Result, secret::Secret};

use crate::config::{DEFAULT_PORT, RedisOptions};

/// Sets what the URL says; the rest of `options` stays.
pub(crate) fn apply(url: &str, options: &mut RedisOptions) -> Result<()> {
    let (tls, rest) = match url.split_once("://") {
        Some(("redis", rest)) => (false, rest),
        Some(("rediss", rest)) => (true, rest),
        _ => return refuse("a redis URL starts with redis:// or rediss://"),
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let cluster = match query {
        "" => false,
        "cluster=true" => true,
        _ => return refuse("a redis URL takes no option but ?cluster=true"),
    };
    // A password may hold any character once it is escaped, so the last `@` ends it.
    let (login, rest) = match rest.rsplit_once('@') {
        Some((login, rest)) => (Some(login), rest),
        None => (None, rest),
    };
    let (hosts, database) = rest.split_once('/').unwrap_or((rest, ""));
    let nodes = hosts.split(',').map(node).collect::<Result<Vec<_>>>()?;
    if let Some(login) = login {
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        if !user.is_empty() {
            options.user = decode(user)?;
        }
        if !password.is_empty() {
            options.password = Secret::new(decode(password)?);
        }
    }
    if !database.is_empty() {
        options.database = match database.parse() {
            Ok(database) => database,
            Err(_) => return refuse("the path of a redis URL is the number of a database"),
        };
    }
    options.tls = tls;
    options.cluster = cluster || nodes.len() > 1;
    options.nodes = nodes;
    Ok(())
}

fn node(text: &str) -> Result<(String, u16)> {
    let (host, port) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, rest.strip_prefix(':').or(Some(""))),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b".-_:%".contains(&b);
    if host.is_empty() || !host.bytes().all(allowed) {
        return refuse("a redis URL needs a host name or an IP address");
    }
    let port = port.map_or(Ok(DEFAULT_PORT), str::parse);
    match port {
        Ok(port) if port > 0 => Ok((host.to_owned(), port)),
        _ => refuse("the port of a redis URL is a number from 1 to 65535"),
    }
}

/// Resolves `%41`.
fn decode(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
        match (digit(), digit()) {
            (Some(high), Some(low)) => bytes.extend(u8::try_from(high * 16 + low)),
            _ => {
                return refuse(
                    "user or password in the redis URL have a % that is no escape; write it as %25",
                );
            }
        }
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(_) => refuse("user and password in the redis URL must be UTF-8"),
    }
}

fn refuse<T>(why: &'static str) -> Result<T> {
    Err(Error::invalid_input(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_read() {
        let url = "rediss://app:p%40ss%2Fw%25rd@a.example:7000,[::1]:7001,c/";
        let options = RedisOptions::from_url(url).unwrap();
        assert_eq!(options.server(), "a.example:7000,[::1]:7001,c:6379");
        assert_eq!(
            (options.user.as_str(), options.password.expose()),
            ("app", "p@ss/w%rd")
        );
        assert!(options.tls && options.cluster);
        let options = RedisOptions::from_url("redis://:secret@h/5").unwrap();
        assert_eq!((options.user.as_str(), options.password.expose()), ("", "secret"));
        assert!(!options.tls && !options.cluster && options.database == 5);
        assert!(RedisOptions::from_url("redis://h?cluster=true").unwrap().cluster);
    }

    #[test]
    fn c_11_bad_urls_are_refused_without_repeating_them() {
        for bad in [
            "",
            "canary",
            "http://canary",
            "redis://",
            "redis://:canary@",
            "redis://u:can%zzary@h",
            "redis://u:canary%ff@h",
            "redis://h:canary",
            "redis://h:0",
            "redis://h:70000",
            "redis://h/canary",
            "redis://h?canary=1",
            "redis://h/0#insecure",
            "redis://a b",
            "redis://a,,b",
            "redis://[::1",
            "redis://[::1]7",
        ] {
            let error = RedisOptions::from_url(bad).expect_err(bad);
            assert!(error.is_invalid_input(), "{bad}");
            assert!(!format!("{error:?}{error}").contains("canary"), "{bad}");
        }
    }
}
