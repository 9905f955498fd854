//! What is to be done with a packet.

use doorstep_gateway_common::{Direction, OperatorIndex, Reason, Slot};

use crate::headers::ether_type;

/// A session whose counters a packet goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    pub slot: Slot,
    pub direction: Direction,
    /// Bytes of IP.
    pub bytes: u32,
}

/// A VLAN tag to push.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PushTag {
    pub tpid: u16,
    /// 0: no tag.
    pub vid: u16,
}

/// The link layer that a packet leaves with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewLink {
    pub destination: [u8; 6],
    pub source: [u8; 6],
    pub outer: PushTag,
    pub inner: PushTag,
}

/// Which header follows the link layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const fn ether_type(self) -> u16 {
        match self {
            Self::V4 => ether_type::IPV4,
            Self::V6 => ether_type::IPV6,
        }
    }
}

/// Send it out of a port with another link layer and one hop less to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    pub reason: Reason,
    pub account: Account,
    pub family: Family,
    /// Bytes of the link layer that it came with.
    pub old_link_len: usize,
    pub link: NewLink,
    pub ifindex: u32,
}

/// Hand it to the kernel, marked as the operator's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToKernel {
    pub reason: Reason,
    pub operator: OperatorIndex,
    /// None where it counts later, when TC sends it.
    pub account: Option<Account>,
    pub family: Family,
    /// Bytes of the link layer to be replaced by a plain Ethernet header; none: as it is.
    pub strip: Option<usize>,
    /// Whether the kernel may take the packet for itself.
    pub for_host: bool,
}

/// What is to be done with a packet, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Drop(Reason),
    Forward(Forward),
    Kernel(ToKernel),
    /// To the kernel as it is.
    Host(Reason),
    /// Already made into its answer: back out of the port that it came from.
    Answer(Reason),
    /// To the daemon.
    Punt(Reason),
}

impl Verdict {
    /// The reason under which the packet counts.
    pub fn reason(&self) -> Reason {
        match *self {
            Self::Drop(reason) | Self::Host(reason) | Self::Answer(reason) | Self::Punt(reason) => {
                reason
            }
            Self::Forward(forward) => forward.reason,
            Self::Kernel(to_kernel) => to_kernel.reason,
        }
    }
}

impl From<Result<Self, Reason>> for Verdict {
    #[inline(always)]
    fn from(result: Result<Self, Reason>) -> Self {
        match result {
            Ok(verdict) => verdict,
            Err(reason) => Self::Drop(reason),
        }
    }
}
