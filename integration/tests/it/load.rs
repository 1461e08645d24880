//! Ten thousand changes at once: what is counted is what was accepted, to the last one.

use std::{collections::BTreeMap, net::SocketAddr};

use tokio::task::JoinSet;

use crate::support::{Client, Process, Tables, database_folder, position, post, summary};

const CONNECTIONS: usize = 50;
const POSTS_EACH: usize = 200;
const PORTFOLIOS: usize = 5;
const ASSETS_EACH: usize = 20;

#[tokio::test]
async fn bus_1_ten_thousand_changes_add_up() {
    let folder = database_folder();
    let file = folder.path().join("positions.db");
    let service = Process::quickstart_on(
        &file,
        &[("LOG_LEVEL", "warn,cqi_http::server=info,cqi_core::service=info")],
    )
    .await;
    let mut clients = JoinSet::new();
    for number in 0..CONNECTIONS {
        clients.spawn(write(number, service.http()));
    }
    let mut last = BTreeMap::new();
    for keys in clients.join_all().await {
        last.extend(keys);
    }

    let (positions, changes) = (
        CONNECTIONS / PORTFOLIOS * ASSETS_EACH,
        CONNECTIONS / PORTFOLIOS * POSTS_EACH,
    );
    let (positions, changes) = (i64::try_from(positions).unwrap(), i64::try_from(changes).unwrap());
    for portfolio in 0..PORTFOLIOS {
        let seen = summary(&service, &format!("p{portfolio}"), changes).await;
        assert_eq!(seen["positions"], positions, "{seen}");
    }
    let ended = service.stop().await;
    assert!(!ended.log.contains("\"level\":\"error\""), "{}", ended.log);

    let tables = Tables::read(&file).await;
    let stored: BTreeMap<_, _> = tables
        .positions
        .into_iter()
        .map(|(portfolio, asset, quantity)| ((portfolio, asset), quantity))
        .collect();
    assert_eq!(stored, last);
    let expected: Vec<_> = (0..PORTFOLIOS)
        .map(|n| (format!("p{n}"), positions, changes))
        .collect();
    assert_eq!(tables.summaries, expected);
    assert_eq!(
        tables.counted_events,
        i64::try_from(CONNECTIONS * POSTS_EACH).unwrap()
    );
}

/// Posts over one connection to assets of its own. Gives the last quantity of each.
async fn write(number: usize, address: SocketAddr) -> BTreeMap<(String, String), String> {
    let mut client = Client::connect(address).await.unwrap();
    let mut last = BTreeMap::new();
    let portfolio = format!("p{}", number % PORTFOLIOS);
    for n in 0..POSTS_EACH {
        let asset = format!("a{number}-{}", n % ASSETS_EACH);
        let answer = client
            .request(post(&position(&portfolio, &asset, n)))
            .await
            .unwrap();
        assert_eq!(answer.status, 201, "post {n} of client {number}: {answer:?}");
        last.insert((portfolio.clone(), asset), n.to_string());
    }
    last
}
