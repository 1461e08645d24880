use cqi_core::peers::client_of;

use super::*;

fn admitted(header: ClientIpHeader, peer: &str, headers: &[(&str, &str)]) -> (Option<String>, Vec<String>) {
    let proxies = Proxies {
        trusted: ["10.0.0.0/8", "fd00::/8"]
            .map(|network| network.parse().unwrap())
            .into(),
        header,
    };
    let mut request = Request::builder();
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Body::empty()).unwrap();
    let peer: SocketAddr = peer.parse().unwrap();
    request.extensions_mut().insert(ConnectInfo(peer));
    proxies.admit(&mut request);
    let mut left: Vec<_> = request.headers().keys().map(ToString::to_string).collect();
    left.sort();
    (
        client_ip(request.extensions()).map(|address| address.to_string()),
        left,
    )
}

const OUTSIDE: &str = "203.0.113.9:1";
const PROXY: &str = "10.0.0.1:1";

#[test]
fn a_24_what_a_client_claims_about_itself_is_removed() {
    let claims = [
        ("x-user-id", "admin"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-for", "127.0.0.2"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-client-cert", "By=a"),
        ("forwarded", "for=127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("x-request-id", "kept"),
    ];
    let (client, left) = admitted(ClientIpHeader::default(), OUTSIDE, &claims);
    assert_eq!(client.as_deref(), Some("203.0.113.9"));
    assert_eq!(left, ["x-request-id"]);
}

#[test]
fn a_24_a_trusted_proxy_is_believed_up_to_what_the_client_wrote() {
    let client = |value: &str| {
        admitted(
            ClientIpHeader::XForwardedFor,
            PROXY,
            &[("x-forwarded-for", value)],
        )
        .0
        .unwrap()
    };
    assert_eq!(client("203.0.113.9"), "203.0.113.9");
    assert_eq!(client("127.0.0.1, 203.0.113.9, 10.0.0.2"), "203.0.113.9");
    assert_eq!(client("203.0.113.9:4711"), "203.0.113.9");
    assert_eq!(client("[2001:db8::1]:80"), "2001:db8::1");
    assert_eq!(client("::ffff:203.0.113.9"), "203.0.113.9");
    assert_eq!(
        client("10.0.0.3, 10.0.0.2"),
        "10.0.0.3",
        "all are proxies: the farthest"
    );
    assert_eq!(client("nonsense, 10.0.0.2"), "10.0.0.2");
    assert_eq!(client("nonsense"), "10.0.0.1", "the peer is what is left");
    let lines = [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-for", "203.0.113.9"),
    ];
    let (client, left) = admitted(ClientIpHeader::XForwardedFor, PROXY, &lines);
    assert_eq!(client.as_deref(), Some("203.0.113.9"));
    assert_eq!(left, ["x-forwarded-for"], "kept as it came");
}

#[test]
fn a_24_only_the_header_the_proxy_writes_is_read() {
    let headers = [
        ("x-forwarded-for", "127.0.0.1"),
        ("forwarded", "for=\"[2001:db8::1]:80\";proto=https, for=10.0.0.2"),
        ("x-real-ip", "127.0.0.2"),
        ("x-user-id", "ada"),
        ("x-forwarded-proto", "https"),
    ];
    let (client, left) = admitted(ClientIpHeader::Forwarded, PROXY, &headers);
    assert_eq!(client.as_deref(), Some("2001:db8::1"));
    assert_eq!(left, ["forwarded", "x-forwarded-proto", "x-user-id"]);
    let (client, _) = admitted(ClientIpHeader::XRealIp, "[fd00::1]:1", &headers);
    assert_eq!(client.as_deref(), Some("127.0.0.2"));
}

#[test]
fn an_ipv6_client_is_its_network() {
    let source = |address: &str| client_of(address.parse().unwrap()).to_string();
    assert_eq!(source("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    assert_eq!(source("203.0.113.9"), "203.0.113.9");
    assert_eq!(source("::ffff:203.0.113.9"), "203.0.113.9");
}
