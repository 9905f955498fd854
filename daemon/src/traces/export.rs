//! How spans get to the collector: in batches, and never in anybody's way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as otlp;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::timeout;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use super::{Config, Span, Trace, text};

/// Spans that wait for the collector, and how many it gets at once.
const WAITING: usize = 8192;
const AT_ONCE: usize = 512;
/// What comes within so long goes together.
const GATHERING: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a daemon tells its spans.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Told>);

#[derive(Clone, Debug)]
struct Told {
    spans: Sender<otlp::Span>,
    /// Spans for which there was no room.
    left_out: Arc<AtomicUsize>,
}

impl Traces {
    /// Tells the collector of the configuration, if there is one, from a task that ends with what
    /// tells it. `service` and `instance` (may be empty) say who tells.
    pub fn start(config: Option<&Config>, service: &'static str, instance: &str) -> Result<Self> {
        let Some(config) = config else {
            return Ok(Traces::default());
        };
        let channel = connect(config)?;
        let name = ("service.name", service.to_owned());
        let instance = (!instance.is_empty()).then(|| ("service.instance.id", instance.to_owned()));
        let attributes = [name].into_iter().chain(instance);
        let resource = Resource {
            attributes: attributes.map(text).collect(),
            ..Resource::default()
        };
        let (sender, spans) = mpsc::channel(WAITING);
        let told = Told {
            spans: sender,
            left_out: Arc::default(),
        };
        let left_out = Arc::clone(&told.left_out);
        tokio::spawn(export(
            TraceServiceClient::new(channel),
            resource,
            spans,
            left_out,
        ));
        Ok(Traces(Some(told)))
    }

    /// Whether anybody is told.
    #[must_use]
    pub fn are_on(&self) -> bool {
        self.0.is_some()
    }

    /// Tells spans of a trace. What a collector is too slow for is left out.
    pub fn tell(&self, trace: Trace, spans: impl IntoIterator<Item = Span>) {
        let Some(told) = &self.0 else { return };
        for span in spans {
            if told.spans.try_send(span.told(trace)).is_err() {
                told.left_out.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn connect(config: &Config) -> Result<Channel> {
    let url = &config.endpoint;
    let endpoint = Endpoint::from_shared(url.clone());
    let mut endpoint =
        endpoint.with_context(|| format!("[traces] endpoint: {url} is no address"))?;
    match endpoint.uri().scheme_str() {
        Some("http") => ensure!(config.ca.is_none(), "[traces] ca: it is for https://"),
        Some("https") => {
            let ca = config.ca.as_ref();
            let ca = ca.context("[traces] ca: it is needed for https://")?;
            let pem = std::fs::read(ca)
                .with_context(|| format!("[traces] ca: cannot read {}", ca.display()))?;
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
            endpoint = endpoint
                .tls_config(tls)
                .context("[traces] ca: it holds no certificates")?;
        }
        _ => anyhow::bail!("[traces] endpoint: {url} begins with neither http:// nor https://"),
    }
    Ok(endpoint.connect_timeout(PATIENCE).connect_lazy())
}

async fn export(
    mut collector: TraceServiceClient<Channel>,
    resource: Resource,
    mut spans: Receiver<otlp::Span>,
    left_out: Arc<AtomicUsize>,
) {
    let mut lost = 0_usize;
    let mut batch = Vec::with_capacity(AT_ONCE);
    while spans.recv_many(&mut batch, AT_ONCE).await > 0 {
        let more = async {
            while batch.len() < AT_ONCE
                && let Some(span) = spans.recv().await
            {
                batch.push(span);
            }
        };
        // Whether or not there are more.
        let _ = timeout(GATHERING, more).await;
        let number = batch.len();
        match left_out.swap(0, Ordering::Relaxed) {
            0 => {}
            lost => tracing::warn!(
                lost,
                "the collector of traces is too slow: spans were left out"
            ),
        }
        let request = request(&resource, std::mem::take(&mut batch));
        let why = match timeout(PATIENCE, collector.export(request)).await {
            Ok(Ok(_)) if lost > 0 => {
                tracing::info!(lost, "the collector of traces answers again");
                lost = 0;
                continue;
            }
            Ok(Ok(_)) => continue,
            Ok(Err(status)) => status.to_string(),
            Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
        };
        if lost == 0 {
            tracing::warn!(
                why,
                "the collector of traces does not take them: they are left out"
            );
        }
        lost += number;
    }
}

fn request(resource: &Resource, spans: Vec<otlp::Span>) -> ExportTraceServiceRequest {
    let scope = InstrumentationScope {
        name: "doorstep".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let scope_spans = otlp::ScopeSpans {
        scope: Some(scope),
        spans,
        ..otlp::ScopeSpans::default()
    };
    let resource_spans = otlp::ResourceSpans {
        resource: Some(resource.clone()),
        scope_spans: vec![scope_spans],
        ..otlp::ResourceSpans::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![resource_spans],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wrong_configuration_says_what_is_wrong() {
        for (endpoint, ca, said) in [
            ("http://127.0.0.1:4317", None, ""),
            ("127.0.0.1:4317", None, "neither http://"),
            ("ftp://127.0.0.1", None, "neither http://"),
            ("http://[::1", None, "is no address"),
            (
                "http://127.0.0.1:4317",
                Some("ca.pem"),
                "ca: it is for https://",
            ),
            ("https://127.0.0.1:4317", None, "ca: it is needed"),
            (
                "https://127.0.0.1:4317",
                Some("/none/ca.pem"),
                "cannot read /none/ca.pem",
            ),
        ] {
            let config = Config {
                endpoint: endpoint.to_owned(),
                ca: ca.map(Into::into),
            };
            let told = Traces::start(Some(&config), "test", "1").err();
            let told = told.map(|error| format!("{error:#}")).unwrap_or_default();
            assert_eq!(told.is_empty(), said.is_empty(), "{endpoint}: {told}");
            assert!(told.contains(said), "{endpoint}: {told}");
        }
        assert!(!Traces::start(None, "test", "1").unwrap().are_on());
    }
}
