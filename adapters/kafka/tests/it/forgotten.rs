//! A broker that says for a moment that there are none, as one does that stood still for long and is the only one.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use cqi_core::{
    event::{Event, EventBus as _, StartAt, Subscription},
    name::{Group, topic_name},
};
use cqi_kafka::KafkaBus;
use cqi_testkit::{
    fixture::{self, Kind, Options},
    unique,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{JoinSet, block_in_place},
    time::{sleep, timeout},
};

use crate::support::options_of;

const LIMIT: Duration = Duration::from_secs(60);
/// The number of the request for brokers and topics in Kafka's protocol.
const METADATA: i16 = 3;

/// Passes everything on between clients and a broker, except what brokers there are when it is told so.
#[derive(Debug, Default)]
struct Forgetful {
    forgets: AtomicBool,
    /// How many answers said that there are no brokers.
    told: AtomicUsize,
    /// How many connections are open.
    open: watch::Sender<usize>,
}

impl Forgetful {
    async fn serve(self: Arc<Self>, listener: TcpListener, upstream: watch::Receiver<u16>) {
        let mut connections = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            let (own, upstream) = (Arc::clone(&self), *upstream.borrow());
            connections.spawn(async move {
                let server = TcpStream::connect(("127.0.0.1", upstream)).await.unwrap();
                own.open.send_modify(|open| *open += 1);
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let asked = Mutex::default();
                // All of them end with an error, when the connection does.
                tokio::select! {
                _ = requests(from_client, to_server, &asked) => {}
                _ = own.answers(from_server, to_client, &asked) => {}
                }
                own.open.send_modify(|open| *open -= 1);
            });
        }
    }

    async fn answers(
        &self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        asked: &Mutex<HashMap<i32, i16>>,
    ) -> io::Result<()> {
        loop {
            let mut frame = frame(&mut from).await?;
            let number = i32::from_be_bytes(frame[..4].try_into().unwrap());
            let metadata = asked.lock().unwrap().remove(&number);
            if let Some(version) = metadata
                && self.forgets.load(SeqCst)
            {
                assert!((9..=13).contains(&version), "another layout: version {version}");
                frame = without_brokers(&frame);
                self.told.fetch_add(1, SeqCst);
            }
            send(&mut to, &frame).await?;
        }
    }
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    asked: &Mutex<HashMap<i32, i16>>,
) -> io::Result<()> {
    loop {
        let frame = frame(&mut from).await?;
        let word = |at: usize| i16::from_be_bytes(frame[at..at + 2].try_into().unwrap());
        if word(0) == METADATA {
            let number = i32::from_be_bytes(frame[4..8].try_into().unwrap());
            asked.lock().unwrap().insert(number, word(2));
        }
        send(&mut to, &frame).await?;
    }
}

async fn frame(from: &mut OwnedReadHalf) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; from.read_u32().await? as usize];
    from.read_exact(&mut frame).await?;
    Ok(frame)
}

async fn send(to: &mut OwnedWriteHalf, frame: &[u8]) -> io::Result<()> {
    to.write_u32(u32::try_from(frame.len()).unwrap()).await?;
    to.write_all(frame).await
}

/// An answer of version 9 to 13 with an empty list of brokers
/// (<https://kafka.apache.org/protocol.html#The_Messages_Metadata>).
fn without_brokers(answer: &[u8]) -> Vec<u8> {
    let mut at = 4 + 1 + 4; // request's number, no tags, throttle time
    let mut text = Vec::from(&answer[..at]);
    text.push(1); // a length is stored as one more
    let brokers = length(answer, &mut at);
    for _ in 0..brokers {
        at += 4; // id
        at += length(answer, &mut at); // host
        at += 4; // port
        at += length(answer, &mut at); // rack
        assert_eq!(answer[at], 0, "no tags");
        at += 1;
    }
    text.extend_from_slice(&answer[at..]);
    text
}

/// A length of less than 127.
fn length(answer: &[u8], at: &mut usize) -> usize {
    let length = usize::from(answer[*at]);
    assert!(length < 128, "a longer length");
    *at += 1;
    length.saturating_sub(1) // none at all, which is 0, and empty are the same here
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_was_told_of_no_brokers_goes_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let advertised = format!("advertised.listeners=PLAINTEXT://{address}");
    let options = Options::new().line(advertised);
    let Some(server) = block_in_place(|| fixture::require_own(Kind::Kafka, &options)) else {
        return;
    };
    let between = Arc::new(Forgetful::default());
    let (_keep, upstream) = watch::channel(server.address().port());
    let mut tasks = JoinSet::new();
    tasks.spawn(Arc::clone(&between).serve(listener, upstream));

    let topic = topic_name(&unique("forgotten")).unwrap();
    let event = |n: &'static str| Event::builder(topic.clone()).payload(n).build().unwrap();
    let mut options = options_of(&format!("kafka://{address}"));
    let creator = KafkaBus::connect(options.clone()).await.unwrap();
    creator.publish(event("first")).await.unwrap();
    creator.close().await.unwrap();
    drop(creator);
    // Or a third client, which has no topics and goes on asking, would stay connected.
    options.create_topics = false;
    options.publish_timeout = Duration::from_secs(3); // a producer that fails for twice that is replaced
    let often = ("topic.metadata.refresh.interval.ms".to_owned(), "500".into());
    options.properties = [often].into(); // asks all the time which brokers there are
    let bus = KafkaBus::connect(options).await.unwrap();
    let group = Group::parse(&unique("group")).unwrap();
    let wanted = Subscription::new(topic.clone(), group).with_start_at(StartAt::Oldest);
    let mut member = bus.subscribe(wanted).await.unwrap();
    bus.publish(event("before")).await.unwrap();
    for delivery in timeout(LIMIT, member.next(1)).await.unwrap().unwrap().unwrap() {
        delivery.ack().await.unwrap();
    }

    between.forgets.store(true, SeqCst);
    // Consumer and producer are told, and hang up.
    let mut open = between.open.subscribe();
    let hung_up = async {
        while between.told.load(SeqCst) < 2 || *open.borrow_and_update() > 0 {
            let _ = timeout(Duration::from_millis(100), open.changed()).await;
        }
    };
    timeout(LIMIT, hung_up).await.expect("both were told");
    between.forgets.store(false, SeqCst);

    let publishing = async {
        while let Err(error) = bus.publish(event("after")).await {
            assert!(error.is_temporary(), "{error:?}");
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(LIMIT, publishing).await.expect("the producer goes on");
    let receiving = async {
        loop {
            match member.next(1).await.unwrap() {
                Ok(deliveries) => {
                    let after = deliveries
                        .iter()
                        .any(|delivery| delivery.event().payload() == "after");
                    for delivery in deliveries {
                        delivery.ack().await.unwrap();
                    }
                    if after {
                        return;
                    }
                }
                Err(error) => assert!(error.is_temporary(), "{error:?}"),
            }
        }
    };
    timeout(LIMIT, receiving).await.expect("the group goes on");
    timeout(LIMIT, bus.close()).await.unwrap().unwrap();
}
