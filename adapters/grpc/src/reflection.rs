//! Server reflection, in both versions that clients speak, and the methods that descriptors name.

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

/// The methods of an encoded descriptor set, `package.Service/Method`.
pub(crate) fn methods(descriptors: &[u8]) -> Result<Vec<String>> {
    let set = Files::decode(descriptors).map_err(malformed)?;
    let mut names = Vec::new();
    for file in &set.files {
        for service in &file.services {
            let dot = if file.package.is_empty() { "" } else { "." };
            let service_name = format!("{}{dot}{}", file.package, service.name);
            names.extend(
                service
                    .methods
                    .iter()
                    .map(|method| format!("{service_name}/{}", method.name)),
            );
        }
    }
    Ok(names)
}

/// What is read of a `google.protobuf.FileDescriptorSet`.
#[derive(Clone, PartialEq, Message)]
struct Files {
    #[prost(message, repeated, tag = "1")]
    files: Vec<File>,
}

/// A `FileDescriptorProto`.
#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(string, tag = "2")]
    package: String,
    #[prost(message, repeated, tag = "6")]
    services: Vec<Declared>,
}

/// A `ServiceDescriptorProto`.
#[derive(Clone, PartialEq, Message)]
struct Declared {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    methods: Vec<Rpc>,
}

/// A `MethodDescriptorProto`.
#[derive(Clone, PartialEq, Message)]
struct Rpc {
    #[prost(string, tag = "1")]
    name: String,
}

fn builder(descriptors: &[u8]) -> Result<Builder<'static>> {
    Ok(Builder::configure()
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_file_descriptor_set(Message::decode(descriptors).map_err(malformed)?))
}

fn malformed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::invalid_input("reflection: malformed descriptor set").with_source(error)
}
