//! The access switch: tags per port, as an OLT or a building's switch adds them.

use anyhow::{Context as _, Result, ensure};
use aya::maps::{HashMap, MapData};
use aya::programs::{SchedClassifier, TcAttachType, Xdp, XdpMode, tc};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader};

use super::netns::Netns;

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("ACCESS_SWITCH_OBJECT"));

/// From here on, at the latest, a bridge takes a frame as it is that a program has given two tags.
const SECOND_TAG_KEPT: KernelVersion = KernelVersion::new(6, 12, 0);

/// (TPID, VLAN id), outer first; at most two.
pub type LineTags = [(u16, u16)];

/// The switch's programs on some ports of one namespace.
pub struct AccessSwitch {
    _programs: Ebpf,
    ports: HashMap<MapData, u32, [u16; 4]>,
}

impl AccessSwitch {
    /// Puts the programs on ports toward homes; no frame passes until a port's tags are set.
    pub fn new(netns: &Netns, ports: &[String]) -> Result<Self> {
        let ports = ports.to_vec();
        netns.run(move || Self::attach(&ports))?
    }

    fn attach(names: &[String]) -> Result<Self> {
        let come_again = u8::from(KernelVersion::current()? < SECOND_TAG_KEPT);
        let mut programs = EbpfLoader::new()
            .override_global("COME_AGAIN", &come_again, true)
            .load(OBJECT)
            .context("loading the access switch")?;
        for (name, direction) in [
            ("from_home", TcAttachType::Ingress),
            ("to_home", TcAttachType::Egress),
        ] {
            let program: &mut SchedClassifier =
                programs.program_mut(name).context(name)?.try_into()?;
            program.load()?;
            for port in names {
                // Before Linux 6.6 programs hang on this; it may be there already.
                let qdisc = tc::qdisc_add_clsact(port);
                ensure!(
                    qdisc.as_ref().err().is_none_or(is_there),
                    "{port}: {qdisc:?}"
                );
                program
                    .attach(port, direction)
                    .with_context(|| port.clone())?;
            }
        }
        let ports = HashMap::try_from(programs.take_map("PORTS").context("PORTS")?)?;
        Ok(Self {
            _programs: programs,
            ports,
        })
    }

    /// Sets the tags of a port, given by its index.
    pub fn set(&mut self, ifindex: u32, tags: &LineTags) -> Result<()> {
        let value = match tags {
            [] => [0; 4],
            [(tpid, vid)] => [0, 0, *tpid, *vid],
            [(s_tpid, s), (c_tpid, c), ..] => [*s_tpid, *s, *c_tpid, *c],
        };
        Ok(self.ports.insert(ifindex, value, 0)?)
    }
}

/// Puts a program on a port that lets everything pass. It stays as long as the port.
///
/// A virtual port whose peer has none (`veth_xdp_flush`) leaves what XDP sends back in the peer's queue until
/// something else is sent.
pub fn hear_answers(netns: &Netns, port: String) -> Result<()> {
    netns.run(move || {
        let mut programs = Ebpf::load(OBJECT).context("loading the access switch")?;
        let program: &mut Xdp = programs
            .program_mut("hear_answers")
            .context("no program")?
            .try_into()?;
        program.load()?;
        let attached = program.attach(&port, XdpMode::default());
        attached.with_context(|| port.clone())?;
        // Its link would end with it.
        std::mem::forget(programs);
        Ok(())
    })?
}

fn is_there(error: &tc::TcError) -> bool {
    match error {
        tc::TcError::AlreadyAttached => true,
        tc::TcError::NetlinkError(error) => error.raw_os_error() == Some(libc::EEXIST),
        _ => false,
    }
}
