//! What passes a link, seen as on the wire.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::netns::Netns;
use super::packet;

/// How long a frame may take to come by.
const PATIENCE: Duration = Duration::from_secs(10);
/// Addresses and EtherType come before a tag.
const MACS: usize = 12;

/// Frames of a link, both ways, from the moment that it is made.
pub struct Capture {
    socket: OwnedFd,
    link: String,
}

impl Capture {
    pub fn start(netns: &Netns, link: &str) -> Result<Self> {
        let name = link.to_owned();
        let socket = netns
            .run(move || open(&name))?
            .with_context(|| format!("capturing at {link}"))?;
        Ok(Self {
            socket,
            link: link.to_owned(),
        })
    }

    /// What the first frame tells that tells something, of those that nobody has looked at yet.
    pub fn first<T>(&self, what: impl Fn(&[u8]) -> Option<T>) -> Result<T> {
        let end = Instant::now() + PATIENCE;
        let mut seen = 0;
        while Instant::now() < end {
            let Some(frame) = self.next()? else { continue };
            seen += 1;
            if let Some(told) = what(&frame) {
                return Ok(told);
            }
        }
        ensure!(seen > 0, "nothing passed {}", self.link);
        anyhow::bail!("{seen} frames passed {}, but not the one", self.link)
    }

    /// What all frames so far tell, of those that nobody has looked at yet.
    pub fn so_far<T>(&self, what: impl Fn(&[u8]) -> Option<T>) -> Result<Vec<T>> {
        let mut told = Vec::new();
        while let Some(frame) = self.next()? {
            told.extend(what(&frame));
        }
        Ok(told)
    }

    /// The next frame, its tags in place; none for a while.
    fn next(&self) -> Result<Option<Vec<u8>>> {
        let mut bytes = vec![0u8; 65_536];
        let mut control = [0u64; 16];
        let mut part = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        };
        // SAFETY: all zero is a valid msghdr.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = mem::size_of_val(&control);
        // SAFETY: the header's buffers live for the time of the call, with the lengths that it says.
        let len = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut header, 0) };
        if len < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error.into()),
            };
        }
        bytes.truncate(usize::try_from(len)?);
        if let Some(tag) = beside(&header) {
            bytes.splice(MACS..MACS, tag);
        }
        Ok(Some(bytes))
    }
}

/// The tag that the kernel keeps beside the packet.
fn beside(header: &libc::msghdr) -> Option<[u8; 4]> {
    // SAFETY: the kernel has filled the control buffer; `CMSG_FIRSTHDR` stays within its length.
    let message = unsafe { libc::CMSG_FIRSTHDR(header).as_ref() }?;
    if (message.cmsg_level, message.cmsg_type) != (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
        return None;
    }
    // SAFETY: such a message holds a tpacket_auxdata.
    let data = unsafe {
        libc::CMSG_DATA(message)
            .cast::<libc::tpacket_auxdata>()
            .read_unaligned()
    };
    if data.tp_status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let tpid = match data.tp_status & libc::TP_STATUS_VLAN_TPID_VALID {
        0 => libc::ETH_P_8021Q as u16,
        _ => data.tp_vlan_tpid,
    };
    let [a, b] = tpid.to_be_bytes();
    let [c, d] = data.tp_vlan_tci.to_be_bytes();
    Some([a, b, c, d])
}

fn open(link: &str) -> Result<OwnedFd> {
    let socket = packet::socket()?;
    let on: libc::c_int = 1;
    packet::set(&socket, libc::SOL_PACKET, libc::PACKET_AUXDATA, &on)?;
    let pause = libc::timeval {
        tv_sec: 0,
        tv_usec: 50_000,
    };
    packet::set(&socket, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &pause)?;
    packet::bind(&socket, nix::net::if_::if_nametoindex(link)?)?;
    Ok(socket)
}
