//! Hostile input for whatever reads text from outside: a short run of the targets of `fuzz/`, with a small mutator of our
//! own in place of libFuzzer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)] // targets fail the test and print their seed

mod mutator;
mod targets;

use self::mutator::run;

#[test]
fn trace_headers() {
    let corpus: [&[u8]; 4] = [
        b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\na=1,b=2",
        b"01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-later\n",
        b"ff-00000000000000000000000000000000-0000000000000000-ff",
        "00-é0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".as_bytes(),
    ];
    run(&corpus, 20_000, targets::trace_headers);
}

#[test]
fn names_and_keys() {
    let corpus: [&[u8]; 5] = [
        b"cqc.events.v1.asset_created",
        b"asset_created",
        b"billing-service",
        b"position\np1\nBTC:%3A",
        "Ключ\n*>.$JS.API\r\n\0".as_bytes(),
    ];
    run(&corpus, 20_000, targets::names_and_keys);
}

#[test]
fn envelope() {
    let corpus: [&[u8]; 4] = [
        b"ce-specversion: 1.0\nce-id: 0197a3b0-7c3e-7d2a-9c56-3f1b0c2e9a7d\nce-source: positions\nce-type: x\nce-time: 2026-03-01T12:00:00.5Z\nce-partitionkey: BTC\ncontent-type: application/json\ntenant: acme\n\n{}",
        b"ce_id: stream-7\nce_source: /\nce_time: 1969-12-31T23:59:59Z\nce_partitionkey: \ntraceparent: x\n\n\0\xff",
        "CE-ID: é\nNats-Rollup: all\nkafka_x: 1\na b: c\ntenant: \u{7f}\ncontent-type: a\rb\n\n".as_bytes(),
        b"authorization: Bearer canary\ncqi-error: x\nce-time: +999999-01-01T00:00:00Z\n\n",
    ];
    run(&corpus, 10_000, targets::envelope);
}

#[test]
fn bearer_and_api_keys() {
    let corpus: [&[u8]; 4] = [
        b"Bearer 0123456789abcdef",
        b"bEARER  billing:0123456789abcdef",
        b"billing:sha256:9f9f5111f7b27a781f1f1ddde5ebc2dd2b796bfc7365c9c28b548e564176929f",
        "Basic \0é \u{2028}".as_bytes(),
    ];
    run(&corpus, 20_000, targets::bearer_and_api_keys);
}

#[test]
fn configuration() {
    let corpus: [&[u8]; 5] = [
        b"0service:\n  name: shop\nserver:\n  port: ${PORT:8080}\ndatabase: {max_connections: 5}\n",
        b"0a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b, {<<: *a}]\n? [k]\n: !!binary v\n--- \n",
        b"1[service]\nname = \"shop\"\n[server]\nport = \"${PORT}\"\nshutdown = 1979-05-27\n",
        b"2{\"service\": {\"name\": \"$${${X:${Y}}\"}, \"server\": {\"port\": 1e999}}",
        b"3CQI_SERVER_PORT=8080\nCQI_SERVICE_NAME=${HOME}\nCQI_EVENT_BUS_URL=nats://u:canary@h\nCQI__X=\nLOG_LEVEL=debug\n",
    ];
    run(&corpus, 600, targets::configuration);
}
