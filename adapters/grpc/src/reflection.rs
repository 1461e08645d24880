//! Server reflection, in both versions that clients speak.

use cqi_core::{Error, Result};
use prost::Message;
use tonic_reflection::server::{Builder, v1, v1alpha};

use crate::stack::GrpcService;

/// Reflection over an encoded descriptor set, the health service and itself.
pub(crate) fn services(descriptors: &[u8]) -> Result<(impl GrpcService + use<>, impl GrpcService + use<>)> {
    let first: v1::ServerReflectionServer<_> = builder(descriptors)?.build_v1().map_err(malformed)?;
    let alpha: v1alpha::ServerReflectionServer<_> =
        builder(descriptors)?.build_v1alpha().map_err(malformed)?;
    Ok((first, alpha))
}

fn builder(descriptors: &[u8]) -> Result<Builder<'static>> {
    Ok(Builder::configure()
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_file_descriptor_set(Message::decode(descriptors).map_err(malformed)?))
}

fn malformed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::invalid_input("reflection: malformed descriptor set").with_source(error)
}
