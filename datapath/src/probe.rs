//! Whether a session is alive, asked by its terminal and answered here: 32 bytes in a datagram of the
//! establishment exchange's port, told from its messages by a first byte with which none begins.
//!
//! ```text
//!  0        4        8          16       24       32
//!  │ magic  │ slot   │ sequence │ nonce  │ tag    │
//! ```
//!
//! Slot and sequence number are in network order. The tag is SipHash-2-4 over what is before it, least
//! byte first, under a key that gateway and terminal derive from the session's. The answer says the same
//! with another magic and the highest sequence number that has come, under a tag of its own.

use doorstep_gateway_common::Reason;
use doorstep_gateway_common::liveness::{Liveness, packed};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::arp::turn_around;
use crate::headers::{IPV6_LEN, Udp, protocol};
use crate::nd::{self, GATEWAY_LINK_LOCAL, fold, halves};
use crate::upstream::Arrival;
use crate::{Frame, Tables, Verdict, meter};

/// Of a question. A protobuf message never begins with a zero byte.
const ASK: u32 = u32::from_ne_bytes([0, b'd', b's', 1]);
/// Of an answer.
const ANSWER: u32 = u32::from_ne_bytes([0, b'd', b's', 2]);

/// Fields of the IPv6 header.
const SOURCE: usize = 8;
const DESTINATION: usize = 24;

const UDP_LEN: usize = size_of::<Udp>();
/// Of the UDP header and what is in it.
const DATAGRAM_LEN: u16 = (UDP_LEN + size_of::<Probe>()) as u16;

/// Question or answer.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
struct Probe {
    magic: u32,
    slot_be: u32,
    sequence_be: u64,
    nonce: u64,
    tag: u64,
}

const _: () = assert!(size_of::<Probe>() == 32);

impl Probe {
    #[inline(always)]
    fn words(&self) -> [u64; 3] {
        let [a, b, c, d] = self.magic.to_ne_bytes();
        let [e, f, g, h] = self.slot_be.to_ne_bytes();
        let head = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        [
            head,
            u64::from_le_bytes(self.sequence_be.to_ne_bytes()),
            u64::from_le_bytes(self.nonce.to_ne_bytes()),
        ]
    }
}

/// Whether the datagram whose UDP header is at `offset` is a question, not a message for the daemon.
#[inline(always)]
pub(crate) fn is_probe<F: Frame>(frame: &F, offset: usize, udp: &Udp) -> bool {
    udp.len_be == DATAGRAM_LEN.to_be() && frame.load::<u32>(offset + UDP_LEN) == Some(ASK)
}

/// Turns a question into its answer, if it is the session's own terminal that asks.
#[inline(never)]
pub(crate) fn answer<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    ifindex: u32,
) -> Result<Verdict, Reason> {
    let Arrival { link, line } = &Arrival::of(frame, ifindex)?;
    let udp_at = link.len + IPV6_LEN;
    let body = udp_at + UDP_LEN;
    let mut probe: Probe = frame.load(body).ok_or(Reason::Truncated)?;
    nd::check_line(tables, line)?;
    // Before the tag: whoever guesses is not to keep the gateway busy.
    meter::answer(tables, line)?;
    let session = tables.liveness(u32::from_be(probe.slot_be));
    let session = session.ok_or(Reason::ProbeRefused)?;
    let key = [session.key[0].get(), session.key[1].get()];
    if session.line.get() != packed(line) || siphash(key, probe.words()) != u64::from_le(probe.tag)
    {
        return Err(Reason::ProbeRefused);
    }
    probe.magic = ANSWER;
    probe.sequence_be = heard(session, u64::from_be(probe.sequence_be), tables.now_ns()).to_be();
    probe.tag = siphash(key, probe.words()).to_le();
    let udp: Udp = frame.load(udp_at).ok_or(Reason::Truncated)?;
    let terminal: [u8; 16] = frame.load(link.len + SOURCE).ok_or(Reason::Truncated)?;
    let mut udp = Udp {
        source_be: udp.destination_be,
        destination_be: udp.source_be,
        checksum_be: 0,
        ..udp
    };
    udp.checksum_be = checksum(&terminal, &udp, &probe);
    frame.store(body, probe).ok_or(Reason::Truncated)?;
    frame.store(udp_at, udp).ok_or(Reason::Truncated)?;
    frame
        .store(link.len + SOURCE, GATEWAY_LINK_LOCAL)
        .ok_or(Reason::Truncated)?;
    frame
        .store(link.len + DESTINATION, terminal)
        .ok_or(Reason::Truncated)?;
    turn_around(frame, link, tables.globals().gateway_mac)?;
    // Not as what is answered otherwise: between virtual ports that waits for the next packet, which may
    // be long in coming from a home that sleeps.
    Ok(Verdict::Forward(Reason::ProbeAnswered, ifindex))
}

