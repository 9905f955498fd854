//! The homes' port, frame by frame.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use anyhow::{Context as _, Result};
use doorstep_tests::lab::packet;

/// Bytes of the socket's queue: more than all answers that may be under way.
const QUEUE_BYTES: libc::c_int = 16 << 20;
const LONGEST: usize = 2048;

/// A packet socket of one link. Frames go out whole; of those that come in the kernel keeps the
/// outer tag to itself.
pub struct Wire {
    socket: OwnedFd,
    frame: Vec<u8>,
}

impl Wire {
    /// In the network namespace of the calling thread.
    pub fn open(ifindex: u32) -> Result<Self> {
        let socket = open(ifindex).context("cannot open a packet socket")?;
        Ok(Self {
            socket,
            frame: vec![0; LONGEST],
        })
    }

    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: the frame is valid for its length, for the time of the call.
        let sent = unsafe {
            libc::send(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
            )
        };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// The next frame, if there is one already.
    pub fn receive(&mut self) -> io::Result<Option<&[u8]>> {
        // SAFETY: the buffer is valid for its length, for the time of the call.
        let len = unsafe {
            libc::recv(
                self.socket.as_raw_fd(),
                self.frame.as_mut_ptr().cast(),
                self.frame.len(),
                libc::MSG_DONTWAIT,
            )
        };
        match usize::try_from(len) {
            Ok(len) => Ok(Some(&self.frame[..len])),
            Err(_) => {
                let error = io::Error::last_os_error();
                match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                    _ => Err(error),
                }
            }
        }
    }

    /// Waits for a frame, at most for so long.
    pub fn wait(&self, longest: Duration) -> io::Result<()> {
        let mut wanted = libc::pollfd {
            fd: self.socket.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let longest = libc::timespec {
            tv_sec: longest.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: longest.subsec_nanos().into(),
        };
        // SAFETY: both values live for the time of the call.
        let ready = unsafe {
            libc::ppoll(
                &raw mut wanted,
                1,
                &raw const longest,
                std::ptr::null::<libc::sigset_t>(),
            )
        };
        if ready < 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        Ok(())
    }
}

fn open(ifindex: u32) -> io::Result<OwnedFd> {
    let socket = packet::socket()?;
    for (level, option, value) in [
        (libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1),
        (libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1),
        (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, QUEUE_BYTES),
    ] {
        packet::set::<libc::c_int>(&socket, level, option, &value)?;
    }
    packet::bind(&socket, ifindex)?;
    Ok(socket)
}
