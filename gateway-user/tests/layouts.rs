//! The types in maps are laid out alike in the object, as its BTF says, and in the daemon.

use std::collections::BTreeMap;
use std::mem::offset_of;

use doorstep_gateway::dataplane::OBJECT;
use doorstep_gateway_common::account::{Account, Meter};
use doorstep_gateway_common::downstream::{
    DownstreamV4Key, DownstreamV6Key, DownstreamValue, WireTag,
};
use doorstep_gateway_common::garden::GardenKey;
use doorstep_gateway_common::globals::Globals;
use doorstep_gateway_common::limit::{LineUse, Pace};
use doorstep_gateway_common::liveness::Liveness;
use doorstep_gateway_common::meta::PassMeta;
use doorstep_gateway_common::operator::{OperatorValue, UplinkKey, UplinkValue};
use doorstep_gateway_common::policer::{Policer, Policers};
use doorstep_gateway_common::punt::PuntHeader;
use doorstep_gateway_common::trace::{TraceEvent, TraceFilter, TraceScratch};
use doorstep_gateway_common::upstream::{UpstreamV4Key, UpstreamV6Key, UpstreamValue};
use doorstep_gateway_common::{LineKey, LineValue};
use object::{Object as _, ObjectSection as _};

/// Size of a struct, and where each field begins, in bytes.
type Layout = (u32, BTreeMap<String, u32>);

/// The structs of a `.BTF` section (Documentation/bpf/btf.rst of Linux), by name.
fn structs(btf: &[u8]) -> BTreeMap<String, Layout> {
    const HEADER: usize = 24;
    const STRUCT: u32 = 4;
    let word = |at: usize| u32::from_le_bytes(btf[at..at + 4].try_into().expect("four bytes"));
    assert_eq!(word(0) & 0xffff, 0xeb9f, "the magic number");
    let [types, types_len, strings] =
        [8, 12, 16].map(|at| usize::try_from(word(at)).expect("in memory"));
    let text = |offset: u32| {
        let text = &btf[HEADER + strings + offset as usize..];
        let end = text.iter().position(|byte| *byte == 0).expect("an end");
        String::from_utf8_lossy(&text[..end]).into_owned()
    };
    let mut found = BTreeMap::new();
    let (mut at, end) = (HEADER + types, HEADER + types + types_len);
    while at < end {
        let (name, info, size) = (text(word(at)), word(at + 4), word(at + 8));
        let (kind, count) = (info >> 24 & 0x1f, info as usize & 0xffff);
        at += 12;
        if kind == STRUCT {
            let members = (0..count).map(|member| at + 12 * member);
            let fields = members.map(|at| (text(word(at)), word(at + 8) / 8));
            found.insert(name, (size, fields.collect()));
        }
        at += match kind {
            // INT, VAR, DECL_TAG
            1 | 14 | 17 => 4,
            // ARRAY
            3 => 12,
            // STRUCT, UNION, DATASEC, ENUM64
            4 | 5 | 15 | 19 => 12 * count,
            // ENUM, FUNC_PROTO
            6 | 13 => 8 * count,
            _ => 0,
        };
    }
    found
}

macro_rules! compare {
    ($structs:ident: $($name:ident { $($field:ident),* $(,)? })*) => {
        $(
            let fields = [$((stringify!($field).to_owned(), offset_of!($name, $field) as u32)),*];
            let here: Layout = (size_of::<$name>() as u32, BTreeMap::from(fields));
            let there = $structs.get(stringify!($name));
            assert_eq!(there, Some(&here), stringify!($name));
        )*
    };
}

#[test]
fn the_objects_are_those_of_the_daemon() {
    let file = object::File::parse(OBJECT).expect("an object");
    let btf = file.section_by_name(".BTF").expect("BTF");
    let structs = structs(btf.data().expect("its bytes"));
    compare! { structs:
        LineKey { ifindex, s_vid, c_vid }
        LineValue { location_hash, flags, pad }
        UpstreamV4Key { line, source_be }
        UpstreamV6Key { line, prefix_be }
        UpstreamValue { generation, mac, slot, operator, flags }
        DownstreamV4Key { operator, pad, destination_be }
        DownstreamV6Key { operator, pad, prefix_be }
        DownstreamValue {
            generation, mac, ifindex, slot, outer, inner, mtu, flags, pad
        }
        WireTag { tpid_be, tci_be }
        OperatorValue {
            ifindex, vid, flags, port_mac, next_hop_v4_mac, next_hop_v6_mac, gateway_v6_be,
            gateway_v4_be, mtu, pad
        }
        UplinkKey { ifindex, vid, pad }
        UplinkValue { port_mac, operator, pad }
        GardenKey { operator, port_be, protocol, address }
        Account { upstream, downstream }
        Meter { packets, bytes, policed, credit }
        Policers { upstream, downstream }
        Policer { spent_until_ns, rate }
        Liveness { key, line, heard }
        LineUse { punts, answers }
        Pace { every_ns, depth_ns }
        Globals {
            delegated_mask_be, gateway_mac, table_bits, delegated_len, default_operator, flags,
            punt_line, punt_all, answer_line
        }
        PassMeta { magic, operator, flags }
        PuntHeader { line, len, reason, pad }
        TraceFilter { flags, line, address, pad }
        TraceScratch { lost, event }
        TraceEvent {
            at_ns, generation, line, other_line, source, destination, prefix_be, ifindex, slot,
            len, filters, operator, flags, reason, point, entry, snapped, pad, frame
        }
    }
}
