//! The queueing discipline at the root of a port, and `fq` in its place.
//!
//! The programs write into each packet of a shaped session when it may leave; `fq` holds it until
//! then. Frames that XDP redirects pass it by.

use futures::StreamExt as _;
use rtnetlink::packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};
use rtnetlink::{Error, Handle};

use super::{ABSENT, Netlink, dump, failed, ignore};
use crate::dataplane::DataplaneError;

const KIND: &str = "fq";

/// Tells the gateway's own from one that somebody has set up.
const HANDLE: TcHandle = TcHandle {
    major: 0xd005,
    minor: 0,
};

/// Packets that may wait, of all sessions. How many bytes of each may, the programs bound by time.
const LIMIT: u32 = 100_000;
/// Packets that may wait of what `fq` takes for one flow: a tenth of a second at 10 Gbit/s.
const FLOW_LIMIT: u32 = 80_000;

// linux/pkt_sched.h
const TCA_FQ_PLIMIT: u16 = 1;
const TCA_FQ_FLOW_PLIMIT: u16 = 2;

/// What stands at the root of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::dataplane) enum Root {
    /// What the kernel gives a port by itself.
    Default,
    /// `fq`, set up by the gateway.
    OwnFq,
    /// `fq`, set up by somebody else.
    ForeignFq,
    /// Something else, set up by somebody else.
    Foreign(String),
}

impl Root {
    /// Whether packets leave at the time that they carry.
    pub(in crate::dataplane) fn holds_packets(&self) -> bool {
        matches!(self, Self::OwnFq | Self::ForeignFq)
    }

    fn of(message: &TcMessage) -> Option<Self> {
        if message.header.parent != TcHandle::ROOT {
            return None;
        }
        let kind = message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                TcAttribute::Kind(kind) => Some(kind.as_str()),
                _ => None,
            })?;
        Some(match (message.header.handle, kind) {
            (HANDLE, KIND) => Self::OwnFq,
            // Whoever sets one up has the kernel give it a handle.
            (TcHandle { major: 0, .. }, _) => Self::Default,
            (_, KIND) => Self::ForeignFq,
            (_, other) => Self::Foreign(other.to_owned()),
        })
    }
}

impl Netlink {
    pub(in crate::dataplane) async fn root(&self, ifindex: u32) -> Result<Root, DataplaneError> {
        let ifindex = ifindex as i32;
        let what = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::with_index(ifindex));
        let rows = dump::dump(&self.handle, what)
            .await
            .map_err(failed(format!("cannot list the qdiscs of link {ifindex}")))?;
        // The kernel lists those of every link.
        let root = rows.iter().find_map(|row| match row {
            RouteNetlinkMessage::NewQueueDiscipline(row) if row.header.index == ifindex => {
                Root::of(row)
            }
            _ => None,
        });
        Ok(root.unwrap_or(Root::Default))
    }

    /// Puts `fq` at the root of a link.
    pub(in crate::dataplane) async fn set_fq(&self, ifindex: u32) -> Result<(), DataplaneError> {
        let word =
            |kind, value: u32| TcOption::Other(DefaultNla::new(kind, value.to_ne_bytes().to_vec()));
        let mut message = TcMessage::with_index(ifindex as i32);
        message.header.parent = TcHandle::ROOT;
        message.header.handle = HANDLE;
        message.attributes.extend([
            TcAttribute::Kind(KIND.to_owned()),
            TcAttribute::Options(vec![
                word(TCA_FQ_PLIMIT, LIMIT),
                word(TCA_FQ_FLOW_PLIMIT, FLOW_LIMIT),
            ]),
        ]);
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewQueueDiscipline(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        acknowledged(&self.handle, request)
            .await
            .map_err(failed(format!(
                "cannot put fq at the root of link {ifindex}"
            )))
    }

    /// Has the kernel put back at the root what it gives a port by itself.
    pub(in crate::dataplane) async fn remove_root(
        &self,
        ifindex: u32,
    ) -> Result<(), DataplaneError> {
        let mut request = self.handle.qdisc().del(ifindex as i32);
        request.message_mut().header.parent = TcHandle::ROOT;
        let what = format!("cannot take the qdisc off the root of link {ifindex}");
        ignore(ABSENT, request.execute().await, what)
    }
}

async fn acknowledged(
    handle: &Handle,
    request: NetlinkMessage<RouteNetlinkMessage>,
) -> Result<(), Error> {
    let mut answer = handle.clone().request(request)?;
    while let Some(message) = answer.next().await {
        if let NetlinkPayload::Error(error) = message.payload {
            return match error.code {
                None => Ok(()),
                Some(_) => Err(Error::NetlinkError(error)),
            };
        }
    }
    Err(Error::RequestFailed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_whose_root_it_is() {
        let root = |major, parent, kind: &str| {
            let mut message = TcMessage::default();
            message.header.handle = TcHandle { major, minor: 0 };
            message.header.parent = parent;
            message.attributes.push(TcAttribute::Kind(kind.to_owned()));
            Root::of(&message)
        };
        for (major, parent, kind, expected) in [
            (0, TcHandle::ROOT, "noqueue", Some(Root::Default)),
            (0, TcHandle::ROOT, "fq", Some(Root::Default)),
            (0xd005, TcHandle::ROOT, "fq", Some(Root::OwnFq)),
            (0x8001, TcHandle::ROOT, "fq", Some(Root::ForeignFq)),
            (
                1,
                TcHandle::ROOT,
                "htb",
                Some(Root::Foreign("htb".to_owned())),
            ),
            (
                0xd005,
                TcHandle::ROOT,
                "htb",
                Some(Root::Foreign("htb".to_owned())),
            ),
            (0xffff, TcHandle::INGRESS, "clsact", None),
        ] {
            assert_eq!(root(major, parent, kind), expected, "{major:x} {kind}");
        }
    }
}
