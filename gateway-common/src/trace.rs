//! `TRACE`, `TRACE_FILTERS`: what becomes of the packets that somebody follows.

use crate::names::map;
use crate::{LineKey, OperatorIndex, Reason, Slot, shared};

/// Filters that may be set at one time.
pub const MAX_FILTERS: u32 = 8;

/// Bytes of the ring. What does not fit is counted, and not told of.
pub const RING_BYTES: u32 = 1 << 20;

/// Bytes of a packet that an event carries at most, from its Ethernet header on.
pub const SNAP: usize = 128;

/// Value of `TRACE_FILTERS`: which packets to follow. What has no bit in `flags` fits any.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceFilter {
    /// Bits of [`TraceFilter::ENABLED`] and its like.
    pub flags: u32,
    pub line: LineKey,
    /// Source or destination; IPv4 as in [`crate::garden::mapped`].
    pub address: [u8; 16],
    pub pad: u32,
}
shared!(TraceFilter, 32);

impl TraceFilter {
    pub const ENABLED: u32 = 1 << 0;
    pub const LINE: u32 = 1 << 1;
    pub const ADDRESS: u32 = 1 << 2;

    /// Packets from or to a line.
    pub const fn line(line: LineKey) -> Self {
        Self {
            flags: Self::ENABLED | Self::LINE,
            line,
            address: [0; 16],
            pad: 0,
        }
    }

    /// Packets from or to an address.
    pub const fn address(address: [u8; 16]) -> Self {
        Self {
            flags: Self::ENABLED | Self::ADDRESS,
            line: LineKey {
                ifindex: 0,
                s_vid: 0,
                c_vid: 0,
            },
            address,
            pad: 0,
        }
    }
}

macro_rules! numbered {
    ($(#[doc = $about:literal])+ $name:ident { $($(#[doc = $doc:literal])* $item:ident = $number:literal, $text:expr;)+ }) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[doc = $doc])* $item = $number,)+
        }

        impl $name {
            /// The one of that number.
            pub const fn from_number(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$item),)+ _ => None }
            }

            /// The name that people read.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$item => $text,)+ }
            }
        }
    };
}

numbered! {
    /// The program that saw a packet.
    Point {
        /// XDP, from a line.
        Access = 1, "access";
        /// XDP, from the world.
        Uplink = 2, "uplink";
        /// TC, from the kernel to a line.
        Egress = 3, "egress";
        /// TC, what XDP handed to the kernel.
        Ingress = 4, "ingress";
    }
}

numbered! {
    /// The map that had an entry for a packet.
    Entry {
        UpstreamV4 = 1, map::UPSTREAM_V4;
        UpstreamV6 = 2, map::UPSTREAM_V6;
        DownstreamV4 = 3, map::DOWNSTREAM_V4;
        DownstreamV6 = 4, map::DOWNSTREAM_V6;
        /// No session was found, or asked for.
        Line = 5, map::LINES;
        /// No home was found.
        Uplink = 6, map::UPLINKS;
    }
}

/// A record of `TRACE`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceEvent {
    /// In the clock of `bpf_ktime_get_ns`.
    pub at_ns: u64,
    /// Of the entry's session.
    pub generation: u64,
    /// The line that it came from or goes to; all zero: none is known.
    pub line: LineKey,
    /// Of a packet from one home to another, the other's line; all zero: it is none.
    pub other_line: LineKey,
    /// IPv4 as in [`crate::garden::mapped`]; all zero: neither IP nor ARP.
    pub source: [u8; 16],
    pub destination: [u8; 16],
    /// What an IPv6 entry's key has of the address.
    pub prefix_be: [u8; 8],
    /// The port that it was seen on.
    pub ifindex: u32,
    /// Of the entry's session; [`TraceEvent::NO_SLOT`]: it has none.
    pub slot: Slot,
    /// Bytes that the packet had.
    pub len: u32,
    /// A bit for each row of `TRACE_FILTERS` that it fits, the first row's lowest.
    pub filters: u32,
    pub operator: OperatorIndex,
    /// The entry's: of a session, see [`crate::flag`]; of a line, see [`crate::LineValue`].
    pub flags: u16,
    /// A [`crate::Reason`]'s number.
    pub reason: u16,
    /// A [`Point`]'s number.
    pub point: u16,
    /// An [`Entry`]'s number; 0: none was found.
    pub entry: u16,
    /// Bytes of `frame` that were filled.
    pub snapped: u16,
    pub pad: u32,
    /// The packet as it came, from its Ethernet header on.
    pub frame: [u8; SNAP],
}
shared!(TraceEvent, 232);

impl TraceEvent {
    pub const NO_SLOT: Slot = u32::MAX;

    /// Forgets all that is told of a packet but its bytes.
    #[inline(always)]
    pub fn clear(&mut self) {
        const NOWHERE: LineKey = LineKey {
            ifindex: 0,
            s_vid: 0,
            c_vid: 0,
        };
        self.generation = 0;
        self.line = NOWHERE;
        self.other_line = NOWHERE;
        self.source = [0; 16];
        self.destination = [0; 16];
        self.prefix_be = [0; 8];
        self.slot = Self::NO_SLOT;
        self.filters = 0;
        self.operator = 0;
        self.flags = 0;
        self.entry = 0;
        self.snapped = 0;
    }
}

/// Whether a packet's fate was decided before anything was looked up for it.
pub const fn needs_no_entry(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Truncated
            | Reason::TooManyTags
            | Reason::UnknownEtherType
            | Reason::BadIpv4
            | Reason::BadIpv6
            | Reason::NotOurMac
            | Reason::Multicast
            | Reason::ArpIgnored
            | Reason::LinkLocal
    )
}

/// `TRACE_SCRATCH`: where a CPU puts an event together, because the stack has no room for it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TraceScratch {
    /// Events for which the ring had no room.
    pub lost: u64,
    pub event: TraceEvent,
}
shared!(TraceScratch, 240);
