//! What must hold for any bytes. `fuzz/` gives these functions to libFuzzer, the test beside it to its own mutator.

#![allow(dead_code)] // each program of `fuzz/` calls one of them

use std::{io::Write as _, sync::Arc};

use bytes::Bytes;
use cqi_core::{
    Error, Timestamp,
    auth::{self, ApiKeys, MAX_CREDENTIAL},
    cache,
    config::{Config, Loader},
    event::{
        Event, EventId,
        envelope::{self, Fallback, Prefix},
    },
    name::{Group, Topic, topic_name},
    trace::{MAX_TRACESTATE, TraceContext},
};

/// `traceparent`, a line break, `tracestate`: what is taken is written again and read as the same.
pub(crate) fn trace_headers(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (parent, state) = text.split_once('\n').unwrap_or((&text, ""));
    let Some(context) = TraceContext::parse(parent, Some(state)) else {
        return;
    };
    let written = context.traceparent();
    assert_eq!(written.len(), 55);
    assert_eq!(
        TraceContext::parse(&written, context.state.as_deref()),
        Some(context.clone())
    );
    let state = context.state.as_deref().unwrap_or("a");
    assert!((1..=MAX_TRACESTATE).contains(&state.len()) && !state.contains(char::is_control));
}

/// Names that are taken are valid on every backend, and keys of different parts differ.
pub(crate) fn names_and_keys(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let safe = |name: &str| {
        name.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    for topic in [topic_name(&text), Topic::parse(&text)].into_iter().flatten() {
        let letters = topic.dead_letter();
        for name in [&topic, &letters] {
            assert!(safe(name.as_str()) && name.as_str().len() <= 249);
            assert_eq!(Topic::parse(name.as_str()).unwrap(), *name);
            assert_eq!(topic_name(name.event_type()).unwrap(), *name);
        }
    }
    if let Ok(group) = Group::parse(&text) {
        assert!(safe(group.as_str()) && !group.as_str().contains('.') && group.as_str().len() <= 63);
    }
    let parts: Vec<&str> = text.split('\n').collect();
    let key = cache::key("p", &parts);
    let read: Vec<String> = key
        .split(':')
        .skip(1)
        .map(|part| part.replace("%3A", ":").replace("%7B", "{").replace("%25", "%"))
        .collect();
    assert_eq!(read, parts);
    assert!(!key.contains('{'), "a part chooses the slot: {key}");
    let allowed = (1..=1024).contains(&key.len()) && !key.bytes().any(|byte| byte.is_ascii_control());
    assert_eq!(cache::check_key(&key).is_ok(), allowed);
}

/// Header lines, an empty line and a payload: any message is an event, and what it is written as is harmless and reads as
/// the same event.
pub(crate) fn envelope(data: &[u8]) {
    let end = data
        .windows(2)
        .position(|pair| pair == b"\n\n")
        .unwrap_or(data.len());
    let head = String::from_utf8_lossy(&data[..end]).into_owned();
    let headers: Vec<(&str, &str)> = head
        .split('\n')
        .filter_map(|line| line.split_once(": "))
        .collect();
    let payload = Bytes::copy_from_slice(data.get(end + 2..).unwrap_or_default());
    for prefix in [Prefix::Dash, Prefix::Underscore] {
        let event = read(prefix, &payload, headers.iter().copied());
        let mut written = Vec::new();
        envelope::write(&event, prefix, |name, value| {
            assert!(
                !name.contains(char::is_control) && !value.contains(char::is_control),
                "{name}: {value:?}"
            );
            assert!(!name.starts_with("nats-") && !name.starts_with("kafka"), "{name}");
            written.push((name.to_owned(), value.to_owned()));
        });
        let again = read(
            prefix,
            &payload,
            written.iter().map(|(name, value)| (&**name, &**value)),
        );
        assert_eq!(
            (again.id(), again.time(), again.key()),
            (event.id(), event.time(), event.key())
        );
        assert_eq!(
            (again.source(), again.content_type()),
            (event.source(), event.content_type())
        );
        assert_eq!(
            (again.headers(), again.payload()),
            (event.headers(), event.payload())
        );
    }
}

fn read<'a>(prefix: Prefix, payload: &Bytes, headers: impl Iterator<Item = (&'a str, &'a str)>) -> Event {
    let topic = topic_name("asset_created").unwrap();
    envelope::read(prefix, &topic, payload.clone(), headers, &Seventh, None)
}

/// The place of a message without an envelope.
struct Seventh;

impl Fallback for Seventh {
    fn id(&self) -> EventId {
        EventId::parse("stream-7").unwrap()
    }

    fn time(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
}

/// A credential that is read is visible ASCII of bounded length, and no error shows one.
pub(crate) fn bearer_and_api_keys(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match auth::bearer(Some(&text)) {
        Ok(credential) => {
            let credential = credential.expose();
            assert!(text.ends_with(credential) && (1..=MAX_CREDENTIAL).contains(&credential.len()));
            assert!(credential.bytes().all(|byte| byte.is_ascii_graphic()));
        }
        Err(error) => assert_eq!(error.to_string(), auth::refused().to_string()),
    }
    let keys = |entries: Vec<&str>| ApiKeys::parse(entries.into_iter().map(Into::into));
    if let Err(error) = keys(text.split('\n').collect()) {
        assert!(error.is_invalid_input());
        // Each is told by its place and the rule that it breaks: the same as of these, whatever it is.
        let twice = "an-unnamed-key-2481";
        let known = [vec!["?:x"], vec!["sha256:x"], vec!["x"], vec![twice, twice]];
        let same = |known| told(&keys(known).unwrap_err()) == told(&error);
        assert!(known.into_iter().any(same), "{error} {error:?}");
    }
}

/// What an error of an API key shows, but for the key's place.
fn told(error: &Error) -> String {
    let shown = format!("{error} {error:?}");
    let mut parts = shown.split("API key ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        text + part.trim_start_matches(|c: char| c.is_ascii_digit())
    })
}

/// A configuration loads or says what is wrong. The first byte tells the kind: YAML, TOML, JSON or variables.
pub(crate) fn configuration(data: &[u8]) {
    let Some((kind, text)) = data.split_first() else {
        return;
    };
    let (folder, lossy) = (tempfile::tempdir().unwrap(), String::from_utf8_lossy(text));
    let loader = Loader::new().env_prefix("CQI");
    let vars: Vec<(&str, &str)> = match kind {
        b'3' => lossy
            .split('\n')
            .filter_map(|line| line.split_once('='))
            .filter(|(name, value)| !name.is_empty() && !name.contains('\0') && !value.contains('\0'))
            .collect(),
        _ => vec![("PORT", "${PORT:1}"), ("X", "canary")],
    };
    let file = |extension: &str| {
        let path = folder.path().join(format!("config.{extension}"));
        std::fs::File::create(&path).unwrap().write_all(text).unwrap();
        path
    };
    let loader = match kind {
        b'0' => loader.embedded(lossy.clone()),
        b'1' => loader.file(file("toml")),
        b'2' => loader.file(file("json")),
        b'3' => loader,
        _ => loader.file(file("yaml")),
    };
    match loader.vars(vars).load::<Config>() {
        Ok(loaded) => assert!(!format!("{:?}", Arc::new(loaded.value)).is_empty()),
        Err(error) => assert!(error.is_invalid_input(), "{error}"),
    }
}
