//! The gRPC server.

use cqi_core::{Error, Result};
use cqi_grpc::{GrpcAuth, GrpcOptions, GrpcServer};

use super::{closed, show_tls, shutdown_grace, tls};
use crate::Cqi;

/// The server for a program's services, with the health service and without others yet.
pub(crate) fn server(cqi: &Cqi) -> Result<GrpcServer> {
    let (server, grpc) = (&cqi.config.server, &cqi.config.grpc);
    let taken = [
        ("server.port", server.port),
        (
            "metrics.port",
            if cqi.config.metrics.enabled {
                cqi.config.metrics.port
            } else {
                0
            },
        ),
    ];
    if let Some((key, port)) = taken.iter().find(|(_, port)| *port != 0 && *port == grpc.port) {
        return Err(Error::invalid_input(format!(
            "grpc.port must differ from {key}, which is {port}"
        )));
    }
    let options = GrpcOptions {
        host: grpc.host.clone(),
        port: grpc.port,
        tls: tls(server),
        handshake_timeout: server.header_timeout,
        request_timeout: server.write_timeout,
        write_timeout: server.write_timeout,
        shutdown_grace: shutdown_grace(cqi),
        max_request_bytes: grpc.max_message_bytes,
        max_response_bytes: grpc.max_message_bytes,
        max_header_bytes: u32::try_from(server.max_header_bytes).unwrap_or(u32::MAX),
        max_connections: server.max_connections,
        ..GrpcOptions::default()
    };
    let mut built = GrpcServer::new("grpc", options)?
        .observer(cqi.observer())
        .health(&cqi.health)?;
    show_tls(cqi, built.tls_checker())?;
    if closed(cqi) {
        built = built.auth(GrpcAuth {
            verifier: cqi.verifier(),
            client_certificates: !server.tls_client_ca.is_empty(),
            ..GrpcAuth::default()
        });
    }
    Ok(built)
}
