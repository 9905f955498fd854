//! TC programs: links (TCX) since Linux 6.6, filters before.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType, tc};
use aya::util::KernelVersion;
use nix::net::if_::if_indextoname;
use tracing::debug;

use super::link::{Link, Place};
use super::{adopted, describe, keep, take_off};
use crate::config::Config;
use crate::dataplane::DataplaneError;
use crate::dataplane::pins::{Pins, failed};
use crate::dataplane::ports::Port;

/// Place of our filters.
const FILTER_PRIORITY: u16 = 0xd005;
const FILTER_HANDLE: TcHandle = TcHandle::new(0, 1);

const INGRESS_MARK: &str = "filter-ingress";
const EGRESS_MARK: &str = "filter-egress";

/// Puts a program on a port; its pin, or the mark of its filter, and the id of the program that was
/// there, unless it was a filter.
pub(super) fn attach(
    program: &mut SchedClassifier,
    name: &'static str,
    direction: TcAttachType,
    pins: &Pins,
    port: &Port,
) -> Result<(PathBuf, Option<u32>), DataplaneError> {
    let refused = |what| DataplaneError::Attach {
        program: name,
        port: port.name.clone(),
        what,
    };
    let is_ingress = direction == TcAttachType::Ingress;
    if has_links() {
        let hook = if is_ingress {
            "tcx-ingress"
        } else {
            "tcx-egress"
        };
        let pin = pins.link(hook, port.ifindex);
        if let Some(former) = update_link(program, direction, &pin, port) {
            return Ok((pin, Some(former)));
        }
        if pin.exists() {
            take_off(&pin)?;
        }
        create_link(program, direction, &pin, port).map_err(refused)?;
        Ok((pin, None))
    } else {
        let hook = if is_ingress {
            INGRESS_MARK
        } else {
            EGRESS_MARK
        };
        let mark = pins.link(hook, port.ifindex);
        // Before the filter, so that no filter is without one.
        fs::create_dir_all(&mark).map_err(failed(&mark))?;
        put_filter(program, direction, port).map_err(refused)?;
        Ok((mark, None))
    }
}

fn has_links() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 6, 0))
}

/// Changes the program of the pinned link, if that is one of this port; the id of the former one.
fn update_link(
    program: &mut SchedClassifier,
    direction: TcAttachType,
    pin: &Path,
    port: &Port,
) -> Option<u32> {
    let link = Link::open(pin).ok()?;
    if !link.is_at(Place::Tcx(direction), port.ifindex) {
        return None;
    }
    let updated = adopted(pin)
        .and_then(|link| program.attach_to_link(link).map_err(describe))
        .and_then(|id| keep(program.take_link(id), None));
    if let Err(error) = &updated {
        debug!(port = port.name, error, "a pinned link is of no use");
    }
    updated.is_ok().then_some(link.program_id)
}

fn create_link(
    program: &mut SchedClassifier,
    direction: TcAttachType,
    pin: &Path,
    port: &Port,
) -> Result<(), String> {
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = program
        .attach_with_options(&port.name, direction, options)
        .map_err(describe)?;
    keep(program.take_link(id), Some(pin))
}

/// A filter stays on the port by itself. The qdisc that it needs stays there after it, too: others
/// may have put filters of theirs on it.
fn put_filter(
    program: &mut SchedClassifier,
    direction: TcAttachType,
    port: &Port,
) -> Result<(), String> {
    match tc::qdisc_add_clsact(&port.name) {
        Ok(()) | Err(TcError::AlreadyAttached) => {}
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {}
        Err(error) => return Err(describe(error)),
    }
    let there = filter(&port.name, direction).map_err(describe)?;
    let id = match program.attach_to_link(there) {
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

fn filter(port: &str, direction: TcAttachType) -> io::Result<SchedClassifierLink> {
    SchedClassifierLink::attached(port, direction, FILTER_PRIORITY, FILTER_HANDLE, None)
}

/// Absent filters and ports are as good as removed ones.
fn remove_filter(port: &str, direction: TcAttachType) {
    if let Ok(link) = filter(port, direction) {
        drop(link);
    }
}

/// Takes the filter off that a folder among the pins stands for: a BPF file system remembers it as
/// long as the kernel runs, and no longer.
pub(super) fn remove_marked_filter(mark: &Path) -> Result<(), DataplaneError> {
    let name = mark.file_name().and_then(|name| name.to_str());
    if let Some((direction, ifindex)) = name.and_then(parse_mark)
        && let Ok(port) = if_indextoname(ifindex)
        && let Ok(port) = CStr::to_str(&port)
    {
        remove_filter(port, direction);
    }
    fs::remove_dir(mark).map_err(failed(mark))
}

fn parse_mark(name: &str) -> Option<(TcAttachType, u32)> {
    let (hook, ifindex) = name.rsplit_once('-')?;
    let direction = match hook {
        INGRESS_MARK => TcAttachType::Ingress,
        EGRESS_MARK => TcAttachType::Egress,
        _ => return None,
    };
    Some((direction, ifindex.parse().ok()?))
}

/// Takes filters off whose marks are lost, as when the BPF file system was mounted anew.
pub(in crate::dataplane) fn detach_filters(config: &Config) {
    if has_links() {
        return;
    }
    let access = config.access_ports.iter().map(|port| &port.name);
    let uplinks = config.operators.iter().map(|operator| &operator.uplink);
    for port in access.chain(uplinks) {
        for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
            remove_filter(port, direction);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_name_their_filters() {
        let pins = Pins::new(Path::new("/sys/fs/bpf/doorstep"));
        for (hook, direction) in [
            (INGRESS_MARK, TcAttachType::Ingress),
            (EGRESS_MARK, TcAttachType::Egress),
        ] {
            let mark = pins.link(hook, 17);
            let name = mark.file_name().and_then(|name| name.to_str());
            assert_eq!(name.and_then(parse_mark), Some((direction, 17)));
        }
        for other in ["tcx-ingress-17", "filter-ingress-", "filter-17", "filter"] {
            assert_eq!(parse_mark(other), None, "{other}");
        }
    }
}
