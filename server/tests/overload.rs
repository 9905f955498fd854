//! More is asked than the server can do: what is refused, what is served, and for whom.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::hook::Hook;
use common::{HOME_1, PHONE, Server, Subscriber, config_with};
use doorstep_proto::v1 as pb;
use doorstep_proto::v1::access_client::AccessClient;
use pb::AccessKind::Connect;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

const DEADLINE: Duration = Duration::from_secs(5);
/// How long a registration waits for the operator's hook: the capacity is the requests worked on
/// at once by this, whatever machine the test runs on: ten times of it are few enough for a slow one.
const HOOK: Duration = Duration::from_millis(200);
const AT_ONCE: u32 = 4;
const MEASURED: Duration = Duration::from_secs(3);

/// From an address of its own.
async fn from(server: &Server, address: &str) -> AccessClient<Channel> {
    let listen = server.running.as_ref().unwrap().listen;
    let endpoint = Endpoint::from_shared(format!("https://{listen}")).unwrap();
    let channel = endpoint
        .tls_config(server.tls())
        .unwrap()
        .local_address(Some(address.parse().unwrap()))
        .connect()
        .await
        .unwrap();
    AccessClient::new(channel)
}

fn refused_with_hint(status: &Status) -> Duration {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    let hint = status.get_details_retry_info();
    hint.and_then(|info| info.retry_delay)
        .unwrap_or_else(|| panic!("no hint: {status}"))
}

async fn refused(server: &Server, reason: &str) -> u64 {
    let mut operator = server.operator().await;
    let status = operator.status(pb::OperatorStatusRequest {}).await.unwrap();
    let counts = status.into_inner().refused;
    counts
        .iter()
        .find(|entry| entry.reason == reason)
        .unwrap()
        .count
}

async fn register(mut client: AccessClient<Channel>) -> Result<(), Status> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let request = pb::RegisterRequest {
        phone: format!("+86138{number:08}"),
        id_card: String::new(),
        verification_code: String::new(),
    };
    match tokio::time::timeout(DEADLINE, client.register(request)).await {
        Ok(answer) => answer.map(drop),
        Err(_) => Err(Status::deadline_exceeded("late")),
    }
}

/// Each asks again as soon as it is answered. Registrations per second.
async fn closed_loop(client: &AccessClient<Channel>, clients: u32) -> f64 {
    let start = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..clients {
        let client = client.clone();
        workers.spawn(async move {
            let mut good = 0;
            while start.elapsed() < MEASURED {
                match register(client.clone()).await {
                    Ok(()) => good += 1,
                    Err(status) if status.code() == Code::DeadlineExceeded => {}
                    Err(status) => {
                        refused_with_hint(&status);
                        tokio::time::sleep(HOOK / 10).await;
                    }
                }
            }
            good
        });
    }
    let good: u32 = workers.join_all().await.into_iter().sum();
    f64::from(good) / start.elapsed().as_secs_f64()
}

