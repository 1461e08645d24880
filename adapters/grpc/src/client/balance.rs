//! Which connection a call takes.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use cqi_core::{
    Code, Error, Result,
    registry::{Instance, Resolver},
};
use tonic::transport::{Channel, ClientTlsConfig};

use super::{GrpcClientOptions, Target};

/// The metadata entry of an instance that tells the port of its gRPC server, where another port is registered.
const GRPC_PORT: &str = "grpc_port";

/// The connections of a channel. One that breaks is made anew by the next call that takes it.
#[derive(Debug)]
pub(super) enum Balance {
    One(Channel),
    Many(Box<Many>),
}

/// A connection to each instance of a service.
#[derive(Debug)]
pub(super) struct Many {
    resolver: Resolver,
    options: GrpcClientOptions,
    tls: Option<ClientTlsConfig>,
    turn: AtomicUsize,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// The list that `channels` was made of.
    instances: Option<Arc<[Instance]>>,
    channels: Vec<(String, Channel)>,
}

impl Balance {
    pub(super) fn new(options: &GrpcClientOptions, tls: Option<ClientTlsConfig>) -> Result<Self> {
        match &options.target {
            Target::Uri(uri) => Ok(Self::One(options.endpoint(uri, tls.as_ref())?.connect_lazy())),
            Target::Service { registry, name } => Ok(Self::Many(Box::new(Many {
                resolver: Resolver::new(Arc::clone(registry), name),
                options: options.clone(),
                tls,
                turn: AtomicUsize::new(0),
                known: Mutex::default(),
            }))),
        }
    }

    /// The next connection, round robin.
    pub(super) async fn pick(&self) -> Result<Channel> {
        match self {
            Self::One(channel) => Ok(channel.clone()),
            Self::Many(many) => {
                let instances = many.resolver.instances().await?;
                many.next(instances)
            }
        }
    }
}

impl Many {
    fn next(&self, instances: Arc<[Instance]>) -> Result<Channel> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = known.instances.as_ref();
        if !fresh.is_some_and(|fresh| Arc::ptr_eq(fresh, &instances)) {
            known.channels = self.renew(&known.channels, &instances);
            known.instances = Some(instances);
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let at = turn.checked_rem(known.channels.len());
        at.and_then(|at| known.channels.get(at))
            .map(|(_, channel)| channel.clone())
            .ok_or_else(|| Error::temporary("service has no running instance").with_code(Code::Unavailable))
    }

    /// Keeps the connections of instances that are still there; those of others end with their last call.
    fn renew(&self, before: &[(String, Channel)], instances: &[Instance]) -> Vec<(String, Channel)> {
        let channel = |instance: &Instance| {
            let uri = self.uri(instance);
            if let Some(kept) = before.iter().find(|(known, _)| *known == uri) {
                return Some(kept.clone());
            }
            match self.options.endpoint(&uri, self.tls.as_ref()) {
                Ok(endpoint) => Some((uri, endpoint.connect_lazy())),
                Err(error) => {
                    tracing::warn!(%uri, error = %error.chain(), "an instance cannot be called");
                    None
                }
            }
        };
        instances.iter().filter_map(channel).collect()
    }

    fn uri(&self, instance: &Instance) -> String {
        let info = &instance.info;
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let port = info.metadata.get(GRPC_PORT).and_then(|port| port.parse().ok());
        let host = &info.address;
        // An IPv6 address stands in brackets before a port.
        let bare = host.contains(':') && !host.starts_with('[');
        let (open, close) = if bare { ("[", "]") } else { ("", "") };
        format!("{scheme}://{open}{host}{close}:{}", port.unwrap_or(info.port))
    }
}
