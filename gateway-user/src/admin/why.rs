//! What would become of packets, as messages of the admin service.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::SystemTime;

use doorstep_gateway_common::trace::TraceEvent;
use doorstep_gateway_common::{LineKey, Reason, Slot};
use doorstep_proto::v1;
use tonic::Status;

use super::brief::brief;
use super::trace::Host;
use super::{Admin, Query};
use crate::capture::MAX_PACKETS;
use crate::dataplane::{ExamineError, Examined, FRAME_BYTES, Packet, Port, Role};
use crate::engine::row::SessionRef;
use crate::inventory::Inventory;

pub(super) async fn why(
    admin: &Admin,
    request: v1::GatewayWhyRequest,
) -> Result<v1::GatewayFates, Status> {
    let v1::GatewayWhyRequest { port, frames } = request;
    check(&frames).map_err(Status::invalid_argument)?;
    let host = Host::of(admin);
    let port = entrance(&host.ports, &port)
        .map_err(Status::invalid_argument)?
        .clone();
    let name = port.name.clone();
    let examined = admin.examiner.examine(port, frames).await;
    let examined = examined.map_err(refused)?;
    let slots = examined.iter().filter_map(slot).collect::<BTreeSet<_>>();
    let holders = admin.ask(|reply| Query::Holders(slots, reply)).await?;
    let locations = locations(&admin.inventory, &examined);
    let fates = examined
        .iter()
        .map(|one| fate(&host, one, &holders, &locations))
        .collect::<Option<_>>()
        .ok_or_else(|| Status::internal("the programs know a reason that is not known here"))?;
    Ok(v1::GatewayFates { port: name, fates })
}

fn check(frames: &[Vec<u8>]) -> Result<(), String> {
    if frames.is_empty() {
        return Err("there is no packet".to_owned());
    }
    if frames.len() > MAX_PACKETS {
        return Err(format!("there are more than {MAX_PACKETS} packets"));
    }
    let strange = frames
        .iter()
        .position(|frame| !FRAME_BYTES.contains(&frame.len()));
    match strange {
        None => Ok(()),
        Some(at) => Err(format!(
            "packet {} has {} bytes; the kernel takes {} to {}, from the Ethernet header on",
            at + 1,
            frames[at].len(),
            FRAME_BYTES.start(),
            FRAME_BYTES.end()
        )),
    }
}

/// The port with this name; without one, the only access port.
fn entrance<'p>(ports: &'p [Port], name: &str) -> Result<&'p Port, String> {
    let list = |ports: &mut dyn Iterator<Item = &Port>| {
        let names: Vec<_> = ports.map(|port| port.name.as_str()).collect();
        names.join(", ")
    };
    let is_access = |port: &&Port| port.role == Role::Access;
    if name.is_empty() {
        let mut access = ports.iter().filter(is_access);
        return match (access.next(), access.next()) {
            (Some(only), None) => Ok(only),
            _ => Err(format!(
                "which port do the packets come in by? there are {}",
                list(&mut ports.iter())
            )),
        };
    }
    ports.iter().find(|port| port.name == name).ok_or_else(|| {
        format!(
            "'{name}' is not a port of this gateway; there are {}",
            list(&mut ports.iter())
        )
    })
}

fn refused(error: ExamineError) -> Status {
    match error {
        ExamineError::Stopping => Status::unavailable(error.to_string()),
        ExamineError::Dataplane(_) | ExamineError::Refused { .. } => {
            Status::failed_precondition(brief(&error.to_string()))
        }
        ExamineError::NoAction { .. } | ExamineError::NotTold { .. } => {
            Status::internal(error.to_string())
        }
    }
}

/// The slot of the session that had the entry.
fn slot(examined: &Examined) -> Option<Slot> {
    let slot = examined.event.slot;
    (slot != TraceEvent::NO_SLOT).then_some(slot)
}

/// The locations of the lines that were found, in one pass over the inventory.
fn locations(inventory: &Inventory, examined: &[Examined]) -> HashMap<LineKey, String> {
    let wanted: HashSet<_> = examined.iter().map(|one| one.event.line).collect();
    inventory
        .iter()
        .filter(|(_, line)| wanted.contains(&line.key))
        .map(|(location, line)| (line.key, location.to_string()))
        .collect()
}

/// None if the programs know a reason that is not known here.
fn fate(
    host: &Host,
    examined: &Examined,
    holders: &BTreeMap<Slot, SessionRef>,
    locations: &HashMap<LineKey, String>,
) -> Option<v1::GatewayFate> {
    let event = examined.event;
    let reason = Reason::from_number(event.reason)?;
    let at = SystemTime::now();
    let packet = host.packet(&Packet { at, event })?;
    // A packet whose fate needed no entry is nobody's.
    let is_a_sessions = packet
        .entry
        .as_ref()
        .is_some_and(|entry| entry.session.is_some());
    let holder = slot(examined)
        .filter(|_| is_a_sessions)
        .and_then(|slot| holders.get(&slot));
    Some(v1::GatewayFate {
        action: examined.action.name().to_owned(),
        packet: Some(packet),
        description: reason.describe().to_owned(),
        location_id: locations.get(&event.line).cloned().unwrap_or_default(),
        session_id: holder
            .map(|held| held.session.to_string())
            .unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use doorstep_establish::Mac;

    use super::*;
    use crate::dataplane::State;

    fn port(name: &str, role: Role) -> Port {
        Port {
            name: name.to_owned(),
            ifindex: 7,
            mac: Mac([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            role,
            shaper: false,
            xdp_mode: "native",
            state: State::Up,
        }
    }

    #[test]
    fn the_only_access_port_need_not_be_named() {
        let uplink = port("uplink0", Role::Uplink);
        let one = [uplink.clone(), port("access0", Role::Access)];
        let two = [&one[..], &[port("access1", Role::Access)]].concat();
        let found = |ports, name| entrance(ports, name).map(|port| port.name.clone());
        assert_eq!(found(&one, ""), Ok("access0".to_owned()));
        assert_eq!(found(&one, "uplink0"), Ok("uplink0".to_owned()));
        assert_eq!(found(&two, "access1"), Ok("access1".to_owned()));
        let said = found(&two, "").expect_err("which");
        assert!(said.contains("uplink0, access0, access1"), "{said}");
        let said = found(&one, "eth7").expect_err("no such port");
        assert!(
            said.contains("'eth7'") && said.contains("access0"),
            "{said}"
        );
        assert!(found(&[uplink], "").is_err());
    }

    #[test]
    fn frames_that_the_kernel_would_not_take_are_refused_before() {
        let (least, most) = (*FRAME_BYTES.start(), *FRAME_BYTES.end());
        assert_eq!(check(&[vec![0; least], vec![0; most]]), Ok(()));
        assert_eq!(check(&vec![vec![0; 60]; MAX_PACKETS]), Ok(()));
        for (frames, expected) in [
            (vec![], "no packet"),
            (vec![vec![0; 60]; MAX_PACKETS + 1], "more than 1000"),
            (
                vec![vec![0; 60], vec![0; least - 1]],
                "packet 2 has 13 bytes",
            ),
            (vec![vec![0; most + 1]], "packet 1 has 3501 bytes"),
        ] {
            let said = check(&frames).expect_err(expected);
            assert!(said.contains(expected), "{said}");
        }
    }
}
