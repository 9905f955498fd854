//! A server, its gateways, and its subscribers' terminals.

use anyhow::Result;

use super::database::{Database, Kind};
use super::fleet::Fleet;
use super::layout::Layout;
use super::server::Server;
use super::terminals::{Subscriber, Terminals};

/// All of it. What is first is ended first.
pub struct World {
    pub fleet: Fleet,
    pub terminals: Terminals,
    pub subscribers: Vec<Subscriber>,
    pub layout: Layout,
    pub server: Server,
}

/// What it is made of.
pub struct Plan<'a> {
    pub kind: Kind,
    pub postgres_settings: &'a [String],
    pub layout: Layout,
    /// Of terminals.
    pub connections: usize,
}

impl World {
    /// The server runs; no gateway has dialled, and there is no subscriber.
    pub async fn start(plan: &Plan<'_>) -> Result<Self> {
        let database = Database::start(plan.kind, plan.postgres_settings)?;
        let server = Server::start(plan.layout, database).await?;
        let terminals = Terminals::new(plan.layout, &server, plan.connections).await?;
        Ok(Self {
            fleet: Fleet::new(plan.layout, &server)?,
            terminals,
            subscribers: Vec::new(),
            layout: plan.layout,
            server,
        })
    }
}
