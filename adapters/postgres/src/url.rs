//! `postgres://user:password@host:port/database?option=value`.

use std::path::PathBuf;

use cqi_core::{Error, Result, secret::Secret};

use crate::config::{PostgresOptions, TlsMode};

/// Puts what the URL says into `options`. Errors name the part, never its value: it may hold the password.
pub(crate) fn read(url: &str, options: &mut PostgresOptions) -> Result<()> {
    let rest = ["postgres://", "postgresql://"]
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme))
        .ok_or_else(|| wrong("a URL of PostgreSQL begins with postgres://"))?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    // The last @ ends the password, so that one may stand in it.
    let (login, place) = rest.rsplit_once('@').unwrap_or(("", rest));
    let (address, database) = place.split_once('/').unwrap_or((place, ""));
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (login, None),
    };
    set(&mut options.user, decode(user, "user")?);
    set(&mut options.database, decode(database, "database")?);
    if let Some(password) = password {
        options.password = Secret::new(decode(password, "password")?);
    }
    read_address(address, options)?;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        read_option(key, decode(value, "option")?, options)?;
    }
    Ok(())
}

fn read_address(address: &str, options: &mut PostgresOptions) -> Result<()> {
    let (host, port) = match address.rsplit_once(':') {
        // The colons of an IPv6 address stand in brackets.
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (address, None),
    };
    if let Some(port) = port.filter(|port| !port.is_empty()) {
        let port = port.parse().ok().filter(|port| *port > 0);
        options.port = port.ok_or_else(|| wrong("the port of the URL is no number from 1 to 65535"))?;
    }
    let host = decode(host, "host")?;
    if host.contains(',') {
        return Err(wrong("the URL names several hosts; one is supported"));
    }
    set(&mut options.host, host);
    Ok(())
}

fn read_option(key: &str, value: String, options: &mut PostgresOptions) -> Result<()> {
    match key {
        "sslmode" => options.tls.mode = Some(tls_mode(&value)?),
        "sslrootcert" => options.tls.root_cert = Some(PathBuf::from(value)),
        "sslcert" => options.tls.client_cert = Some(PathBuf::from(value)),
        "sslkey" => options.tls.client_key = Some(PathBuf::from(value)),
        "application_name" => set(&mut options.application_name, value),
        "host" => set(&mut options.host, value),
        "target_session_attrs" => {
            options.require_writable = match value.as_str() {
                "any" => false,
                "read-write" | "primary" => true,
                _ => return Err(wrong("target_session_attrs is any, read-write or primary")),
            }
        }
        // Its name is not told: behind a `?` that was left in the password stands the rest of it.
        _ => {
            return Err(wrong(
                "the URL has an option other than application_name, host, sslcert, sslkey, sslmode, sslrootcert and \
                 target_session_attrs; a ? in user or password is written %3F",
            ));
        }
    }
    Ok(())
}

fn tls_mode(value: &str) -> Result<TlsMode> {
    match value {
        "disable" => Ok(TlsMode::Disable),
        "require" => Ok(TlsMode::Require),
        "verify-ca" => Ok(TlsMode::VerifyCa),
        "verify-full" => Ok(TlsMode::VerifyFull),
        "allow" | "prefer" => Err(wrong(
            "sslmode allow and prefer can fall back to plain text unseen; use disable, require, verify-ca or verify-full",
        )),
        _ => Err(wrong("sslmode is disable, require, verify-ca or verify-full")),
    }
}

fn set(field: &mut String, value: String) {
    if !value.is_empty() {
        *field = value;
    }
}

fn wrong(why: &'static str) -> Error {
    Error::invalid_input(why)
}

fn decode(text: &str, part: &'static str) -> Result<String> {
    let refuse = || Error::invalid_input(format!("the {part} of the URL is not percent-encoded UTF-8"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let [high, low, tail @ ..] = rest else {
            return Err(refuse());
        };
        let digit = |byte: u8| {
            char::from(byte)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        };
        let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
            return Err(refuse());
        };
        bytes.push(high << 4 | low);
        rest = tail;
    }
    String::from_utf8(bytes).map_err(|_| refuse())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ml_db_5_every_part_is_read() {
        let url = "postgres://a%40b:p%2Fw@@db.example.org:6432/x%20y?sslmode=verify-ca&sslrootcert=/ca.pem&target_session_attrs=any&application_name=me";
        let read = PostgresOptions::from_url(url).unwrap();
        assert_eq!((&*read.user, read.password.expose()), ("a@b", "p/w@"));
        assert_eq!(
            (&*read.host, read.port, &*read.database),
            ("db.example.org", 6432, "x y")
        );
        assert_eq!(read.tls.mode, Some(TlsMode::VerifyCa));
        assert_eq!(read.tls.root_cert, Some("/ca.pem".into()));
        assert_eq!((&*read.application_name, read.require_writable), ("me", false));
        let bare = PostgresOptions::from_url("postgresql://").unwrap();
        assert_eq!(bare, PostgresOptions::default());
        let ipv6 = PostgresOptions::from_url("postgres://[::1]:6432/a").unwrap();
        assert_eq!((&*ipv6.host, ipv6.port), ("[::1]", 6432));
        assert_eq!(
            PostgresOptions::from_url("postgres://[::1]/a").unwrap().host,
            "[::1]"
        );
    }

    #[test]
    fn c_11_a_wrong_url_shows_no_secret() {
        for bad in [
            "mysql://canary@db/a",
            "postgres://u:canary@db:99999/a",
            "postgres://u:canary%zz@db/a",
            "postgres://u:canary%ff@db/a",
            "postgres://u:canary@db,other/a",
            "postgres://u:canary@db/a?sslmode=prefer",
            "postgres://u:canary@db/a?sslmode=canary",
            "postgres://u:canary@db/a?nothing=canary",
            "postgres://u:12?canary@db/a",
            "postgres://u:p@x?canary",
            "postgres://u:canary@db/a?target_session_attrs=standby",
        ] {
            let error = PostgresOptions::from_url(bad).unwrap_err();
            assert!(error.is_invalid_input(), "{bad}");
            assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
        }
    }
}
