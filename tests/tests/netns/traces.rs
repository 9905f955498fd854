//! What collectors of traces are told by the three daemons of one request.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use doorstep_tests::lab::netns::Netns;
use doorstep_tests::lab::street::{Plan, Street};
use doorstep_tests::suite::CaseResult;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use crate::support::connect;

const PORT: u16 = 4317;
const PATIENCE: Duration = Duration::from_secs(60);

/// A span, and who told it: `doorstep-gateway gw1`.
#[derive(Clone, Debug)]
struct Told {
    by: String,
    span: Span,
}

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Told>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for of_one in request.into_inner().resource_spans {
            let resource = of_one.resource.unwrap_or_default();
            let name = ["service.name", "service.instance.id"];
            let by = name.map(|key| text(&resource.attributes, key)).join(" ");
            let spans = of_one.scope_spans.into_iter().flat_map(|scope| scope.spans);
            let told = spans.map(|span| Told {
                by: by.clone(),
                span,
            });
            self.0.lock().expect("not poisoned").extend(told);
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|one| one.key == key);
    match found.and_then(|one| one.value.clone()?.value) {
        Some(Value::StringValue(text)) => text,
        other => format!("{other:?}"),
    }
}

impl Collector {
    /// Listens in each of these namespaces, until the runtime is dropped.
    fn listen(&self, runtime: &Runtime, places: &[&Netns]) -> Result<()> {
        for place in places {
            let listener = place.run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)))??;
            listener.set_nonblocking(true)?;
            let _inside = runtime.enter();
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let service = TraceServiceServer::new(self.clone());
            let incoming = TcpListenerStream::new(listener);
            runtime.spawn(
                Server::builder()
                    .add_service(service)
                    .serve_with_incoming(incoming),
            );
        }
        Ok(())
    }

    /// The names of a session's spans under a generation, by who told them, once these have.
    fn wait_for(&self, session: &str, generation: u64, tellers: &[&str]) -> Result<Vec<Told>> {
        let end = Instant::now() + PATIENCE;
        loop {
            let mut told = self.0.lock().expect("not poisoned").clone();
            told.retain(|one| {
                let number = one.span.attributes.iter().any(|attribute| {
                    let value = attribute
                        .value
                        .as_ref()
                        .and_then(|value| value.value.as_ref());
                    attribute.key == "doorstep.generation"
                        && value == Some(&Value::IntValue(generation.cast_signed()))
                });
                number && text(&one.span.attributes, "doorstep.session") == session
            });
            let have = |teller: &&str| told.iter().any(|one| one.by.starts_with(teller));
            if tellers.iter().all(have) {
                return Ok(told);
            }
            if Instant::now() > end {
                bail!("of {generation} told only {told:#?}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// All of one trace, below one root; what each has told.
fn check(told: &[Told]) -> Result<BTreeMap<&str, Vec<&str>>> {
    let trace = &told.first().context("none")?.span.trace_id;
    let mut names: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for Told { by, span } in told {
        ensure!(
            span.trace_id == *trace && span.trace_id.len() == 16,
            "{span:?}"
        );
        ensure!(
            span.start_time_unix_nano <= span.end_time_unix_nano,
            "{span:?}"
        );
        let parent = told
            .iter()
            .find(|one| one.span.span_id == span.parent_span_id);
        ensure!(
            span.parent_span_id.is_empty() || parent.is_some(),
            "{span:?}"
        );
        names
            .entry(by.split(' ').next().unwrap_or_default())
            .or_default()
            .push(&span.name);
    }
    let roots = told.iter().filter(|one| one.span.parent_span_id.is_empty());
    ensure!(roots.count() == 1, "{told:#?}");
    Ok(names)
}

/// Each daemon tells its part of the connection, and of the move: one trace for each request, and a
/// link from it to what the first gateway did for it.
pub fn of_a_move() -> CaseResult {
    let mut street = Street::new(Plan {
        gateways: 2,
        traces: true,
        ..Plan::default()
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let collector = Collector::default();
    let gateways = street.gateways.iter().map(|gateway| &gateway.netns);
    let mut places: Vec<&Netns> = gateways.collect();
    places.extend([&street.srv, &street.homes[0].netns]);
    collector.listen(&runtime, &places)?;

    let session = connect(&street, 0)?;
    let id = &session.session_id;
    let all = [
        "doorstep-server north-net",
        "doorstep-gateway gw1",
        "doorstep-terminal",
    ];
    let told = collector.wait_for(id, session.generation, &all)?;
    let names = check(&told)?;
    ensure!(
        names["doorstep-server"] == ["connect", "connecting", "establishing"],
        "{names:?}"
    );
    let steps = ["establish", "instructed", "requested", "accepted"];
    ensure!(names["doorstep-gateway"] == steps, "{names:?}");
    let steps = [
        "establish",
        "requested",
        "accepted",
        "bringing-up",
        "accepting",
    ];
    ensure!(names["doorstep-terminal"] == steps, "{names:?}");

    street.plug(0, 1)?;
    let moved = street.homes[0].relocate(&street.seal(1, 0)?, None)?;
    let all = [
        "doorstep-server",
        "doorstep-gateway gw2",
        "doorstep-terminal",
    ];
    let told = collector.wait_for(id, moved.generation, &all)?;
    let names = check(&told)?;
    let steps = ["move", "disconnecting", "connecting", "establishing"];
    ensure!(names["doorstep-server"] == steps, "{names:?}");
    let root = told
        .iter()
        .find(|one| one.span.name == "move")
        .context("no root")?;
    let both = ["doorstep-gateway gw1", "doorstep-server"];
    let closed = collector.wait_for(id, moved.generation - 1, &both)?;
    let names = check(&closed)?;
    ensure!(
        names["doorstep-gateway"] == ["close", "closing"],
        "{names:?}"
    );
    let [link] = &root.span.links[..] else {
        bail!("not one link: {root:?}");
    };
    ensure!(
        closed.iter().all(|one| one.span.trace_id == link.trace_id),
        "{closed:#?}"
    );

    let own = closed.iter().find(|one| one.span.parent_span_id.is_empty());
    ensure!(
        own.is_some_and(|own| own.span.span_id == link.span_id),
        "{closed:#?}"
    );

    // No span says where it is, or whose.
    let all = format!("{:?}", collector.0.lock().expect("not poisoned"));
    let phone = street.homes[0].phone();
    for secret in [
        street.location(0, 0),
        street.location(1, 0),
        phone,
        session.v4()?.to_string(),
    ] {
        ensure!(!all.contains(&secret), "{secret}: {all}");
    }

    // Nobody need be there to be told.
    runtime.shutdown_background();
    street.homes[0].release(id)
}
