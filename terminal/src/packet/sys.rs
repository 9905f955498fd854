//! The system calls of a packet socket. See packet(7).
#![expect(unsafe_code, reason = "packet sockets are reached through libc only")]

use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use libc::{c_int, c_void, sock_filter, socklen_t};
use tokio::io::unix::AsyncFd;

/// A VLAN tag that came beside a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BesideTag {
    pub tpid: u16,
    pub tci: u16,
}

/// A packet socket, not blocking.
#[derive(Debug)]
pub(super) struct PacketSocket(OwnedFd);

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn checked_len(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

#[expect(clippy::cast_possible_truncation, reason = "sizes of C structures")]
fn len_of<T>() -> socklen_t {
    mem::size_of::<T>() as socklen_t
}

impl PacketSocket {
    /// Protocol 0: it hears nothing until it is bound.
    pub(super) fn new() -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: socket(2) takes no pointers.
        let fd = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
        // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn set<T>(&self, level: c_int, name: c_int, value: &T) -> io::Result<()> {
        // SAFETY: `value` is a live `T`, read for exactly its size.
        let result = unsafe {
            libc::setsockopt(
                self.as_raw_fd(),
                level,
                name,
                std::ptr::from_ref(value).cast::<c_void>(),
                len_of::<T>(),
            )
        };
        check(result).map(drop)
    }

    /// For waiting on it within a tokio runtime.
    pub(super) fn register(self) -> io::Result<AsyncFd<Self>> {
        // SAFETY: the socket owns its descriptor, which stays open and the same until the socket
        // is dropped; it is dropped with the AsyncFd, which nobody takes apart.
        Ok(unsafe { AsyncFd::register(self) }?)
    }

    pub(super) fn attach(&self, program: &[sock_filter]) -> io::Result<()> {
        let len = u16::try_from(program.len()).map_err(io::Error::other)?;
        // The kernel copies the program and does not write to it.
        let filter = libc::sock_fprog {
            len,
            filter: program.as_ptr().cast_mut(),
        };
        self.set(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &filter)
    }

    pub(super) fn hear_tags(&self) -> io::Result<()> {
        self.set(libc::SOL_PACKET, libc::PACKET_AUXDATA, &1)
    }

    pub(super) fn ignore_outgoing(&self) -> io::Result<()> {
        self.set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1)
    }

    pub(super) fn bypass_queues(&self) -> io::Result<()> {
        self.set(libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &1)
    }

    pub(super) fn bind(&self, index: u32) -> io::Result<()> {
        // SAFETY: all bytes zero is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
        address.sll_protocol = u16::try_from(libc::ETH_P_ALL)
            .map_err(io::Error::other)?
            .to_be();
        address.sll_ifindex = c_int::try_from(index).map_err(io::Error::other)?;
        // SAFETY: `address` is a live sockaddr_ll, read for exactly its size.
        let result = unsafe {
            libc::bind(
                self.as_raw_fd(),
                std::ptr::from_ref(&address).cast::<libc::sockaddr>(),
                len_of::<libc::sockaddr_ll>(),
            )
        };
        check(result).map(drop)
    }

    pub(super) fn join(&self, index: u32, everything: bool) -> io::Result<()> {
        let kind = if everything {
            libc::PACKET_MR_PROMISC
        } else {
            libc::PACKET_MR_ALLMULTI
        };
        let request = libc::packet_mreq {
            mr_ifindex: c_int::try_from(index).map_err(io::Error::other)?,
            mr_type: u16::try_from(kind).map_err(io::Error::other)?,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        self.set(libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
    }

    pub(super) fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: `frame` is read for exactly its length.
        let sent = unsafe {
            libc::send(
                self.as_raw_fd(),
                frame.as_ptr().cast::<c_void>(),
                frame.len(),
                0,
            )
        };
        checked_len(sent).map(drop)
    }

    /// The length of the next packet in `buffer`, and the tag that came beside it.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Option<BesideTag>)> {
        let mut part = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast::<c_void>(),
            iov_len: buffer.len(),
        };
        // u64 for the alignment of a cmsghdr; 64 bytes hold one tpacket_auxdata.
        let mut control = [0u64; 8];
        // SAFETY: all bytes zero is a valid msghdr.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast::<c_void>();
        message.msg_controllen = mem::size_of_val(&control) as _;
        // SAFETY: `message` points to `part` and `control`, which live until it is dropped and are
        // written within their lengths.
        let len = checked_len(unsafe { libc::recvmsg(self.as_raw_fd(), &raw mut message, 0) })?;
        Ok((len, beside_tag(&message)))
    }
}

fn beside_tag(message: &libc::msghdr) -> Option<BesideTag> {
    // SAFETY: recvmsg has filled in the message, whose control buffer is still alive.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give aligned headers within the buffer, or null.
        let (level, kind, len) = unsafe {
            (
                (*header).cmsg_level,
                (*header).cmsg_type,
                (*header).cmsg_len,
            )
        };
        let data_len = mem::size_of::<libc::tpacket_auxdata>();
        if (level, kind) == (libc::SOL_PACKET, libc::PACKET_AUXDATA) && len >= data_len {
            let mut data = MaybeUninit::<libc::tpacket_auxdata>::uninit();
            // SAFETY: the header says that so many bytes follow it; any bytes are a valid
            // tpacket_auxdata, which is a structure of integers.
            let data = unsafe {
                std::ptr::copy_nonoverlapping(
                    libc::CMSG_DATA(header),
                    data.as_mut_ptr().cast::<u8>(),
                    data_len,
                );
                data.assume_init()
            };
            return tag_of(data.tp_status, data.tp_vlan_tci, data.tp_vlan_tpid);
        }
        // SAFETY: as above; `header` is one of this message's.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    None
}

fn tag_of(status: u32, tci: u16, tpid: u16) -> Option<BesideTag> {
    let tagged = status & libc::TP_STATUS_VLAN_VALID != 0;
    let typed = status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
    let tpid = if typed {
        tpid
    } else {
        doorstep_establish::TPID_8021Q
    };
    tagged.then_some(BesideTag { tpid, tci })
}
