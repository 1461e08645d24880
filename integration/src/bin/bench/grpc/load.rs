//! The load: callers that call again as soon as they are answered.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio::{runtime, task::JoinSet, time::Instant};
use tonic::{Request, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;

use super::echo::{ECHO, Note};
use crate::{process::Requests, serve::API_KEY};

/// Makes the calls on this thread alone, and prints seconds, mean and p99.
pub(crate) fn load(requests: Requests) {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a tokio runtime");
    runtime.block_on(async {
        let mut channels = Vec::new();
        for _ in 0..requests.connections {
            let endpoint = Channel::from_shared(format!("http://127.0.0.1:{}", requests.port));
            let channel = endpoint.expect("an address").connect().await;
            channels.push(channel.expect("a server that listens"));
        }
        let left = Arc::new(AtomicUsize::new(requests.total));
        let started = Instant::now();
        let mut running = JoinSet::new();
        for caller in 0..requests.callers {
            let channel = channels[caller % channels.len()].clone();
            running.spawn(call(channel, Arc::clone(&left)));
        }
        let mut nanos = Vec::with_capacity(requests.total);
        while let Some(ended) = running.join_next().await {
            nanos.extend(ended.expect("no panic"));
        }
        requests.tell(started.elapsed(), nanos);
    });
}

/// Calls until no calls are left. Returns the nanoseconds of each.
async fn call(channel: Channel, left: Arc<AtomicUsize>) -> Vec<u64> {
    let mut client = Grpc::new(channel);
    let bearer = format!("Bearer {API_KEY}").parse();
    let bearer: tonic::metadata::AsciiMetadataValue = bearer.expect("a value of metadata");
    let mut nanos = Vec::new();
    while let Ok(number) = left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)) {
        let started = Instant::now();
        let mut request = Request::new(Note {
            text: "hello".to_owned(),
            number: number as u64,
        });
        request.metadata_mut().insert("authorization", bearer.clone());
        client.ready().await.expect("an open connection");
        let codec = ProstCodec::<Note, Note>::default();
        let answer = client
            .unary(request, PathAndQuery::from_static(ECHO), codec)
            .await;
        let answer = answer.expect("an answer").into_inner();
        assert_eq!(answer.number, number as u64, "somebody else's answer");
        nanos.push(u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    nanos
}
