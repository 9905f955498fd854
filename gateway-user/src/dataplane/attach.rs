//! Programs on ports. Links are pinned, so that programs stay when the daemon goes, and are
//! replaced atomically when one comes.

use std::fs;
use std::path::Path;

use aya::Ebpf;
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle};
use aya::programs::{
    LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode as AyaXdpMode, tc,
};
use aya::util::KernelVersion;
use doorstep_gateway_common::names::program;
use tracing::{debug, warn};

use super::DataplaneError;
use super::pins::Pins;
use super::ports::{Port, Role};
use crate::config::{Config, XdpMode};

/// Place of our filters where TC has no links (before Linux 6.6).
const FILTER_PRIORITY: u16 = 0xd005;
const FILTER_HANDLE: TcHandle = TcHandle::new(0, 1);

/// Loads the programs and puts them on the ports, replacing what an earlier daemon left there.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    mode: XdpMode,
    pins: &Pins,
    ports: &mut [Port],
) -> Result<(), DataplaneError> {
    for name in [program::XDP_ACCESS, program::XDP_UPLINK] {
        xdp(ebpf, name)?.load().map_err(failed(name))?;
    }
    for name in [program::TC_INGRESS, program::TC_EGRESS] {
        classifier(ebpf, name)?.load().map_err(failed(name))?;
    }
    for port in ports.iter() {
        attach_tc(ebpf, program::TC_INGRESS, TcAttachType::Ingress, pins, port)?;
        if port.role == Role::Access {
            attach_tc(ebpf, program::TC_EGRESS, TcAttachType::Egress, pins, port)?;
        }
    }
    for port in ports.iter_mut() {
        let name = match port.role {
            Role::Access => program::XDP_ACCESS,
            Role::Uplink => program::XDP_UPLINK,
        };
        port.xdp_mode = attach_xdp(xdp(ebpf, name)?, name, mode, pins, port)?;
    }
    Ok(())
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

fn named<'e>(
    ebpf: &'e mut Ebpf,
    name: &'static str,
) -> Result<&'e mut aya::programs::Program, DataplaneError> {
    ebpf.program_mut(name)
        .ok_or_else(|| failed(name)(ProgramError::NotLoaded))
}

fn failed(program: &'static str) -> impl FnOnce(ProgramError) -> DataplaneError {
    move |source| DataplaneError::Program {
        program,
        source: Box::new(source),
    }
}

/// The mode that the program runs in.
fn attach_xdp(
    xdp: &mut Xdp,
    name: &'static str,
    mode: XdpMode,
    pins: &Pins,
    port: &Port,
) -> Result<&'static str, DataplaneError> {
    const NATIVE: (AyaXdpMode, &str) = (AyaXdpMode::Driver, "native");
    const GENERIC: (AyaXdpMode, &str) = (AyaXdpMode::Skb, "generic");
    let modes: &[_] = match mode {
        XdpMode::Auto => &[NATIVE, GENERIC],
        XdpMode::Native => &[NATIVE],
        XdpMode::Generic => &[GENERIC],
    };
    let mut refusals = Vec::new();
    for (mode, text) in modes {
        let pin = pins.link(&format!("{name}-{text}"), &port.name);
        if let Some(link) = pinned(&pin) {
            match link.try_into().map_err(describe).and_then(|link| {
                let id = xdp.attach_to_link(link).map_err(describe)?;
                keep(
                    xdp.take_link(id)
                        .map_err(describe)?
                        .try_into()
                        .map_err(describe)?,
                    None,
                )
            }) {
                Ok(()) => return Ok(text),
                // The port was removed and made again: the link leads nowhere.
                Err(error) => debug!(port = port.name, error, "a pinned link is stale"),
            }
            unpin(&pin)?;
        }
        let attached = xdp
            .attach_to_if_index(port.ifindex, *mode)
            .map_err(describe);
        match attached.and_then(|id| {
            keep(
                xdp.take_link(id)
                    .map_err(describe)?
                    .try_into()
                    .map_err(describe)?,
                Some(&pin),
            )
        }) {
            Ok(()) => {
                if *text == "generic" {
                    warn!(
                        port = port.name,
                        "generic XDP: slower than the driver's own"
                    );
                }
                return Ok(text);
            }
            Err(error) => refusals.push(format!("{text}: {error}")),
        }
    }
    let what = refusals.join("; ");
    Err(DataplaneError::Attach {
        program: name,
        port: port.name.clone(),
        what,
    })
}

