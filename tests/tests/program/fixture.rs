//! One gateway with three lines: untagged, one tag, two tags; a session on each, one operator.

use doorstep_establish::{Mac, TPID_8021AD, TPID_8021Q, Tag, Tags};
use doorstep_gateway::plan;
use doorstep_gateway::session::{Line, Service, SessionEntry};
use doorstep_gateway_common::garden::{self, GardenKey};
use doorstep_gateway_common::globals::Globals;
use doorstep_gateway_common::operator::{OperatorValue, UplinkKey, UplinkValue};
use doorstep_gateway_common::{LineKey, LineValue, flag};
use doorstep_tests::frames::{
    Ether, GATEWAY_MAC, GATEWAY_V4, HOME_MAC, HOME_V4, HOME_V6, NEXT_HOP_MAC, UPLINK_MAC,
};
use doorstep_tests::model::Model;
use doorstep_tests::programs::{IFINDEX, MAX_SESSIONS};
use ipnet::Ipv6Net;

pub const OPERATOR: u16 = 1;
pub const DELEGATED_LEN: u8 = 56;

/// A line of the fixture and the session on it.
#[derive(Clone, Copy, Debug)]
pub struct Home {
    pub name: &'static str,
    pub tags: &'static [(u16, u16)],
    pub slot: u32,
    pub v4: [u8; 4],
    pub v6: [u8; 16],
}

/// One home for each number of tags.
pub fn homes() -> [Home; 3] {
    let v4 = |last| [HOME_V4[0], HOME_V4[1], HOME_V4[2], last];
    let v6 = |site| {
        let mut address = HOME_V6;
        address[6] = site;
        address
    };
    [
        Home {
            name: "untagged",
            tags: &[],
            slot: 3,
            v4: v4(10),
            v6: v6(1),
        },
        Home {
            name: "one tag",
            tags: &[(TPID_8021Q, 300)],
            slot: 4,
            v4: v4(11),
            v6: v6(2),
        },
        Home {
            name: "two tags",
            tags: &[(TPID_8021AD, 101), (TPID_8021Q, 1004)],
            slot: 5,
            v4: v4(12),
            v6: v6(3),
        },
    ]
}

/// A line that the inventory has, but that is blocked.
pub const BLOCKED_TAGS: &[(u16, u16)] = &[(TPID_8021Q, 666)];

impl Home {
    pub fn line(&self) -> LineKey {
        line(self.tags)
    }

    /// An address in the /64 of the line's own.
    pub fn line_v6(&self) -> [u8; 16] {
        let mut address = self.v6;
        [address[5], address[7]] = [0xf0, 0x41];
        address
    }

    /// From the home to the gateway.
    pub fn up(&self) -> Ether<'static> {
        Ether {
            source: HOME_MAC,
            destination: GATEWAY_MAC,
            tags: self.tags,
        }
    }

    fn entry(&self) -> SessionEntry {
        let tags: Vec<Tag> = self
            .tags
            .iter()
            .map(|&(tpid, vid)| Tag { tpid, vid })
            .collect();
        SessionEntry {
            session: uuid::Uuid::from_u128(u128::from(self.slot)),
            generation: 7,
            slot: self.slot,
            operator: OPERATOR,
            line: Line {
                key: self.line(),
                port: "access0".to_owned(),
                tags: Tags::try_from(tags).expect("at most two tags"),
            },
            mac: Mac(HOME_MAC),
            ipv4: Some(self.v4.into()),
            ipv6: Some(
                Ipv6Net::new(self.v6.into(), DELEGATED_LEN)
                    .expect("a length")
                    .trunc(),
            ),
            ipv6_line: Some(
                Ipv6Net::new(self.line_v6().into(), 64)
                    .expect("a length")
                    .trunc(),
            ),
            mtu: 1500,
            service: Service::default(),
            shaper: true,
            flags: 0,
        }
    }
}

