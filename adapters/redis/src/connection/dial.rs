//! Making a connection. Every time of the client is set here, and its own repeating is off.

use std::{sync::Arc, time::Duration};

use cqi_core::Result;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion,
    PushInfo, PushKind, RedisConnectionInfo, RedisError, RedisResult, TlsCertificates, Value,
    aio::AsyncPushSender,
    cluster::ClusterClientBuilder,
    cluster_routing::{RoutingInfo, SingleNodeRoutingInfo},
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};
use tokio::time::timeout;

use super::{Pushes, wire::Wire};
use crate::{config::RedisOptions, error};

/// How long sent bytes may stay unconfirmed before the kernel gives the connection up, and how often it probes an idle one.
/// The pings are faster; this ends a half-open connection that nobody owns any more.
const KERNEL: Duration = Duration::from_secs(30);
/// Which part of the time for connecting one node of a cluster may take. The client waits for every node, and for every
/// one twice, so that one that hangs would else keep all from being used.
const NODE: u32 = 3;
/// How many commands wait in the client for the socket.
const WAITING: usize = 256;

/// Connects, logs in, and sees that the server answers.
pub(super) async fn dial(options: &RedisOptions, pushes: Option<&Pushes>, limit: Duration) -> Result<Wire> {
    if options.tls && rustls::crypto::CryptoProvider::get_default().is_none() {
        // The client takes the process's provider and panics without one. Losing the race means that there is one.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let connecting = async {
        let mut wire = match options.cluster {
            false => single(options, pushes, limit).await?,
            true => cluster(options, pushes, limit).await?,
        };
        ping(&mut wire).await.map(|answer| (wire, answer))
    };
    let failed = |error: &RedisError| error::connecting(error, &options.server(), options.tls, limit);
    match timeout(limit, connecting).await {
        Ok(Ok((wire, Value::SimpleString(text)))) if text == "PONG" => Ok(wire),
        Ok(Ok(_)) => Err(error::not_redis().with_context("server", options.server())),
        Ok(Err(error)) => Err(failed(&error)),
        Err(_) => Err(failed(&std::io::Error::from(std::io::ErrorKind::TimedOut).into())),
    }
}

async fn single(options: &RedisOptions, pushes: Option<&Pushes>, limit: Duration) -> RedisResult<Wire> {
    let info = info(options, pushes, &options.nodes[0])?;
    let client = match certificates(options) {
        Some(certificates) => Client::build_with_tls(info, certificates)?,
        None => Client::open(info)?,
    };
    let mut config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(limit))
        .set_response_timeout(Some(options.timeout))
        .set_pipeline_buffer_size(WAITING);
    if let Some(pushes) = pushes {
        config = config.set_push_sender(hear(pushes));
    }
    let connection = client
        .get_multiplexed_async_connection_with_config(&config)
        .await?;
    Ok(Wire::Single(connection))
}

async fn cluster(options: &RedisOptions, pushes: Option<&Pushes>, limit: Duration) -> RedisResult<Wire> {
    let nodes = options.nodes.iter().map(|node| info(options, pushes, node));
    let mut builder = ClusterClientBuilder::new(nodes.collect::<RedisResult<Vec<_>>>()?)
        .retries(0)
        .connection_timeout(limit / NODE)
        .response_timeout(options.timeout)
        .overall_response_timeout(Some(options.timeout))
        .tcp_settings(tcp());
    if let Some(certificates) = certificates(options) {
        builder = builder.certs(certificates);
    }
    if let Some(pushes) = pushes {
        builder = builder.push_sender(hear(pushes));
    }
    Ok(Wire::Cluster(builder.build()?.get_async_connection().await?))
}

/// Any node will do for a cluster: one that is down must not keep the others from being used.
async fn ping(wire: &mut Wire) -> RedisResult<Value> {
    let ping = redis::cmd("PING");
    match wire {
        Wire::Single(_) => wire.send(&ping, false).await,
        Wire::Cluster(cluster) => {
            let any = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);
            cluster.route_command(ping, any).await?.extract_error()
        }
    }
}

fn info(
    options: &RedisOptions,
    pushes: Option<&Pushes>,
    (host, port): &(String, u16),
) -> RedisResult<ConnectionInfo> {
    let (host, port) = (host.clone(), *port);
    let address = match options.tls {
        false => ConnectionAddr::Tcp(host, port),
        true => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        },
    };
    let mut login = RedisConnectionInfo::default().set_db(options.database.into());
    if !options.user.is_empty() {
        login = login.set_username(&options.user);
    }
    if !options.password.is_empty() {
        login = login.set_password(options.password.expose());
    }
    if pushes.is_some() {
        login = login.set_protocol(ProtocolVersion::RESP3);
    }
    let info = address.into_connection_info()?;
    Ok(info.set_tcp_settings(tcp()).set_redis_settings(login))
}

fn tcp() -> TcpSettings {
    TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(TcpKeepalive::new().with_time(KERNEL).with_interval(KERNEL / 3))
        .set_user_timeout(KERNEL)
}

fn certificates(options: &RedisOptions) -> Option<TlsCertificates> {
    let roots = options.root_certificates.clone().filter(|_| options.tls)?;
    Some(TlsCertificates {
        client_tls: None,
        root_cert: Some(roots),
    })
}

/// Passes on the text of every published message, and that the connection ended.
fn hear(pushes: &Pushes) -> impl AsyncPushSender + use<> {
    let pushes = pushes.clone();
    move |push: PushInfo| -> Result<(), ()> {
        let text: Arc<str> = match (push.kind, &*push.data) {
            (PushKind::Message, [_channel, Value::BulkString(text)]) => String::from_utf8_lossy(text).into(),
            (PushKind::Disconnection, _) => "".into(),
            _ => return Ok(()),
        };
        let _ = pushes.send(text); // nobody listens at present
        Ok(())
    }
}