fn attach_tc(
    ebpf: &mut Ebpf,
    name: &'static str,
    direction: TcAttachType,
    pins: &Pins,
    port: &Port,
) -> Result<(), DataplaneError> {
    let program = classifier(ebpf, name)?;
    let attached = if has_tc_links() {
        attach_tcx(program, direction, &pins.link(name, &port.name), port)
    } else {
        attach_filter(program, direction, port)
    };
    attached.map_err(|what| DataplaneError::Attach {
        program: name,
        port: port.name.clone(),
        what,
    })
}

/// Whether TC programs are attached by links (TCX), which can be pinned.
fn has_tc_links() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 6, 0))
}

fn attach_tcx(
    program: &mut SchedClassifier,
    direction: TcAttachType,
    pin: &Path,
    port: &Port,
) -> Result<(), String> {
    if let Some(link) = pinned(pin) {
        let replaced = link.try_into().map_err(describe).and_then(|link| {
            let id = program.attach_to_link(link).map_err(describe)?;
            keep(
                program
                    .take_link(id)
                    .map_err(describe)?
                    .try_into()
                    .map_err(describe)?,
                None,
            )
        });
        match replaced {
            Ok(()) => return Ok(()),
            Err(error) => debug!(port = port.name, error, "a pinned link is stale"),
        }
        unpin(pin).map_err(describe)?;
    }
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = program
        .attach_with_options(&port.name, direction, options)
        .map_err(describe)?;
    keep(
        program
            .take_link(id)
            .map_err(describe)?
            .try_into()
            .map_err(describe)?,
        Some(pin),
    )
}

/// Before Linux 6.6: a filter, which stays on the port by itself.
fn attach_filter(
    program: &mut SchedClassifier,
    direction: TcAttachType,
    port: &Port,
) -> Result<(), String> {
    match tc::qdisc_add_clsact(&port.name) {
        Ok(()) | Err(tc::TcError::AlreadyAttached) => {}
        Err(error) => return Err(describe(error)),
    }
    let id = match program.attach_to_link(filter(&port.name, direction).map_err(describe)?) {
        Ok(id) => id,
        Err(_) => {
            let options = NlOptions {
                priority: FILTER_PRIORITY,
                handle: FILTER_HANDLE,
                ..NlOptions::default()
            };
            let options = TcAttachOptions::Netlink(options);
            program
                .attach_with_options(&port.name, direction, options)
                .map_err(describe)?
        }
    };
    // Dropping the link would take the filter off.
    std::mem::forget(program.take_link(id).map_err(describe)?);
    Ok(())
}

fn filter(port: &str, direction: TcAttachType) -> std::io::Result<SchedClassifierLink> {
    SchedClassifierLink::attached(port, direction, FILTER_PRIORITY, FILTER_HANDLE, None)
}

/// Takes filters off that are not held by pins.
pub(super) fn detach_filters(config: &Config) -> Result<(), DataplaneError> {
    if has_tc_links() {
        return Ok(());
    }
    let uplinks = config.operators.iter().map(|operator| &operator.uplink);
    for port in config
        .access_ports
        .iter()
        .map(|port| &port.name)
        .chain(uplinks)
    {
        for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
            // Absent filters and ports are as good as removed ones.
            if let Ok(link) = filter(port, direction) {
                drop(link);
            }
        }
    }
    Ok(())
}

fn pinned(path: &Path) -> Option<FdLink> {
    match PinnedLink::from_pin(path) {
        Ok(link) => Some(link.into()),
        Err(LinkError::SyscallError(_)) => None,
        Err(error) => {
            debug!(path = %path.display(), %error, "not a link");
            None
        }
    }
}

/// Pins a link, or, where it is pinned already, closes our end of it, which does not detach.
fn keep(link: FdLink, pin: Option<&Path>) -> Result<(), String> {
    match pin {
        Some(path) => link.pin(path).map(drop).map_err(describe),
        None => Ok(()),
    }
}

fn unpin(path: &Path) -> Result<(), DataplaneError> {
    fs::remove_file(path).map_err(|source| DataplaneError::Io {
        path: path.to_owned(),
        source,
    })
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
