//! What terminals ask of the server, over a few connections that all of them share.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use doorstep_proto::v1 as pb;
use doorstep_proto::v1::access_client::AccessClient;
use doorstep_server::keys;
use futures::future::try_join_all;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

use super::layout::{Home, Layout};
use super::server::Server;

/// Clients of the Access service, and sealed location ids of all homes.
pub struct Terminals {
    clients: Vec<AccessClient<Channel>>,
    next: AtomicUsize,
    sealed: Vec<String>,
}

/// Somebody with one session.
#[derive(Debug)]
pub struct Subscriber {
    pub credentials: pb::Credentials,
    pub session: Uuid,
    /// Where the session is, or is going to.
    pub gateway: AtomicU32,
}

/// What was asked for, and what the server has promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    pub session: Uuid,
    pub generation: u64,
}

impl Terminals {
    /// Seals all homes and opens the connections.
    pub async fn new(layout: Layout, server: &Server, connections: usize) -> Result<Self> {
        let opening = keys::current_opening_key(&server.config)?;
        let key = opening.sealing_key();
        let sealed = layout
            .homes()
            .map(|home| {
                key.seal(&home.location()?)
                    .context("cannot seal a location id")
            })
            .collect::<Result<_>>()?;
        let endpoint = Endpoint::from_shared(server.url())?
            .tls_config(server.tls()?)?
            .tcp_nodelay(true);
        let channels = try_join_all((0..connections).map(|_| endpoint.connect())).await?;
        Ok(Self {
            clients: channels.into_iter().map(AccessClient::new).collect(),
            next: AtomicUsize::new(0),
            sealed,
        })
    }

    fn client(&self) -> AccessClient<Channel> {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        self.clients[next % self.clients.len()].clone()
    }

    /// Makes the subscriber of this number known.
    pub async fn register(&self, number: u32) -> Result<pb::Credentials, Status> {
        let request = pb::RegisterRequest {
            phone: format!("139{number:08}"),
            id_card: String::new(),
            verification_code: String::new(),
        };
        let answer = self.client().register(request).await?.into_inner();
        answer
            .credentials
            .ok_or_else(|| Status::internal("an answer without credentials"))
    }

    /// A first session.
    pub async fn connect(
        &self,
        credentials: &pb::Credentials,
        home: Home,
    ) -> Result<Granted, Status> {
        let request = self.request(credentials, pb::AccessKind::Connect, home, Uuid::now_v7());
        self.ask(request).await
    }

    /// A move of the only session. The same `request` again gets the same answer.
    pub async fn move_to(
        &self,
        subscriber: &Subscriber,
        home: Home,
        request: Uuid,
    ) -> Result<Granted, Status> {
        let asked = self.request(&subscriber.credentials, pb::AccessKind::Move, home, request);
        self.ask(asked).await
    }

    fn request(
        &self,
        credentials: &pb::Credentials,
        kind: pb::AccessKind,
        home: Home,
        request: Uuid,
    ) -> pb::RequestAccessRequest {
        pb::RequestAccessRequest {
            credentials: Some(credentials.clone()),
            kind: kind.into(),
            sealed_location_id: self.sealed[home.index()].clone(),
            session_id: String::new(),
            request_id: request.to_string(),
            plan: String::new(),
        }
    }

    async fn ask(&self, request: pb::RequestAccessRequest) -> Result<Granted, Status> {
        let answer = self.client().request_access(request).await?.into_inner();
        let session = answer.session_id.parse();
        Ok(Granted {
            session: session.map_err(|_| Status::internal("a session id that is none"))?,
            generation: answer.generation,
        })
    }

    /// Watches a session until it is established in that generation, or a newer one.
    pub async fn until_established(
        &self,
        credentials: &pb::Credentials,
        granted: Granted,
    ) -> Result<(), Status> {
        let request = pb::WatchRequest {
            credentials: Some(credentials.clone()),
            session_id: granted.session.to_string(),
        };
        let mut states = self.client().watch(request).await?.into_inner();
        while let Some(status) = states.message().await? {
            if status.generation < granted.generation {
                continue;
            }
            match status.state() {
                pb::SessionState::Established => return Ok(()),
                pb::SessionState::Refused | pb::SessionState::Released => {
                    return Err(Status::aborted(status.detail));
                }
                _ => {}
            }
        }
        Err(Status::unavailable("the watch ended"))
    }
}
