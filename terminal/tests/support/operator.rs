//! A server that the test plays.

use std::collections::HashMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use doorstep_establish::SessionKey;
use doorstep_proto::v1 as pb;
use doorstep_proto::v1::access_server::{Access, AccessServer};
use futures::Stream;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::{BroadcastStream, TcpListenerStream};
use tonic::transport::{Identity, ServerTlsConfig};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use uuid::Uuid;

/// A session, its generation and key.
pub type Granted = (Uuid, u64, SessionKey);

/// The operator's side: grants everything, and tells the gateway's side.
pub struct Operator {
    pub granted: mpsc::UnboundedSender<Granted>,
    /// How long the terminal waits for its answer, while the gateway knows already.
    pub delay: Duration,
    pub sessions: Mutex<Vec<(Uuid, u64)>>,
    /// The plan that the last request named.
    pub plan: Mutex<String>,
    /// It gives this session, whatever is asked.
    pub always: Mutex<Option<Uuid>>,
    /// By the request's id.
    pub answers: Mutex<HashMap<String, Granted>>,
    pub states: broadcast::Sender<pb::SessionStatus>,
    /// What it sends to a number before it takes it.
    pub code: Mutex<Option<&'static str>>,
}

impl Operator {
    /// One that takes some time to answer, and what it tells the gateway's side.
    pub fn new(delay: Duration) -> (Arc<Self>, mpsc::UnboundedReceiver<Granted>) {
        let (granted, grants) = mpsc::unbounded_channel();
        let operator = Self {
            granted,
            delay,
            sessions: Mutex::default(),
            plan: Mutex::default(),
            always: Mutex::default(),
            answers: Mutex::default(),
            states: broadcast::channel(16).0,
            code: Mutex::default(),
        };
        (Arc::new(operator), grants)
    }

    /// A session has ended.
    pub fn end(&self, session_id: &str) {
        let state = pb::SessionState::Released.into();
        self.sessions
            .lock()
            .unwrap()
            .retain(|(id, _)| id.to_string() != session_id);
        let released = pb::SessionStatus {
            session_id: session_id.to_owned(),
            state,
            ..Default::default()
        };
        let _ = self.states.send(released);
    }
}

#[tonic::async_trait]
impl Access for Operator {
    async fn register(
        &self,
        request: Request<pb::RegisterRequest>,
    ) -> Result<Response<pb::RegisterResponse>, Status> {
        let request = request.into_inner();
        if request.phone.is_empty() {
            return Err(Status::invalid_argument("phone: expected digits"));
        }
        match *self.code.lock().unwrap() {
            Some(_) if request.verification_code.is_empty() => {
                let reason = "VERIFICATION_CODE_NEEDED";
                return Err(Status::with_error_details(
                    Code::FailedPrecondition,
                    "a code is needed",
                    ErrorDetails::with_error_info(reason, "doorstep", HashMap::new()),
                ));
            }
            Some(code) if request.verification_code != code => {
                return Err(Status::permission_denied("not the code"));
            }
            _ => {}
        }
        let subscriber_id = Uuid::new_v4().to_string();
        let credentials = Some(pb::Credentials {
            subscriber_id,
            secret: vec![7; 32],
        });
        Ok(Response::new(pb::RegisterResponse { credentials }))
    }

    async fn request_access(
        &self,
        request: Request<pb::RequestAccessRequest>,
    ) -> Result<Response<pb::RequestAccessResponse>, Status> {
        let request = request.into_inner();
        if !request.sealed_location_id.starts_with("d1.") {
            return Err(Status::invalid_argument("sealed location id: unknown form"));
        }
        if request.sealed_location_id == "d1.keyless" {
            return Ok(Response::new(pb::RequestAccessResponse {
                session_id: Uuid::new_v4().to_string(),
                generation: 1,
                session_key: vec![1; 3],
            }));
        }
        let known = self
            .answers
            .lock()
            .unwrap()
            .get(&request.request_id)
            .cloned();
        if let Some((id, generation, key)) = known {
            return Ok(Response::new(answer(id, generation, &key)));
        }
        if !["", "home", "office"].contains(&request.plan.as_str()) {
            return Err(Status::failed_precondition("plan: it is not offered"));
        }
        self.plan.lock().unwrap().clone_from(&request.plan);
        let (id, generation) = {
            let mut sessions = self.sessions.lock().unwrap();
            if let Some(id) = *self.always.lock().unwrap() {
                (id, 9)
            } else if request.kind() == pb::AccessKind::Move {
                let only = &mut sessions[0];
                only.1 += 2;
                *only
            } else {
                sessions.push((Uuid::new_v4(), 1));
                *sessions.last().unwrap()
            }
        };
        let key = SessionKey::generate();
        let granted = (id, generation, key.clone());
        self.answers
            .lock()
            .unwrap()
            .insert(request.request_id, granted.clone());
        self.granted.send(granted).unwrap();
        tokio::time::sleep(self.delay).await;
        Ok(Response::new(answer(id, generation, &key)))
    }

    async fn plans(
        &self,
        request: Request<pb::PlansRequest>,
    ) -> Result<Response<pb::PlansResponse>, Status> {
        // Whom the operator knows has got the larger one.
        let known = request.into_inner().credentials.is_some();
        let plan = |name: &str, upstream_bps, own| pb::OfferedPlan {
            name: name.to_owned(),
            upstream_bps,
            own,
            ..Default::default()
        };
        let plans = vec![
            plan("home", 100_000_000, !known),
            plan("office", 500_000_000, known),
        ];
        Ok(Response::new(pb::PlansResponse { plans }))
    }

    async fn release(
        &self,
        request: Request<pb::ReleaseRequest>,
    ) -> Result<Response<pb::ReleaseResponse>, Status> {
        let session_id = request.into_inner().session_id;
        self.end(&session_id);
        Ok(Response::new(pb::ReleaseResponse { session_id }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<pb::SessionStatus, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<pb::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let session_id = request.into_inner().session_id;
        let states = BroadcastStream::new(self.states.subscribe());
        let is_there = |(id, _): &(Uuid, u64)| id.to_string() == session_id;
        if !self.sessions.lock().unwrap().iter().any(is_there) {
            // It has ended while nobody was listening.
            self.end(&session_id);
        }
        let states = states.filter_map(move |state| match state {
            Ok(state) if state.session_id == session_id => Some(Ok(state)),
            _ => None,
        });
        Ok(Response::new(Box::pin(states)))
    }
}

fn answer(id: Uuid, generation: u64, key: &SessionKey) -> pb::RequestAccessResponse {
    pb::RequestAccessResponse {
        session_id: id.to_string(),
        generation,
        session_key: key.as_bytes().to_vec(),
    }
}

/// Serves the operator on loopback; returns its URL.
pub async fn serve(operator: Arc<Operator>, folder: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(["north-net".to_owned()]).unwrap();
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    std::fs::write(folder.join("ca.pem"), &cert).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let server = tonic::transport::Server::builder()
        .tls_config(ServerTlsConfig::new().identity(Identity::from_pem(cert, key)))
        .unwrap()
        .add_service(AccessServer::from_arc(operator))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    url
}
