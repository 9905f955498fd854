//! Pinned links: what they hold on to, and how to let go of it at once.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use aya::programs::TcAttachType;

// linux/bpf.h
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_LINK_DETACH: libc::c_int = 34;
const BPF_LINK_TYPE_XDP: u32 = 6;
const BPF_LINK_TYPE_TCX: u32 = 11;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;

/// Where on a port a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Xdp,
    Tcx(TcAttachType),
}

/// A link.
pub(super) struct Link {
    fd: OwnedFd,
    /// None if it is none of the gateway's kinds.
    pub(super) place: Option<Place>,
    /// 0 once the port is gone.
    pub(super) ifindex: u32,
    /// Id of the program that runs there.
    pub(super) program_id: u32,
}

impl Link {
    pub(super) fn open(pin: &Path) -> io::Result<Self> {
        let fd = get(pin)?;
        let info = info(&fd)?;
        let place = match (info.kind, info.attach_type) {
            (BPF_LINK_TYPE_XDP, _) => Some(Place::Xdp),
            (BPF_LINK_TYPE_TCX, BPF_TCX_INGRESS) => Some(Place::Tcx(TcAttachType::Ingress)),
            (BPF_LINK_TYPE_TCX, BPF_TCX_EGRESS) => Some(Place::Tcx(TcAttachType::Egress)),
            _ => None,
        };
        Ok(Self {
            fd,
            place,
            ifindex: info.ifindex,
            program_id: info.program_id,
        })
    }

    pub(super) fn is_at(&self, place: Place, ifindex: u32) -> bool {
        self.place == Some(place) && self.ifindex == ifindex
    }

    /// Takes the program off the port. Removing the pin alone does so some time later, and what is
    /// attached in the meantime finds the place taken.
    pub(super) fn detach(&self) -> io::Result<()> {
        #[repr(C)]
        struct Attr {
            link_fd: i32,
        }
        let mut attr = Attr {
            link_fd: self.fd.as_raw_fd(),
        };
        // SAFETY: the attributes of this command, without pointers.
        unsafe { bpf(BPF_LINK_DETACH, &mut attr) }.map(drop)
    }
}

/// `struct bpf_link_info` as far as it is needed; the kernel fills as many bytes as it is given.
/// The last two are members of a union that XDP (without `attach_type`) and TCX have in common.
#[repr(C)]
#[derive(Default)]
struct Info {
    kind: u32,
    id: u32,
    program_id: u32,
    pad: u32,
    ifindex: u32,
    attach_type: u32,
}

fn get(pin: &Path) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attr {
        path: u64,
        fd: u32,
        flags: u32,
    }
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let mut attr = Attr {
        path: path.as_ptr() as u64,
        fd: 0,
        flags: 0,
    };
    // SAFETY: the attributes of this command; the path ends in 0 and outlives the call.
    let fd = unsafe { bpf(BPF_OBJ_GET, &mut attr) }?;
    // SAFETY: just opened, and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn info(fd: &OwnedFd) -> io::Result<Info> {
    #[repr(C)]
    struct Attr {
        fd: i32,
        len: u32,
        info: u64,
    }
    let mut info = Info::default();
    let mut attr = Attr {
        fd: fd.as_raw_fd(),
        len: size_of::<Info>() as u32,
        info: (&raw mut info) as u64,
    };
    // SAFETY: the attributes of this command; `info` has the length that they say, may hold any
    // bytes, and outlives the call.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr) }?;
    Ok(info)
}

/// # Safety
/// `attr` must begin as `union bpf_attr` does for the command, without padding, and its pointers
/// must lead to what the command reads and writes.
unsafe fn bpf<A>(command: libc::c_int, attr: &mut A) -> io::Result<libc::c_int> {
    let attr: *mut A = attr;
    // SAFETY: as the caller promises; the kernel takes missing attributes for 0.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr, size_of::<A>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result as libc::c_int)
    }
}
