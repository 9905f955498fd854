//! Frames that the daemon itself sends to lines.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use super::DataplaneError;

/// Sends whole frames, tags included, out of a port.
///
/// The frames bypass the port's queues and with them the TC program, which would take them for
/// packets of the kernel.
#[derive(Clone)]
pub struct Injector {
    socket: Arc<OwnedFd>,
}

impl Injector {
    pub fn open() -> Result<Self, DataplaneError> {
        Self::socket()
            .map(|socket| Self {
                socket: Arc::new(socket),
            })
            .map_err(|source| DataplaneError::Kernel {
                what: "cannot open a packet socket (it takes CAP_NET_RAW)".to_owned(),
                source,
            })
    }

    fn socket() -> io::Result<OwnedFd> {
        // Protocol 0: nothing is ever received.
        // SAFETY: a system call without pointers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, and owned by nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let on: libc::c_int = 1;
        // SAFETY: the option's value is an int, and outlives the call.
        let refused = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_QDISC_BYPASS,
                (&raw const on).cast(),
                size_of_val(&on) as libc::socklen_t,
            )
        };
        if refused == 0 {
            Ok(socket)
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Sends a frame out of a port, without waiting.
    pub fn send(&self, ifindex: u32, frame: &[u8]) -> io::Result<()> {
        // SAFETY: all zero is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = ifindex as i32;
        // SAFETY: frame and address are valid for the lengths given, for the time of the call.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                libc::MSG_DONTWAIT,
                (&raw const address).cast(),
                size_of_val(&address) as libc::socklen_t,
            )
        };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}
