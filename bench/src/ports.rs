//! The gateway's two ports, and which programs are on them.

use anyhow::{Context as _, Result};
use aya::programs::xdp::{XdpLink, XdpLinkId};
use aya::programs::{Xdp, XdpMode};
use doorstep_tests::lab::netns::Netns;

/// The link of a port, which belongs to no program for longer than a measurement.
pub struct Place {
    link: Option<XdpLink>,
    ifindex: u32,
}

impl Place {
    pub const fn new(ifindex: u32) -> Self {
        Self {
            link: None,
            ifindex,
        }
    }

    /// Puts a program on the port, natively, in place of what is there. The calling thread ends up
    /// in the port's namespace.
    pub fn put(&mut self, netns: &Netns, program: &mut Xdp) -> Result<()> {
        let id: XdpLinkId = match self.link.take() {
            Some(link) => program.attach_to_link(link)?,
            None => {
                netns.enter()?;
                program
                    .attach_to_if_index(self.ifindex, XdpMode::Driver)
                    .with_context(|| format!("attaching to port {} of the lab", self.ifindex))?
            }
        };
        self.link = Some(program.take_link(id)?);
        Ok(())
    }

    /// Takes the program off.
    pub fn clear(&mut self) {
        self.link = None;
    }
}
