//! `REASONS`: what became of each packet, by name.
//!
//! Every packet that a program sees is counted under exactly one reason, so that the counts add up
//! to all packets seen. Numbers are stable and never used again.

/// Entries of the `REASONS` map.
pub const MAX_REASONS: u32 = 128;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $text:literal;)+) => {
        /// What became of a packet.
        #[repr(u16)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name = $number,)+
        }

        impl Reason {
            /// Every reason, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The name in metrics, logs and commands.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// One sentence for people.
            pub const fn describe(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii(),)+ }
            }

            /// The reason of that number.
            pub const fn from_number(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$name),)+ _ => None }
            }
        }
    };
}

reasons! {
    /// Forwarded from a line to the operator's uplink by XDP.
    ForwardedUpstream = 1, "forwarded_upstream";
    /// Forwarded from an uplink to a line by XDP.
    ForwardedDownstream = 2, "forwarded_downstream";
    /// A subscriber's packet that only the kernel can treat: TTL expired, or too big for the uplink.
    KernelUpstream = 3, "kernel_upstream";
    /// A subscriber's packet that the kernel forwards, because the next hop is not resolved.
    KernelUnresolved = 4, "kernel_unresolved";
    /// A packet to a subscriber that only the kernel can treat: TTL expired, or too big for the line.
    KernelDownstream = 5, "kernel_downstream";
    /// From an uplink, not for a subscriber: the host's own.
    KernelHost = 6, "kernel_host";
    /// Sent by the kernel to a line, with tags and MAC addresses set by TC.
    EgressToLine = 7, "egress_to_line";
    /// An ARP request on a line, answered by XDP.
    ArpAnswered = 8, "arp_answered";
    /// A neighbour solicitation on a line, answered by XDP.
    NdAnswered = 9, "nd_answered";
    /// A reply of the establishment exchange, or a request for the garden, given to the daemon.
    PuntEstablish = 10, "punt_establish";

    /// Forwarded from a line to another line of the same operator.
    ForwardedHairpin = 11, "forwarded_hairpin";
    /// A packet to a subscriber that the kernel paces.
    KernelShaped = 12, "kernel_shaped";
    /// A subscriber's echo request for the gateway itself.
    KernelGateway = 13, "kernel_gateway";
    /// A message of a DHCP client, given to the daemon.
    PuntDhcp = 14, "punt_dhcp";
    /// A router solicitation on a line, given to the daemon.
    PuntSolicitation = 15, "punt_solicitation";
    /// A terminal that asks whether its session is alive, answered by XDP.
    ProbeAnswered = 16, "probe_answered";

    /// Shorter than its headers say.
    Truncated = 32, "truncated";
    /// More than two VLAN tags.
    TooManyTags = 33, "too_many_tags";
    /// An EtherType that is neither IPv4, IPv6 nor ARP.
    UnknownEtherType = 34, "unknown_ethertype";
    /// A malformed IPv4 header.
    BadIpv4 = 35, "bad_ipv4";
    /// A malformed IPv6 header.
    BadIpv6 = 36, "bad_ipv6";
    /// Not addressed to the gateway's MAC address.
    NotOurMac = 37, "not_our_mac";
    /// Multicast or broadcast that a line has no use for.
    Multicast = 38, "multicast";
    /// Tags that no line of the inventory has.
    UnknownLine = 39, "unknown_line";
    /// The line is blocked.
    BlockedLine = 40, "blocked_line";
    /// A source address that no session on this line has.
    SourceNotBound = 41, "source_not_bound";
    /// A source MAC address that is not the session's.
    MacNotBound = 42, "mac_not_bound";
    /// The operator of the session has no uplink.
    NoUplink = 43, "no_uplink";
    /// An ARP packet that is not answered: a probe, a gratuitous one, or for another's address.
    ArpIgnored = 44, "arp_ignored";
    /// A neighbour discovery packet that is not answered.
    NdIgnored = 45, "nd_ignored";
    /// The punt ring is full.
    PuntFull = 46, "punt_full";
    /// A frame too long for the punt ring.
    PuntTooLong = 47, "punt_too_long";
    /// The kernel refused to change the packet's size.
    ResizeFailed = 48, "resize_failed";
    /// Sent by the kernel to a line, for an address that no session has.
    EgressNotBound = 49, "egress_not_bound";
    /// Link-local traffic that is not for the gateway.
    LinkLocal = 50, "link_local";
    /// A destination that nobody on the internet has: loopback, unspecified or reserved.
    BadDestination = 51, "bad_destination";
    /// For the gateway's own address, and not an echo request.
    GatewayService = 52, "gateway_service";
    /// The driver has no room for the metadata that tells the kernel whose a packet is.
    NoMetadata = 53, "no_metadata";
    /// From the world, with a source that nobody on the internet has.
    BadSource = 54, "bad_source";
    /// A subscriber's packet for an address of this host.
    HostAddress = 55, "host_address";
    /// From a subscriber, above the session's rate.
    PolicedUpstream = 56, "policed_upstream";
    /// To a subscriber, above the session's rate.
    PolicedDownstream = 57, "policed_downstream";
    /// To a subscriber, too far behind the session's rate to be delayed any more.
    ShaperFull = 58, "shaper_full";
    /// For the daemon, from a line that has sent too many of its kind.
    PuntLimitedLine = 59, "punt_limited_line";
    /// For the daemon, when all lines together have sent too many.
    PuntLimitedAll = 60, "punt_limited_all";
    /// ARP or neighbour discovery from a line that asks too often.
    AnswerLimited = 61, "answer_limited";
    /// Through the garden, and not from or to one of the operator's servers in it, or a fragment.
    OutsideGarden = 62, "outside_garden";
    /// Sent by the kernel to a line that takes no packets so long.
    EgressTooBig = 63, "egress_too_big";
    /// A session whose slot the maps do not have.
    NoAccount = 64, "no_account";
    /// Asks whether a session is alive, and is not the terminal of one on this line.
    ProbeRefused = 65, "probe_refused";
}

impl Reason {
    /// The stable number.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// Whether packets with this reason were dropped.
    pub const fn is_drop(self) -> bool {
        self.number() >= 32
    }
}

const _: () = {
    let mut i = 0;
    while i < Reason::ALL.len() {
        assert!((Reason::ALL[i].number() as u32) < MAX_REASONS);
        i += 1;
    }
};
