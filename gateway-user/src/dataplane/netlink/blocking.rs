//! Requests from a thread that has no runtime.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::TimeVal;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::{message, socket};
use crate::dataplane::DataplaneError;
use crate::dataplane::host::Route;

/// Longer than the kernel takes for one route, however busy it is.
const PATIENCE_S: i64 = 10;

/// A request socket whose calls return when the kernel has answered.
pub(in crate::dataplane) struct Requests {
    socket: Socket,
    sequence: u32,
}

impl Requests {
    pub(in crate::dataplane) fn open() -> Result<Self, DataplaneError> {
        Self::new().map_err(socket)
    }

    fn new() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // SAFETY: the descriptor is the socket's, which outlives the call.
        let fd = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
        setsockopt(&fd, ReceiveTimeout, &TimeVal::new(PATIENCE_S, 0))?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Adds a route that takes packets up to so many bytes, or puts it in the place of the one
    /// that is there, at once.
    pub(in crate::dataplane) fn replace_route(
        &mut self,
        route: &Route,
        mtu: u16,
    ) -> Result<(), DataplaneError> {
        let message = RouteNetlinkMessage::NewRoute(message::route_with_mtu(route, mtu));
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        self.request(message, flags)
            .map_err(|source| DataplaneError::Kernel {
                what: format!(
                    "cannot set the MTU of the route to {} in table {} to {mtu}",
                    route.prefix, route.table
                ),
                source,
            })
    }

    fn request(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&bytes)
                .map_err(io::Error::other)?;
            // An answer that came too late for the request before.
            if answer.header.sequence_number != self.sequence {
                continue;
            }
            if let NetlinkPayload::Error(error) = answer.payload {
                return match error.code {
                    None => Ok(()),
                    Some(_) => Err(error.to_io()),
                };
            }
        }
    }
}