/// Notes a sign of life; the highest number that has come. One that has been there is a replay, which
/// is answered, as it might be a terminal that has forgotten where it was, and changes nothing.
#[inline(always)]
fn heard(session: &Liveness, sequence: u64, now_ns: u64) -> u64 {
    let last = session.sequence();
    match u32::try_from(sequence) {
        Ok(new) if new > last => session.hear(new, now_ns),
        // Nobody asks so often that the half of a word does not hold it.
        _ => return last.into(),
    }
    sequence
}

/// RFC 768 and RFC 8200 section 8.1, in wire order; see [`fold`]. Zero means that there is none, and is
/// sent as its complement.
#[inline(always)]
fn checksum(terminal: &[u8; 16], udp: &Udp, probe: &Probe) -> u16 {
    const LOW: u64 = 0xffff_ffff;
    let mut sum = halves(&GATEWAY_LINK_LOCAL) + halves(terminal);
    sum += u64::from(udp.len_be) + u64::from(u16::from(protocol::UDP).to_be());
    sum += u64::from(udp.source_be) + u64::from(udp.destination_be) + u64::from(udp.len_be);
    sum += u64::from(probe.magic) + u64::from(probe.slot_be);
    sum += (probe.sequence_be & LOW) + (probe.sequence_be >> 32);
    sum += (probe.nonce & LOW) + (probe.nonce >> 32);
    sum += (probe.tag & LOW) + (probe.tag >> 32);
    match fold(sum) {
        0 => 0xffff,
        sum => sum,
    }
}

/// SipHash-2-4 of 24 bytes, by the words that they are, least byte first (Aumasson and Bernstein,
/// "SipHash: a fast short-input PRF", 2012). Written out because it runs in the kernel; the terminal's
/// is a library's, and the two are held against each other by a test.
#[inline(always)]
pub fn siphash(key: [u64; 2], words: [u64; 3]) -> u64 {
    let mut v = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    // The last word has the length in its highest byte, and what is left of the message: nothing.
    const LAST: u64 = 24 << 56;
    let [first, second, third] = words;
    absorb(&mut v, first);
    absorb(&mut v, second);
    absorb(&mut v, third);
    absorb(&mut v, LAST);
    v[2] ^= 0xff;
    round(&mut v);
    round(&mut v);
    round(&mut v);
    round(&mut v);
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[inline(always)]
fn absorb(v: &mut [u64; 4], word: u64) {
    v[3] ^= word;
    round(v);
    round(v);
    v[0] ^= word;
}

#[inline(always)]
fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The authors' vector for the message 00 01 .. 17 under the key 00 01 .. 0f.
    #[test]
    fn hashes_as_the_authors_do() {
        let word = |first: u8| u64::from_le_bytes(std::array::from_fn(|at| first + at as u8));
        let key = [word(0), word(8)];
        let message = [word(0), word(8), word(16)];
        let hash = siphash(key, message).to_le_bytes();
        assert_eq!(hash, [0x94, 0xaf, 0x49, 0xf6, 0xc6, 0x50, 0xad, 0xb8]);
    }

    #[test]
    fn only_a_number_that_has_not_been_there_is_a_sign_of_life() {
        let session = Liveness::default();
        session.line.set(1);
        const SECOND: u64 = 1_000_000_000;
        for (sequence, now, last, heard_at) in [
            (5, 100, 5, 100),
            (5, 200, 5, 100),
            (4, 300, 5, 100),
            (6, 400, 6, 400),
            (1 << 32 | 7, 500, 6, 400),
        ] {
            assert_eq!(heard(&session, sequence, now * SECOND), last);
            let silent_ns = session.silent_ns(now * SECOND).unwrap();
            let off_ns = ((now - heard_at) * SECOND).abs_diff(silent_ns);
            assert!(off_ns < SECOND / 3, "{sequence}: {silent_ns}");
        }
    }
}
