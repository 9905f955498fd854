//! Offloads of a port, by the kernel's own feature names (`ethtool -k` shows them).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Features that decide whether XDP sees a VLAN tag in the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Feature {
    /// The NIC takes 802.1Q tags off.
    #[serde(rename = "rx-vlan-hw-parse")]
    RxVlan,
    /// The NIC takes 802.1ad tags off.
    #[serde(rename = "rx-vlan-stag-hw-parse")]
    RxSVlan,
}

impl Feature {
    pub const ALL: [Self; 2] = [Self::RxVlan, Self::RxSVlan];

    fn name(self) -> &'static [u8] {
        match self {
            Self::RxVlan => b"rx-vlan-hw-parse",
            Self::RxSVlan => b"rx-vlan-stag-hw-parse",
        }
    }
}

// linux/ethtool.h
const SIOCETHTOOL: libc::Ioctl = 0x8946;
const GET_STRINGS: u32 = 0x1b;
const GET_SET_INFO: u32 = 0x37;
const GET_FEATURES: u32 = 0x3a;
const SET_FEATURES: u32 = 0x3b;
const FEATURE_STRINGS: u32 = 4;
const STRING_LEN: usize = 32;

/// Asks ports for their offloads and sets them.
pub struct Offloads {
    socket: OwnedFd,
}

impl Offloads {
    pub fn open() -> io::Result<Self> {
        // SAFETY: a system call without pointers.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, and owned by nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { socket })
    }

    /// Whether a feature is on; none if the port does not have it or cannot change it.
    pub fn get(&self, port: &str, feature: Feature) -> io::Result<Option<bool>> {
        let Some((index, blocks)) = self.locate(port, feature)? else {
            return Ok(None);
        };
        // Each block: available, requested, active, never changed.
        let mut request = vec![0; 2 + blocks * 4];
        request[0] = GET_FEATURES;
        request[1] = blocks as u32;
        self.call(port, &mut request)?;
        let block = &request[2 + index / 32 * 4..][..4];
        let bit = 1 << (index % 32);
        Ok((block[0] & bit != 0).then_some(block[2] & bit != 0))
    }

    pub fn set(&self, port: &str, feature: Feature, on: bool) -> io::Result<()> {
        let Some((index, blocks)) = self.locate(port, feature)? else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        // Each block: valid, requested.
        let mut request = vec![0; 2 + blocks * 2];
        request[0] = SET_FEATURES;
        request[1] = blocks as u32;
        let bit = 1 << (index % 32);
        request[2 + index / 32 * 2] = bit;
        request[3 + index / 32 * 2] = if on { bit } else { 0 };
        self.call(port, &mut request)
    }

    /// The feature's bit and the number of 32-bit blocks that all features take.
    fn locate(&self, port: &str, feature: Feature) -> io::Result<Option<(usize, usize)>> {
        // struct ethtool_sset_info: command, reserved, 64-bit mask, one count.
        let mut info = [GET_SET_INFO, 0, 1 << FEATURE_STRINGS, 0, 0];
        self.call(port, &mut info)?;
        let count = info[4] as usize;
        // struct ethtool_gstrings: command, set, length, strings of 32 bytes.
        let mut strings = vec![0; 3 + count * STRING_LEN / size_of::<u32>()];
        strings[0] = GET_STRINGS;
        strings[1] = FEATURE_STRINGS;
        strings[2] = count as u32;
        self.call(port, &mut strings)?;
        let bytes: Vec<u8> = strings[3..]
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect();
        let index = bytes
            .chunks_exact(STRING_LEN)
            .position(|string| string.split(|byte| *byte == 0).next() == Some(feature.name()));
        Ok(index.map(|index| (index, count.div_ceil(32))))
    }

    /// Runs an ethtool command whose structure is made of 32-bit words.
    fn call(&self, port: &str, command: &mut [u32]) -> io::Result<()> {
        // SAFETY: all zero is a valid ifreq.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        if port.len() >= request.ifr_name.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        for (to, from) in request.ifr_name.iter_mut().zip(port.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_data = command.as_mut_ptr().cast();
        // SAFETY: the request points to a command that is as long as its own count says, and both
        // outlive the call.
        let refused =
            unsafe { libc::ioctl(self.socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
        // ETHTOOL_SFEATURES answers with a positive set of notes.
        if refused < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}
