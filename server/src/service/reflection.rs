//! What the administration socket has, for tools such as `grpcurl` (`grpc.reflection.v1`).

use anyhow::{Context as _, Result};
use doorstep_proto::FILE_DESCRIPTOR_SET;
use doorstep_proto::v1::{accounts_server, operator_server, pki_server};
use tonic_health::pb::health_server;
use tonic_reflection::server::Builder;
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};

/// Services of the operator's protocol on the administration socket.
pub const SERVICES: [&str; 3] = [
    operator_server::SERVICE_NAME,
    pki_server::SERVICE_NAME,
    accounts_server::SERVICE_NAME,
];

/// Describes the services of the administration socket.
pub fn reflection() -> Result<ServerReflectionServer<impl ServerReflection>> {
    let mut builder = Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name(health_server::SERVICE_NAME);
    for service in SERVICES {
        builder = builder.with_service_name(service);
    }
    builder.build_v1().context("the protocols' descriptors")
}
