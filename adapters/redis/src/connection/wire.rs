//! The client's own connections: to one server, or to a cluster.

use redis::{
    Cmd, RedisError, RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster_async::ClusterConnection,
    cluster_routing::SingleNodeRoutingInfo,
};

/// How often a key may have moved while a call looks for it.
const MAX_REDIRECTS: u32 = 3;

#[derive(Clone)]
pub(super) enum Wire {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Wire {
    /// An error that the server answers with is an `Err`. `one_key`: see [`Call`](crate::error::Call).
    pub(super) async fn send(&mut self, command: &Cmd, one_key: bool) -> RedisResult<Value> {
        match self {
            Self::Single(connection) => refused(connection.send_packed_command(command).await),
            Self::Cluster(connection) => redirected(connection, command, one_key).await,
        }
    }

    pub(super) async fn subscribe(&mut self, channel: &str) -> RedisResult<()> {
        match self {
            Self::Single(connection) => connection.subscribe(channel).await,
            Self::Cluster(connection) => connection.subscribe(channel).await,
        }
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }
}

/// Follows a key that has moved to another node, or is about to. That is no repeating: the node that said so did nothing.
/// The client would follow by itself only if it might repeat everything else too.
async fn redirected(connection: &mut ClusterConnection, command: &Cmd, one_key: bool) -> RedisResult<Value> {
    let mut redirects = 0;
    loop {
        let mut answer = refused(connection.req_packed_command(command).await);
        if let Err(error) = &answer
            && one_key
            && error.code() == Some("ASK")
        {
            answer = match asked(error) {
                Some(node) => asking(connection, command, node).await,
                None => answer,
            };
        }
        match answer {
            Err(error) if error.code() == Some("MOVED") && redirects < MAX_REDIRECTS => redirects += 1,
            answer => return answer,
        }
    }
}

/// The node that a key is moving to.
fn asked(error: &RedisError) -> Option<SingleNodeRoutingInfo> {
    let (host, port) = error.redirect_node()?.0.rsplit_once(':')?;
    Some(SingleNodeRoutingInfo::ByAddress {
        host: host.to_owned(),
        port: port.parse().ok()?,
    })
}

/// Has a command carried out by the node that its key is moving to. It must be told so right before, with no other
/// caller's command in between.
async fn asking(
    connection: &mut ClusterConnection,
    command: &Cmd,
    node: SingleNodeRoutingInfo,
) -> RedisResult<Value> {
    let mut both = redis::pipe();
    both.cmd("ASKING").add_command(command.clone());
    let mut answers = connection.route_pipeline(both, 1, 1, node).await?;
    refused(Ok(answers.pop().unwrap_or(Value::Nil)))
}

fn refused(answer: RedisResult<Value>) -> RedisResult<Value> {
    match answer {
        Ok(Value::ServerError(error)) => Err(error.into()),
        answer => answer,
    }
}
