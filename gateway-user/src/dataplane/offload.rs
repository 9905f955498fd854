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

    fn name(self) -> &'static str {
        match self {
            Self::RxVlan => "rx-vlan-hw-parse",
            Self::RxSVlan => "rx-vlan-stag-hw-parse",
        }
    }
}

/// A feature of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureState {
    pub on: bool,
    /// Otherwise it is fixed: the driver has it always, or never.
    pub can_change: bool,
}

impl FeatureState {
    /// From what ETHTOOL_GFEATURES says of 32 features: available, requested, active, never changed.
    fn of(block: [u32; 4], bit: u32) -> Self {
        let [available, _, active, never_changed] = block;
        Self {
            on: active & bit != 0,
            can_change: available & !never_changed & bit != 0,
        }
    }
}

/// A feature's bit, and the number of 32-bit blocks that the bits of all features take.
#[derive(Clone, Copy)]
struct Place {
    index: usize,
    blocks: usize,
}

impl Place {
    fn block(self) -> usize {
        self.index / 32
    }

    fn bit(self) -> u32 {
        1 << (self.index % 32)
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

    /// Whether a feature is on, fixed or not; none if this kernel does not know it.
    pub fn get(&self, port: &str, feature: Feature) -> io::Result<Option<bool>> {
        Ok(self.state(port, feature)?.map(|state| state.on))
    }

    /// Whether a feature is on and can be changed; none if this kernel does not know it.
    pub fn state(&self, port: &str, feature: Feature) -> io::Result<Option<FeatureState>> {
        let place = self.locate(port, feature)?;
        place.map(|place| self.read(port, place)).transpose()
    }

    /// Switches a feature. Success means that it is so: a driver that takes note and goes on as
    /// before is an error.
    pub fn set(&self, port: &str, feature: Feature, on: bool) -> io::Result<()> {
        let Some(place) = self.locate(port, feature)? else {
            let what = format!("this kernel has no {}", feature.name());
            return Err(io::Error::new(io::ErrorKind::Unsupported, what));
        };
        let state = self.read(port, place)?;
        if state.on != on && state.can_change {
            self.write(port, place, on)?;
        }
        if self.read(port, place)?.on == on {
            return Ok(());
        }
        let (feature, state) = (feature.name(), if on { "off" } else { "on" });
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("the driver keeps {feature} {state}"),
        ))
    }

    fn read(&self, port: &str, place: Place) -> io::Result<FeatureState> {
        let mut request = vec![0; 2 + place.blocks * 4];
        request[0] = GET_FEATURES;
        request[1] = place.blocks as u32;
        self.call(port, &mut request)?;
        let start = 2 + place.block() * 4;
        let block = [0, 1, 2, 3].map(|word| request[start + word]);
        Ok(FeatureState::of(block, place.bit()))
    }

    fn write(&self, port: &str, place: Place, on: bool) -> io::Result<()> {
        // Each block: valid, requested.
        let mut request = vec![0; 2 + place.blocks * 2];
        request[0] = SET_FEATURES;
        request[1] = place.blocks as u32;
        request[2 + place.block() * 2] = place.bit();
        request[3 + place.block() * 2] = if on { place.bit() } else { 0 };
        self.call(port, &mut request)
    }

    fn locate(&self, port: &str, feature: Feature) -> io::Result<Option<Place>> {
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
        let index = bytes.chunks_exact(STRING_LEN).position(|string| {
            string.split(|byte| *byte == 0).next() == Some(feature.name().as_bytes())
        });
        Ok(index.map(|index| Place {
            index,
            blocks: count.div_ceil(32),
        }))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_is_not_off() {
        const BIT: u32 = 1 << 8;
        let state = |on, can_change| FeatureState { on, can_change };
        for (block, expected) in [
            ([0, 0, 0, 0], state(false, false)),
            ([0, 0, BIT, 0], state(true, false)),
            ([BIT, 0, 0, 0], state(false, true)),
            ([BIT, BIT, BIT, 0], state(true, true)),
            ([BIT, 0, BIT, BIT], state(true, false)),
            ([!BIT, !BIT, !BIT, !BIT], state(false, false)),
        ] {
            assert_eq!(FeatureState::of(block, BIT), expected, "{block:x?}");
        }
    }

    #[test]
    fn a_fixed_feature_says_so() {
        let offloads = Offloads::open().expect("a socket");
        // No loopback takes tags off, whatever it is told.
        let state = offloads.state("lo", Feature::RxVlan).expect("an answer");
        let state = state.expect("every kernel knows it");
        assert!(!state.on && !state.can_change, "{state:?}");
        let refusal = offloads
            .set("lo", Feature::RxVlan, true)
            .expect_err("fixed");
        assert!(
            refusal.to_string().contains("keeps rx-vlan-hw-parse off"),
            "{refusal}"
        );
    }
}
