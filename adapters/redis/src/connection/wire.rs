//! The client's own connections: to one server, or to a cluster.

use redis::{
    Cmd, RedisResult, Value, aio::ConnectionLike, aio::MultiplexedConnection,
    cluster_async::ClusterConnection,
};

/// How often a key may have moved while a call looks for it.
const MAX_REDIRECTS: u32 = 3;

#[derive(Clone)]
pub(super) enum Wire {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Wire {
    /// An error that the server answers with is an `Err`.
    pub(super) async fn send(&mut self, command: &Cmd) -> RedisResult<Value> {
        let answer = match self {
            Self::Single(connection) => connection.send_packed_command(command).await,
            Self::Cluster(connection) => redirected(connection, command).await,
        };
        match answer {
            Ok(Value::ServerError(error)) => Err(error.into()),
            answer => answer,
        }
    }

    pub(super) async fn subscribe(&mut self, channels: &[String]) -> RedisResult<()> {
        match self {
            Self::Single(connection) => connection.subscribe(channels).await,
            Self::Cluster(connection) => connection.subscribe(channels).await,
        }
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }
}

/// Follows a key that has moved to another node. That is no repeating: the node that said so did nothing. The client would
/// follow by itself only if it might repeat everything else too.
async fn redirected(connection: &mut ClusterConnection, command: &Cmd) -> RedisResult<Value> {
    for _ in 0..MAX_REDIRECTS {
        match connection.req_packed_command(command).await {
            Err(error) if error.code() == Some("MOVED") => {}
            Ok(Value::ServerError(error)) if error.code() == "MOVED" => {}
            answer => return answer,
        }
    }
    connection.req_packed_command(command).await
}
