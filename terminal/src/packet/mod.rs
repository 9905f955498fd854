//! A packet socket on a WAN port: whole Ethernet frames, with their VLAN tags.
//!
//! The kernel takes the outer tag off a frame and hands it over beside the packet
//! (`PACKET_AUXDATA`); an inner one stays in the data. [`Port::receive`] puts the frame together
//! again, so that the rest of the program sees what was on the wire.

mod filter;
mod sys;

use std::io;

use tokio::io::unix::AsyncFd;

/// Longest frame taken: any establishment datagram with two tags fits.
const MAX_FRAME_LEN: usize = 2048;
/// Where the outer tag belongs: after the two addresses.
const TAG_OFFSET: usize = 12;

/// What a packet socket hears besides its own address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hearing {
    /// All multicast, which is where requests go.
    Multicast,
    /// Everything: some network cards drop frames of VLANs that nobody has announced.
    Everything,
}

/// A packet socket that hears establishment datagrams on one interface.
#[derive(Debug)]
pub struct Port {
    socket: AsyncFd<sys::PacketSocket>,
}

impl Port {
    /// Opens it on the interface with this number, within a tokio runtime. Needs CAP_NET_RAW.
    pub fn open(index: u32, hearing: Hearing) -> io::Result<Self> {
        // Deaf until it is bound, filtered from the first frame on.
        let socket = sys::PacketSocket::new()?;
        socket.attach(&filter::establishment())?;
        socket.hear_tags()?;
        socket.ignore_outgoing()?;
        socket.bypass_queues()?;
        socket.bind(index)?;
        socket.join(index, hearing == Hearing::Everything)?;
        Ok(Self {
            socket: socket.register()?,
        })
    }

    /// The next frame as it was on the wire.
    pub async fn receive(&self) -> io::Result<Vec<u8>> {
        loop {
            let mut ready = self.socket.readable().await?;
            if let Ok(result) = ready.try_io(|socket| receive(socket.get_ref())) {
                return result;
            }
        }
    }

    /// Sends a whole frame.
    pub async fn send(&self, frame: &[u8]) -> io::Result<()> {
        loop {
            let mut ready = self.socket.writable().await?;
            if let Ok(result) = ready.try_io(|socket| socket.get_ref().send(frame)) {
                return result;
            }
        }
    }
}

fn receive(socket: &sys::PacketSocket) -> io::Result<Vec<u8>> {
    let mut buffer = [0; MAX_FRAME_LEN];
    let (len, tag) = socket.receive(&mut buffer)?;
    Ok(put_together(&buffer[..len.min(MAX_FRAME_LEN)], tag))
}

/// Inserts the tag that came beside the packet.
fn put_together(data: &[u8], tag: Option<sys::BesideTag>) -> Vec<u8> {
    match tag {
        Some(tag) if data.len() >= TAG_OFFSET => {
            let (addresses, rest) = data.split_at(TAG_OFFSET);
            [
                addresses,
                &tag.tpid.to_be_bytes(),
                &tag.tci.to_be_bytes(),
                rest,
            ]
            .concat()
        }
        _ => data.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use doorstep_establish::frame::{self, Envelope};
    use doorstep_establish::{Mac, Tags};

    use super::*;

    #[test]
    fn the_outer_tag_is_put_back() {
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        for vids in [&[101][..], &[101, 1004]] {
            let tags = Tags::from_vids(vids).unwrap();
            let wire = frame::build(&Envelope::to_line(mac, tags), b"datagram");
            let outer = tags.as_slice()[0];
            let stripped = [&wire[..12], &wire[16..]].concat();
            // Priority and drop-eligible bits come along.
            let beside = sys::BesideTag {
                tpid: outer.tpid,
                tci: outer.vid | 0xf000,
            };
            let whole = put_together(&stripped, Some(beside));
            assert_eq!(frame::parse(&whole).unwrap().envelope.tags, tags);
            assert_eq!(put_together(&wire, None), wire);
        }
    }
}
