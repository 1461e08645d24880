//! Where the real servers are.

use std::net::{TcpStream, ToSocketAddrs as _};

use cqi_testkit::fixture::{self, Kind};

use crate::report::Report;

/// The URL of a server that runs: the one that the environment names, one of the command line that somebody listens on,
/// or one started here, which ends with this process. `None`, with a note, when there is none to be had.
pub(crate) fn url(report: &mut Report, kind: Kind) -> Option<String> {
    let named = std::env::var_os(kind.variable()).is_some_and(|url| !url.is_empty());
    let scheme = format!("{kind}://");
    let offered = report.servers().iter().find(|url| url.starts_with(&scheme));
    if let Some(url) = offered
        && !named
        && listens(url)
    {
        return Some(url.clone());
    }
    // Starting one takes seconds, in which this worker has nothing else to do.
    match tokio::task::block_in_place(|| fixture::shared(kind)) {
        Ok(server) => Some(server.url().to_owned()),
        Err(missing) => {
            eprintln!("bench: {}: not measured: {missing}", report.suite.title());
            report.note(format!("not measured: {missing}"));
            None
        }
    }
}

/// The address in a URL: `host:port`.
pub(crate) fn address(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split(['/', '?', ',']).next().unwrap_or_default();
    host.rsplit('@').next().unwrap_or_default()
}

fn listens(url: &str) -> bool {
    let mut found = address(url).to_socket_addrs().into_iter().flatten();
    found.any(|address| TcpStream::connect(address).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_urls() {
        assert_eq!(address("postgres://u:p@127.0.0.1:5432/db"), "127.0.0.1:5432");
        assert_eq!(address("kafka://a:1,b:2"), "a:1");
    }
}