fn line(tags: &[(u16, u16)]) -> LineKey {
    let (s_vid, c_vid) = match tags {
        [] => (0, 0),
        [(_, c)] => (0, *c),
        [(_, s), (_, c), ..] => (*s, *c),
    };
    LineKey {
        ifindex: IFINDEX,
        s_vid,
        c_vid,
    }
}

/// A line without a session, with a lease of the garden.
pub const GARDEN_HOME: Home = Home {
    name: "garden",
    tags: &[(TPID_8021AD, 101), (TPID_8021Q, 1005)],
    slot: garden::slot(MAX_SESSIONS, 0),
    v4: [100, 127, 0, 9],
    // Its whole prefix is a /64 of a prefix of the delegated length.
    v6: [0xfd, 0, 0, 0, 0, 9, 0, 0x41, 0, 0, 0, 0, 0, 0, 0, 1],
};

/// The operator's server.
pub const SERVER_V4: [u8; 4] = [198, 51, 100, 9];
pub const SERVER_V6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
/// Its port, for TCP.
pub const SERVER_PORT: u16 = 7443;

/// The gateway with a garden: [`GARDEN_HOME`] reaches the server.
pub fn model_with_garden() -> Model {
    let mut model = model();
    let lease = SessionEntry {
        generation: 0,
        ipv6: Ipv6Net::new(GARDEN_HOME.v6.into(), 64).ok(),
        ipv6_line: None,
        flags: flag::GARDEN,
        ..GARDEN_HOME.entry()
    };
    model.sessions.extend(&plan::Tables::of([&lease]));
    model.lines.insert(GARDEN_HOME.line(), LineValue::default());
    for address in [garden::mapped(SERVER_V4), SERVER_V6] {
        let key = GardenKey {
            operator: OPERATOR,
            port_be: SERVER_PORT.to_be(),
            protocol: 6,
            address,
        };
        model.garden.insert(key, 1);
    }
    model
}

/// From the world to the gateway.
pub const FROM_WORLD: Ether<'static> = Ether {
    source: NEXT_HOP_MAC,
    destination: UPLINK_MAC,
    tags: &[],
};

/// The maps of this gateway.
pub fn model() -> Model {
    let entries: Vec<SessionEntry> = homes().iter().map(Home::entry).collect();
    let mut model = Model {
        globals: Globals {
            gateway_mac: GATEWAY_MAC.into(),
            default_operator: OPERATOR,
            ..Globals::layout(DELEGATED_LEN, MAX_SESSIONS)
        },
        sessions: plan::Tables::of(&entries),
        ..Model::default()
    };
    for home in homes() {
        model.lines.insert(home.line(), LineValue::default());
    }
    let blocked = LineValue {
        flags: LineValue::BLOCKED,
        ..LineValue::default()
    };
    model.lines.insert(line(BLOCKED_TAGS), blocked);
    model.operators.insert(
        OPERATOR,
        OperatorValue {
            ifindex: 9,
            flags: OperatorValue::NEXT_HOP_V4 | OperatorValue::NEXT_HOP_V6,
            port_mac: UPLINK_MAC.into(),
            next_hop_v4_mac: NEXT_HOP_MAC.into(),
            next_hop_v6_mac: NEXT_HOP_MAC.into(),
            mtu: 1500,
            gateway_v4_be: GATEWAY_V4,
            ..OperatorValue::default()
        },
    );
    model.uplinks.insert(
        UplinkKey {
            ifindex: IFINDEX,
            vid: 0,
            pad: 0,
        },
        UplinkValue {
            port_mac: UPLINK_MAC.into(),
            operator: OPERATOR,
            pad: [0; 3],
        },
    );
    model
}

/// Makes all sessions special in the ways of [`doorstep_gateway_common::flag`].
pub fn flag_sessions(model: &mut Model, flags: u16) {
    let sessions = &mut model.sessions;
    let v4 = sessions.upstream_v4.values_mut();
    for session in v4.chain(sessions.upstream_v6.values_mut()) {
        session.flags |= flags;
    }
    let v4 = sessions.downstream_v4.values_mut();
    for home in v4.chain(sessions.downstream_v6.values_mut()) {
        home.flags |= flags;
    }
}
