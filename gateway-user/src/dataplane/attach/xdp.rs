//! XDP programs.
//!
//! A port has one of them, in one mode. A link can change its program but not its mode, and the
//! kernel refuses a second mode beside the first.

use std::path::PathBuf;

use aya::programs::{Xdp, XdpMode as AyaXdpMode};
use tracing::{debug, warn};

use super::link::{Link, Place};
use super::{adopted, describe, keep, take_off};
use crate::config::XdpMode;
use crate::dataplane::DataplaneError;
use crate::dataplane::pins::Pins;
use crate::dataplane::ports::Port;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Native,
    Generic,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    fn pin(self, pins: &Pins, port: &Port) -> PathBuf {
        pins.link(&format!("xdp-{}", self.name()), port.ifindex)
    }
}

/// What to try, in this order.
fn modes(mode: XdpMode) -> &'static [Mode] {
    match mode {
        XdpMode::Auto => &[Mode::Native, Mode::Generic],
        XdpMode::Native => &[Mode::Native],
        XdpMode::Generic => &[Mode::Generic],
    }
}

/// Where the program is now.
pub(super) struct Attached {
    pub(super) mode: &'static str,
    pub(super) pin: PathBuf,
    /// Id of the program that was there.
    pub(super) former: Option<u32>,
}

/// Puts the program on a port. A link of an allowed mode stays and changes its program between two
/// packets, so that `auto` keeps the mode that a port has; one of another mode makes way.
pub(super) fn attach(
    xdp: &mut Xdp,
    name: &'static str,
    mode: XdpMode,
    pins: &Pins,
    port: &Port,
) -> Result<Attached, DataplaneError> {
    let modes = modes(mode);
    let mut former = None;
    for pin in pins.links()? {
        let Ok(link) = Link::open(&pin) else { continue };
        if !link.is_at(Place::Xdp, port.ifindex) {
            continue;
        }
        let found = [Mode::Native, Mode::Generic]
            .into_iter()
            .find(|mode| pin == mode.pin(pins, port));
        if let Some(mode) = found.filter(|mode| modes.contains(mode)) {
            let updated = adopted(&pin)
                .and_then(|link| xdp.attach_to_link(link).map_err(describe))
                .and_then(|id| keep(xdp.take_link(id), None));
            match updated {
                Ok(()) => {
                    return Ok(Attached {
                        mode: mode.name(),
                        pin,
                        former: Some(link.program_id),
                    });
                }
                Err(error) => debug!(port = port.name, error, "a pinned link is of no use"),
            }
        }
        former = found.or(former);
        take_off(&pin)?;
    }

    let mut refusals = Vec::new();
    for mode in modes {
        match create(xdp, *mode, pins, port)? {
            Ok(attached) => return Ok(attached),
            Err(error) => refusals.push(format!("{}: {error}", mode.name())),
        }
    }
    // The port forwarded until now; it goes on as it did.
    if let Some(former) = former
        && let Err(error) = create(xdp, former, pins, port)?
    {
        refusals.push(format!("{} again: {error}", former.name()));
    }
    Err(DataplaneError::Attach {
        program: name,
        port: port.name.clone(),
        what: refusals.join("; "),
    })
}

fn create(
    xdp: &mut Xdp,
    mode: Mode,
    pins: &Pins,
    port: &Port,
) -> Result<Result<Attached, String>, DataplaneError> {
    let pin = mode.pin(pins, port);
    // A link of a device that had the same index before.
    if pin.exists() {
        take_off(&pin)?;
    }
    let flag = match mode {
        Mode::Native => AyaXdpMode::Driver,
        Mode::Generic => AyaXdpMode::Skb,
    };
    let created = xdp
        .attach_to_if_index(port.ifindex, flag)
        .map_err(describe)
        .and_then(|id| keep(xdp.take_link(id), Some(&pin)));
    if created.is_ok() && mode == Mode::Generic {
        warn!(
            port = port.name,
            "generic XDP: slower than the driver's own"
        );
    }
    Ok(created.map(|()| Attached {
        mode: mode.name(),
        pin,
        former: None,
    }))
}