/// Asks at a fixed rate, whatever is answered. Registrations per second, and how many were refused
/// of how many.
async fn open_load(client: &AccessClient<Channel>, per_second: f64) -> (f64, usize, usize) {
    let start = Instant::now();
    let mut requests = JoinSet::new();
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    while start.elapsed() < MEASURED {
        tick.tick().await;
        let due = (start.elapsed().as_secs_f64() * per_second) as usize;
        while requests.len() < due {
            requests.spawn(register(client.clone()));
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let answers = requests.join_all().await;
    let (mut good, mut refused) = (0u32, 0);
    for answer in &answers {
        match answer {
            Ok(()) => good += 1,
            Err(status) if status.code() == Code::DeadlineExceeded => {}
            Err(status) => {
                refused_with_hint(status);
                refused += 1;
            }
        }
    }
    (f64::from(good) / seconds, refused, answers.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_ten_times_the_load_the_server_does_as_much_as_at_its_peak() {
    let hook = Hook::start(HOOK, |_| "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let server = Server::start_with(&config_with(&format!(
        "[limits]\n\
         concurrent_requests = {AT_ONCE}\n\
         streams_per_connection = 1024\n\
         source_rate = {{ per_minute = 0 }}\n\
         registration_rate = {{ per_minute = 0 }}\n\
         [register.verification]\n\
         url = \"http://{}\"\n\
         concurrency = {AT_ONCE}",
        hook.address
    )))
    .await;
    let client = server.access().await;
    let mut last = String::new();
    for _ in 0..3 {
        let mut peak = 0.0f64;
        for clients in [AT_ONCE, AT_ONCE * 2] {
            peak = peak.max(closed_loop(&client, clients).await);
        }
        let (goodput, refused, offered) = open_load(&client, peak * 10.0).await;
        last = format!("peak {peak:.0}/s, goodput {goodput:.0}/s, {refused} of {offered} refused");
        // Shown with --nocapture.
        eprintln!("{last}");
        // A machine that had no time to ask so often has tried nothing.
        if refused * 2 > offered && goodput >= 0.8 * peak {
            assert!(self::refused(&server, "requests").await > 0);
            return;
        }
    }
    panic!("{last}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_noisy_terminal_starves_no_other() {
    let server = Server::start_with(&config_with(
        "[limits]\n\
         subscriber_rate = { per_minute = 60, burst = 10 }\n\
         gateway_stream_rate = { per_minute = 60, burst = 10 }",
    ))
    .await;
    let mut quiet = Subscriber::register(&server, "13800000001").await;
    quiet.client = from(&server, "127.0.0.3").await;
    let mut noisy = Subscriber::register(&server, PHONE).await;
    noisy.client = from(&server, "127.0.0.2").await;
    let mut gateway = server.synced_gateway("gw1").await;
    quiet.ask(&server, Connect, HOME_1).await.unwrap();

    let request = noisy.request(&server, Connect, HOME_1);
    let mut noise = JoinSet::new();
    for _ in 0..400 {
        let (mut client, request) = (noisy.client.clone(), request.clone());
        noise.spawn(async move { client.request_access(request).await });
    }
    // Others are served meanwhile, and gateways with them.
    gateway.establish().await;
    let repeated = quiet.request(&server, pb::AccessKind::Additional, HOME_1);
    for _ in 0..5 {
        quiet.send(repeated.clone()).await.unwrap();
    }
    let answers = noise.join_all().await;
    let good = answers.iter().filter(|answer| answer.is_ok()).count();
    assert!((1..100).contains(&good), "{good} of 400 served");
    for status in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        refused_with_hint(status);
    }
    assert!(refused(&server, "subscriber-rate").await > 0);
    // Another's id with a wrong secret uses up nothing of the other's.
    let mut forged = quiet.request(&server, Connect, HOME_1);
    forged.credentials.as_mut().unwrap().secret = vec![1; 32];
    let codes = [(); 20].map(|()| forged.clone());
    let mut seen = Vec::new();
    for request in codes {
        seen.push(
            noisy
                .client
                .request_access(request)
                .await
                .unwrap_err()
                .code(),
        );
    }
    assert!(seen.contains(&Code::ResourceExhausted), "{seen:?}");
    quiet.send(repeated).await.unwrap();
}

#[tokio::test]
async fn registrations_of_one_address_are_limited_and_those_of_others_go_on() {
    let server = Server::start_with(&config_with(
        "[limits]\nregistration_rate = { per_minute = 1, burst = 2 }",
    ))
    .await;
    let client = from(&server, "127.0.0.2").await;
    for _ in 0..2 {
        register(client.clone()).await.unwrap();
    }
    let hint = refused_with_hint(&register(client).await.unwrap_err());
    assert!(hint >= Duration::from_secs(20), "{hint:?}");
    register(from(&server, "127.0.0.3").await).await.unwrap();
    assert_eq!(refused(&server, "registration-rate").await, 1);
}

#[tokio::test]
async fn connections_of_one_address_are_limited() {
    let server = Server::start_with(&config_with("[limits]\nconnections_per_source = 2")).await;
    let first = server.dial(server.tls()).await.unwrap();
    let _second = server.dial(server.tls()).await.unwrap();
    server.dial(server.tls()).await.unwrap_err();
    register(from(&server, "127.0.0.2").await).await.unwrap();
    assert_eq!(refused(&server, "source-connections").await, 1);
    drop(first);
    for _ in 0..1000 {
        if server.dial(server.tls()).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a closed connection keeps its place");
}

#[tokio::test]
async fn a_gateway_that_dials_again_and_again_is_told_when_to() {
    let server = Server::start_with(&config_with(
        "[limits]\n\
         gateway_stream_rate = { per_minute = 1, burst = 2 }\n\
         gateway_message_rate = { per_minute = 60, burst = 1 }",
    ))
    .await;
    let _first = server.synced_gateway("gw1").await;
    let gateway = server.synced_gateway("gw1").await;
    let client = server.control(Some(server.identity("gw1"))).await.unwrap();
    let hello = pb::Hello {
        protocol_version: 1,
        gateway_id: "gw1".to_owned(),
        software_version: "test".to_owned(),
        held: vec![],
    };
    let status = common::Gateway::hello(client, hello).await.err().unwrap();
    refused_with_hint(&status);
    server.synced_gateway("gw2").await;
    // Messages that come too fast are read later, and none is lost.
    let mut gateway = gateway;
    let mut home = Subscriber::register(&server, PHONE).await;
    home.ask(&server, Connect, HOME_1).await.unwrap();
    let connect = gateway.establish().await;
    let established = pb::SessionState::Established;
    server.reaches(&connect.session_id, established).await;
    assert!(refused(&server, "gateway-messages").await > 0);
}
