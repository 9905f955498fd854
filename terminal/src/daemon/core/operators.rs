//! The operators that the home knows: each has a server of its own, and what it gave at registration.

use std::collections::BTreeMap;

use doorstep_proto::v1 as pb;
use tokio::time::Instant;
use tonic::Status;

use super::{Core, to_proto};
use crate::config;
use crate::daemon::session::Session;
use crate::server::{Server, ServerError};
use crate::state::Credentials;

/// One operator. What is not in the configuration any more is kept: its sessions go on as far as
/// they can without its server.
#[derive(Debug, Default)]
pub(super) struct Operator {
    pub client: Option<Client>,
    pub credentials: Option<Credentials>,
}

/// The way to its server.
#[derive(Debug)]
pub(in crate::daemon) struct Client {
    pub server: Server,
    pub url: String,
}

pub(in crate::daemon) type Clients = BTreeMap<String, Client>;

/// A client of each configured operator's server; connects when it is first asked.
pub(in crate::daemon) fn clients(
    operators: &BTreeMap<String, config::Server>,
) -> Result<Clients, ServerError> {
    let client = |(name, config): (&String, &config::Server)| {
        let client = Client {
            server: Server::new(config)?,
            url: config.url.clone(),
        };
        Ok((name.clone(), client))
    };
    operators.iter().map(client).collect()
}

/// The configured operators, and those that only the state knows.
pub(super) fn known(
    clients: Clients,
    credentials: BTreeMap<String, Credentials>,
) -> BTreeMap<String, Operator> {
    let mut operators: BTreeMap<String, Operator> = BTreeMap::new();
    for (name, client) in clients {
        operators.entry(name).or_default().client = Some(client);
    }
    for (name, credentials) in credentials {
        operators.entry(name).or_default().credentials = Some(credentials);
    }
    operators
}

impl Operator {
    /// The server, with what it knows the home by.
    pub(super) fn account(&self, name: &str) -> Result<(Server, pb::Credentials), Status> {
        let server = self.server(name)?.clone();
        let Some(credentials) = &self.credentials else {
            return Err(Status::failed_precondition(format!(
                "not registered at operator {name}; run `doorstep-terminal register` first"
            )));
        };
        Ok((server, to_proto(credentials)))
    }

    pub(super) fn server(&self, name: &str) -> Result<&Server, Status> {
        let client = self.client.as_ref().map(|client| &client.server);
        client.ok_or_else(|| Status::failed_precondition(unknown(name)))
    }
}

fn unknown(name: &str) -> String {
    format!("operator {name} is not in the configuration")
}

impl Core {
    /// The operator of that name; the only one, where none is named.
    pub(super) fn operator_named(&self, name: &str) -> Result<(&str, &Operator), Status> {
        let found = self.operators.get_key_value(name);
        let configured = || {
            let of = self.operators.iter().filter(|(_, o)| o.client.is_some());
            of.map(|(name, operator)| (name.as_str(), operator))
        };
        let names = || configured().map(|(name, _)| name).collect::<Vec<_>>();
        if !name.is_empty() {
            return found
                .map(|(name, operator)| (name.as_str(), operator))
                .ok_or_else(|| {
                    let names = names().join(", ");
                    Status::not_found(format!("{}; there is {names}", unknown(name)))
                });
        }
        let mut all = configured();
        match (all.next(), all.next()) {
            (Some(only), None) => Ok(only),
            _ => Err(Status::invalid_argument(format!(
                "there are several operators; name one with --operator ({})",
                names().join(", ")
            ))),
        }
    }

    /// Something is asked of the operator's server: if no session shows that it is reached, there
    /// may be no way to it but through the garden.
    pub(super) fn want(&mut self, operator: &str) {
        let mut sessions = self.sessions.values();
        let is_reached = |s: &Session| s.saved.operator == operator && s.followed.is_ok();
        if !sessions.any(is_reached) {
            self.garden.server_wanted(operator, Instant::now());
        }
    }

    /// What was connected over the former links would notice only after its keepalive.
    pub(super) fn renew_connections(&self) {
        let clients = self.operators.values().filter_map(|o| o.client.as_ref());
        clients.for_each(|client| client.server.renew());
    }

    pub(super) fn operator_views(&self) -> Vec<pb::TerminalOperator> {
        let view = |(name, operator): (&String, &Operator)| {
            let sessions = || self.sessions.values().filter(|s| s.saved.operator == *name);
            let lost = sessions().find_map(|session| session.followed.as_ref().err());
            let credentials = operator.credentials.as_ref();
            let (url, detail) = match &operator.client {
                Some(client) => (client.url.clone(), lost.cloned().unwrap_or_default()),
                None => (String::new(), unknown(name)),
            };
            pb::TerminalOperator {
                name: name.clone(),
                url,
                connected: sessions().next().is_some() && detail.is_empty(),
                detail,
                subscriber_id: credentials
                    .map(|own| own.subscriber_id.clone())
                    .unwrap_or_default(),
            }
        };
        self.operators.iter().map(view).collect()
    }
}
