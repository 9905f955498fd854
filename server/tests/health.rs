//! What load balancers and tools ask a real server.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::timeout;
use tokio_stream::iter;
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest as Asked;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse as Told;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServiceResponse};

use crate::common::{Server, config_with};

const PATIENCE: Duration = Duration::from_secs(60);
const PUBLIC: [&str; 3] = [
    "doorstep.v1.Access",
    "doorstep.v1.GatewayControl",
    "doorstep.v1.Enrollment",
];
const ADMIN: [&str; 3] = [
    "doorstep.v1.Operator",
    "doorstep.v1.Pki",
    "doorstep.v1.Accounts",
];

fn about(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

async fn check(channel: &Channel, service: &str) -> Result<ServingStatus, Code> {
    let mut client = HealthClient::new(channel.clone());
    match client.check(about(service)).await {
        Ok(answer) => Ok(answer.into_inner().status()),
        Err(status) => Err(status.code()),
    }
}

/// The public port needs no certificate for it, as for terminals.
#[tokio::test]
async fn both_listeners_tell_of_their_services() {
    let server = Server::start().await;
    let public = server.dial(server.tls()).await.unwrap();
    let admin = server.admin().await;
    for (channel, served, not_here) in [(public, &PUBLIC[..], ADMIN[0]), (admin, &ADMIN, PUBLIC[0])]
    {
        for service in [&[""], served].concat() {
            let told = check(&channel, service).await;
            assert_eq!(told, Ok(ServingStatus::Serving), "{service:?}");
        }
        assert_eq!(check(&channel, not_here).await, Err(Code::NotFound));
    }
}

#[tokio::test]
async fn who_watches_is_told_of_the_end() {
    let mut server = Server::start().await;
    let public = server.dial(server.tls()).await.unwrap();
    let mut client = HealthClient::new(public);
    let mut watched = client.watch(about("")).await.unwrap().into_inner();
    let first = watched.message().await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::Serving);
    let told = async {
        let last = watched.message().await.unwrap().unwrap();
        assert_eq!(last.status(), ServingStatus::NotServing);
        assert_eq!(watched.message().await.unwrap(), None);
    };
    let (_, told) = tokio::join!(server.stop(), timeout(PATIENCE, told));
    told.expect("in time");
}

/// Health checks are requests like others: whoever asks too often is refused.
#[tokio::test]
async fn checks_count_as_requests_of_their_source() {
    let limit = "[limits]\nsource_rate = { per_minute = 1, burst = 3 }";
    let server = Server::start_with(&config_with(limit)).await;
    let public = server.dial(server.tls()).await.unwrap();
    for _ in 0..3 {
        assert_eq!(check(&public, "").await, Ok(ServingStatus::Serving));
    }
    assert_eq!(check(&public, "").await, Err(Code::ResourceExhausted));
}

async fn ask(channel: Channel, asked: Asked) -> Result<Told, Code> {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(asked),
    };
    let mut client = ServerReflectionClient::new(channel);
    let mut answers = match client.server_reflection_info(iter([request])).await {
        Ok(answers) => answers.into_inner(),
        Err(status) => return Err(status.code()),
    };
    match answers.message().await {
        Ok(answer) => Ok(answer.unwrap().message_response.unwrap()),
        Err(status) => Err(status.code()),
    }
}

#[tokio::test]
async fn the_administration_socket_tells_what_it_has() {
    let server = Server::start().await;
    let list = Asked::ListServices(String::new());
    let told = ask(server.admin().await, list.clone()).await;
    let Ok(Told::ListServicesResponse(list_told)) = told else {
        panic!("{told:?}");
    };
    let names: BTreeSet<_> = list_told
        .service
        .iter()
        .map(|ServiceResponse { name }| name.as_str())
        .collect();
    let health = ["grpc.health.v1.Health"];
    let served = ADMIN.into_iter().chain(health);
    assert_eq!(names, served.collect::<BTreeSet<_>>());
    let symbol = Asked::FileContainingSymbol("doorstep.v1.Operator.Why".to_owned());
    let told = ask(server.admin().await, symbol).await;
    let Ok(Told::FileDescriptorResponse(files)) = told else {
        panic!("{told:?}");
    };
    let file = files.file_descriptor_proto.first().unwrap();
    let text = String::from_utf8_lossy(file);
    assert!(text.contains("admin_server.proto"), "{text}");
    // What may be asked there is nobody else's business.
    let public = server.dial(server.tls()).await.unwrap();
    assert_eq!(ask(public, list).await.unwrap_err(), Code::Unimplemented);
}
