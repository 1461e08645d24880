//! SIGTERM under load: what was answered with 201 is kept and counted.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::task::JoinSet;

use crate::support::{Client, Process, Tables, database_folder, position, post, until};

const KEEPING: usize = 20;
const RECONNECTING: usize = 4;
const QUIET: &str = "warn,cqi_http::server=info,cqi_core::service=info";

/// What one client was told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    portfolio: String,
    /// The last accepted quantity of each asset.
    last: BTreeMap<String, u64>,
    pub(crate) accepted: i64,
    /// Assets with a request that got no answer: it may have been applied.
    pub(crate) unanswered: Vec<(String, String)>,
    /// Answers other than 201.
    pub(crate) refused: Vec<String>,
}

#[tokio::test]
async fn f_life_01_a_shutdown_under_load_loses_nothing() {
    let folder = database_folder();
    let file = folder.path().join("positions.db");
    let settings = [("LOG_LEVEL", QUIET), ("CQI_SERVER_SHUTDOWN_TIMEOUT", "20s")];
    let service = Process::quickstart_on(&file, &settings).await;
    let accepted = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for number in 0..KEEPING + RECONNECTING {
        clients.spawn(write(number, service.http(), Arc::clone(&accepted)));
    }
    until("a thousand accepted changes", || {
        let count = accepted.load(Relaxed);
        if count >= 1000 { Ok(()) } else { Err(count) }
    })
    .await;
    service.terminate();
    let told = clients.join_all().await;
    let ended = service.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.said());
    assert!(!ended.log.contains("\"level\":\"error\""), "{}", ended.log);

    // Nobody was left without an answer, and nobody was turned away while connected.
    let unanswered: Vec<_> = told.iter().flat_map(|told| &told.unanswered).collect();
    assert!(
        unanswered.is_empty(),
        "requests without an answer: {unanswered:?}"
    );
    let refused: Vec<_> = told.iter().flat_map(|told| &told.refused).collect();
    assert!(refused.is_empty(), "{refused:?}");

    // What was accepted is there, once, and counted once.
    let tables = Tables::read(&file).await;
    let accepted: i64 = told.iter().map(|told| told.accepted).sum();
    let mut expected = Vec::new();
    for told in &told {
        let row = |(asset, n): (&String, &u64)| (told.portfolio.clone(), asset.clone(), n.to_string());
        let rows = told.last.iter().map(row);
        expected.extend(rows);
    }
    expected.sort();
    assert_eq!(tables.positions, expected);
    let of_one = |told: &Told| {
        (
            told.portfolio.clone(),
            i64::try_from(told.last.len()).unwrap(),
            told.accepted,
        )
    };
    let mut summaries: Vec<_> = told.iter().map(of_one).collect();
    summaries.sort();
    assert_eq!(tables.summaries, summaries);
    assert_eq!(tables.counted_events, accepted);
    assert_eq!(tables.summarised_assets, i64::try_from(expected.len()).unwrap());

    // A new process on the same file tells the same.
    let service = Process::quickstart_on(&file, &settings).await;
    let mut client = Client::connect(service.http()).await.unwrap();
    for (portfolio, asset, quantity) in expected {
        let answer = client
            .get(&format!("/api/positions/{portfolio}/{asset}"))
            .await
            .unwrap();
        assert_eq!(answer.json()["quantity"], quantity, "{answer:?}");
    }
    service.stop().await;
}

/// Posts rising quantities to assets of its own until nobody listens any more: most clients keep their connection, some
/// open one for every request.
pub(crate) async fn write(number: usize, address: SocketAddr, accepted: Arc<AtomicU64>) -> Told {
    let mut told = Told {
        portfolio: format!("p{number:02}"),
        ..Told::default()
    };
    let mut quantity = 0;
    // Refused means: the port is closed.
    while let Ok(mut client) = Client::connect(address).await {
        loop {
            quantity += 1;
            let asset = format!("a{}", quantity % 7);
            let mut request = post(&position(&told.portfolio, &asset, quantity));
            if number >= KEEPING {
                request = request.replacen("\r\n", "\r\nconnection: close\r\n", 1);
            }
            let answer = match client.request(request).await {
                Ok(answer) => answer,
                Err(error) => {
                    told.unanswered.push((
                        format!("{} {asset} {quantity}", told.portfolio),
                        error.to_string(),
                    ));
                    break;
                }
            };
            if answer.status == 201 {
                told.last.insert(asset, quantity);
                told.accepted += 1;
                accepted.fetch_add(1, Relaxed);
            } else {
                told.refused.push(format!("{answer:?}"));
            }
            if answer.is_last() {
                break;
            }
        }
    }
    told
}
