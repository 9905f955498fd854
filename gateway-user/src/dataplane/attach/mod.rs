//! Programs on ports. Links are pinned, so that programs stay when the daemon goes, and are
//! replaced atomically when one comes.

mod link;
mod tc;
mod xdp;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::maps::Map;
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::{Program, ProgramError, ProgramInfo, SchedClassifier, TcAttachType, Xdp};
use doorstep_gateway_common::names::program;
use serde::Serialize;
use tracing::{debug, info};

use self::link::Link;
use super::DataplaneError;
use super::pins::{Pins, remove_pin};
use super::ports::{Port, Role};
use crate::config::XdpMode;

pub(super) use self::tc::detach_filters;

/// A program of the gateway's on a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attachment {
    pub port: String,
    /// `xdp`, `tc-ingress` or `tc-egress`.
    pub hook: &'static str,
    pub program: &'static str,
    /// Kernel's id of the program that it replaced; none where there was none, or a filter.
    pub before: Option<u32>,
    /// Kernel's id of the program that runs there now.
    pub after: u32,
}

/// The programs of an object, which the verifier has taken. They stay in the kernel while this
/// lives, or a port has them.
pub(super) struct Programs(Ebpf);

impl Programs {
    /// Has the kernel verify all of them.
    pub(super) fn load(mut ebpf: Ebpf) -> Result<Self, DataplaneError> {
        for name in [program::XDP_ACCESS, program::XDP_UPLINK] {
            xdp(&mut ebpf, name)?.load().map_err(failed(name))?;
        }
        for name in [program::TC_INGRESS, program::TC_EGRESS] {
            classifier(&mut ebpf, name)?.load().map_err(failed(name))?;
        }
        Ok(Self(ebpf))
    }

    /// A map of the object's.
    pub(super) fn map(&self, name: &str) -> Option<&Map> {
        self.0.map(name)
    }

    /// Where [`Programs::attach`] puts them, in the same order.
    pub(super) fn places(&mut self, ports: &[Port]) -> Result<Vec<Attachment>, DataplaneError> {
        let mut places = Vec::new();
        let mut place = |port: &Port, hook, program, after| {
            places.push(Attachment {
                port: port.name.clone(),
                hook,
                program,
                before: None,
                after,
            });
        };
        for port in ports {
            let egress = (program::TC_EGRESS, "tc-egress");
            let egress = (port.role == Role::Access).then_some(egress);
            for (name, hook) in [(program::TC_INGRESS, "tc-ingress")]
                .into_iter()
                .chain(egress)
            {
                let info = classifier(&mut self.0, name)?.info();
                place(port, hook, name, id(name, info)?);
            }
        }
        for port in ports {
            let name = match port.role {
                Role::Access => program::XDP_ACCESS,
                Role::Uplink => program::XDP_UPLINK,
            };
            let info = xdp(&mut self.0, name)?.info();
            place(port, "xdp", name, id(name, info)?);
        }
        Ok(places)
    }

    /// Puts the programs on the ports, replacing what is there between two packets, and takes off
    /// what is elsewhere.
    pub(super) fn attach(
        &mut self,
        mode: XdpMode,
        pins: &Pins,
        ports: &mut [Port],
    ) -> Result<Vec<Attachment>, DataplaneError> {
        let mut wanted = HashSet::new();
        let mut attached = Vec::new();
        for port in ports.iter() {
            let mut attach = |program, hook, direction| -> Result<(), DataplaneError> {
                let classifier = classifier(&mut self.0, program)?;
                let (pin, before) = tc::attach(classifier, program, direction, pins, port)?;
                wanted.insert(pin);
                attached.push(Attachment {
                    port: port.name.clone(),
                    hook,
                    program,
                    before,
                    after: id(program, classifier.info())?,
                });
                Ok(())
            };
            attach(program::TC_INGRESS, "tc-ingress", TcAttachType::Ingress)?;
            if port.role == Role::Access {
                attach(program::TC_EGRESS, "tc-egress", TcAttachType::Egress)?;
            }
        }
        for port in ports.iter_mut() {
            let program = match port.role {
                Role::Access => program::XDP_ACCESS,
                Role::Uplink => program::XDP_UPLINK,
            };
            let xdp = xdp(&mut self.0, program)?;
            let put = xdp::attach(xdp, program, mode, pins, port)?;
            port.xdp_mode = put.mode;
            wanted.insert(put.pin);
            attached.push(Attachment {
                port: port.name.clone(),
                hook: "xdp",
                program,
                before: put.former,
                after: id(program, xdp.info())?,
            });
        }
        sweep(pins, &wanted)?;
        Ok(attached)
    }
}

fn id(name: &'static str, info: Result<ProgramInfo, ProgramError>) -> Result<u32, DataplaneError> {
    Ok(info.map_err(failed(name))?.id())
}

/// Takes programs off the ports and places that do not want them any more.
fn sweep(pins: &Pins, wanted: &HashSet<PathBuf>) -> Result<(), DataplaneError> {
    for pin in pins.links()? {
        if !wanted.contains(&pin) {
            info!(pin = %pin.display(), "not wanted any more");
            take_off(&pin)?;
        }
    }
    Ok(())
}

/// Takes a program off its port, at once, and removes its pin.
pub(super) fn take_off(pin: &Path) -> Result<(), DataplaneError> {
    if pin.is_dir() {
        return tc::remove_marked_filter(pin);
    }
    // A link that cannot be detached is detached by the loss of its last holder.
    if let Err(error) = Link::open(pin).and_then(|link| link.detach()) {
        debug!(pin = %pin.display(), %error, "not detached by itself");
    }
    remove_pin(pin)
}

fn xdp<'e>(ebpf: &'e mut Ebpf, name: &'static str) -> Result<&'e mut Xdp, DataplaneError> {
    named(ebpf, name)?.try_into().map_err(failed(name))
}

fn classifier<'e>(
    ebpf: &'e mut Ebpf,
    name: &'static str,
) -> Result<&'e mut SchedClassifier, DataplaneError> {
    named(ebpf, name)?.try_into().map_err(failed(name))
}

fn named<'e>(ebpf: &'e mut Ebpf, name: &'static str) -> Result<&'e mut Program, DataplaneError> {
    ebpf.program_mut(name)
        .ok_or_else(|| failed(name)(ProgramError::NotLoaded))
}

fn failed(program: &'static str) -> impl FnOnce(ProgramError) -> DataplaneError {
    move |source| DataplaneError::Program {
        program,
        source: Box::new(source),
    }
}

/// The link behind a pin, as a program's own kind of link.
fn adopted<L: TryFrom<FdLink, Error = LinkError>>(pin: &Path) -> Result<L, String> {
    PinnedLink::from_pin(pin)
        .and_then(|link| FdLink::from(link).try_into())
        .map_err(describe)
}

/// Keeps a link for good: pins it, or, where it is pinned already, closes our end of it, which
/// does not detach.
fn keep<L: TryInto<FdLink, Error = LinkError>>(
    link: Result<L, ProgramError>,
    pin: Option<&Path>,
) -> Result<(), String> {
    let link = link.map_err(describe)?.try_into().map_err(describe)?;
    match pin {
        Some(path) => link.pin(path).map(drop).map_err(describe),
        None => Ok(()),
    }
}

fn describe(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
