//! What is to be done with a packet.

use doorstep_gateway_common::{OperatorIndex, Reason, Slot};

use crate::headers::ether_type;

/// A session that a packet still has to be counted for, upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    pub slot: Slot,
    /// Bytes of IP.
    pub bytes: u32,
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

/// Hand it to the kernel, marked as the operator's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToKernel {
    pub reason: Reason,
    pub operator: OperatorIndex,
    /// Whether the kernel may take the packet for itself.
    pub for_host: bool,
    /// None where it counts later, when TC sends it.
    pub due: Option<Due>,
}

/// What is to be done with a packet, and why. The packet itself has been changed as it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Drop(Reason),
    /// Out of the port of that index. It has been counted for its session.
    Forward(Reason, u32),
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
    #[inline(always)]
    pub fn reason(&self) -> Reason {
        match *self {
            Self::Drop(reason)
            | Self::Host(reason)
            | Self::Answer(reason)
            | Self::Punt(reason)
            | Self::Forward(reason, _) => reason,
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
