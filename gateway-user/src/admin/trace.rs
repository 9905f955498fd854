//! Followed packets, as messages of the admin service.

use std::pin::Pin;
use std::time::UNIX_EPOCH;

use doorstep_gateway_common::trace::{Point, TraceEvent};
use doorstep_gateway_common::{LineKey, OperatorIndex, Reason};
use doorstep_proto::v1;
use doorstep_proto::v1::gateway_told::Told as Message;
use doorstep_proto::v1::gateway_trace_request::Target as Asked;
use futures::stream::{self, Stream, StreamExt as _};
use tonic::Status;

use super::Admin;
use crate::config::Config;
use crate::dataplane::{self, Packet, Port, Role, TraceError};
use crate::trace::{self, Frame, Names, Target};

/// What is told of packets.
pub type Told = Pin<Box<dyn Stream<Item = Result<v1::GatewayTold, Status>> + Send>>;

/// Follows what was asked for until the stream is dropped, or the daemon stops.
pub async fn follow(admin: &Admin, request: v1::GatewayTraceRequest) -> Result<Told, Status> {
    let target = match request.target {
        Some(Asked::Line(line)) => Target::Line(line),
        Some(Asked::LocationId(location)) => Target::Location(location),
        Some(Asked::Address(address)) => Target::Address(address),
        None => {
            return Err(Status::invalid_argument(
                "nothing is named that is to be followed",
            ));
        }
    };
    let host = Host::of(admin);
    let filter = target
        .filter(&host.access_ports(), &admin.inventory)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    let trace = admin.tracer.follow(filter).await.map_err(refused)?;
    let told = stream::unfold(trace, async |mut trace| Some((trace.next().await?, trace)));
    let told = told.map(move |told| {
        let told = match told {
            dataplane::Told::Packet(packet) => host.packet(&packet).map(Message::Packet),
            dataplane::Told::Lost(lost) => Some(Message::Lost(lost)),
        };
        Ok(v1::GatewayTold { told })
    });
    // Whoever follows ends it by going away.
    let end = stream::once(async { Err(Status::unavailable("the daemon has stopped")) });
    Ok(told.chain(end).boxed())
}

fn refused(error: TraceError) -> Status {
    match error {
        TraceError::TooMany => Status::resource_exhausted(error.to_string()),
        TraceError::Stopping => Status::unavailable(error.to_string()),
        TraceError::Dataplane(error) => {
            Status::internal(format!("the packets cannot be followed: {error}"))
        }
    }
}

/// The names of ports and operators.
pub(super) struct Host {
    pub(super) ports: Vec<Port>,
    config: Config,
}

impl Names for Host {
    fn port(&self, ifindex: u32) -> String {
        let port = self.ports.iter().find(|port| port.ifindex == ifindex);
        port.map_or_else(|| format!("#{ifindex}"), |port| port.name.clone())
    }

    fn operator(&self, index: OperatorIndex) -> String {
        let operator = self.config.operator(index);
        operator.map(|own| own.name.clone()).unwrap_or_default()
    }

    fn delegated_len(&self) -> u8 {
        self.config.delegated_prefix_len
    }
}

impl Host {
    pub(super) fn of(admin: &Admin) -> Self {
        Self {
            ports: admin.uplinks.ports(),
            config: admin.config.clone(),
        }
    }

    fn access_ports(&self) -> Vec<(String, u32)> {
        let ports = self.ports.iter();
        ports
            .filter(|port| port.role == Role::Access)
            .map(|port| (port.name.clone(), port.ifindex))
            .collect()
    }

    fn is_access(&self, ifindex: u32) -> bool {
        self.access_ports().iter().any(|port| port.1 == ifindex)
    }

    /// None if the programs know a reason that is not known here.
    pub(super) fn packet(&self, Packet { at, event }: &Packet) -> Option<v1::GatewayPacket> {
        let reason = Reason::from_number(event.reason)?;
        let frame = Frame::of(event);
        let at = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (source, destination) = trace::addresses(event).unzip();
        let point = Point::from_number(event.point);
        Some(v1::GatewayPacket {
            at_unix_ns: i64::try_from(at.as_nanos()).unwrap_or(i64::MAX),
            direction: trace::direction(event, |port| self.is_access(port)).to_owned(),
            point: point.map(Point::name).unwrap_or_default().to_owned(),
            port: self.port(event.ifindex),
            tags: frame
                .tags
                .iter()
                .map(|tag| v1::GatewayTag {
                    tpid: tag.tpid.into(),
                    vid: tag.vid.into(),
                    priority: tag.priority.into(),
                })
                .collect(),
            source: source.map(|it| it.to_string()).unwrap_or_default(),
            destination: destination.map(|it| it.to_string()).unwrap_or_default(),
            protocol: frame.protocol,
            ports: frame
                .ports
                .map(|(source, destination)| v1::GatewayPortPair {
                    source: source.into(),
                    destination: destination.into(),
                }),
            length: event.len,
            verdict: trace::verdict(reason).to_owned(),
            reason: reason.name().to_owned(),
            reason_number: reason.number().into(),
            line: match event.line {
                key if key == LineKey::default() => String::new(),
                key => self.line(key),
            },
            operator: self.operator(event.operator),
            entry: self.entry(event, reason),
        })
    }

    fn entry(&self, event: &TraceEvent, reason: Reason) -> Option<v1::GatewayEntry> {
        let used = trace::entry(event, reason, self)?;
        Some(v1::GatewayEntry {
            map: used.map.to_owned(),
            key: used.key,
            flags: used.flags.into_iter().map(str::to_owned).collect(),
            session: used
                .session
                .map(|(slot, generation)| v1::GatewayEntrySession { slot, generation }),
        })
    }
}
