//! The classic BPF program that lets establishment datagrams through, and nothing else: a WAN
//! port carries a home's whole traffic, which must not wake the daemon.

use doorstep_establish::{TPID_8021AD, TPID_8021Q, UDP_PORT};
use libc::sock_filter;

const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const ETHERTYPE_IPV6: u32 = 0x86dd;
const NEXT_HEADER_UDP: u32 = 17;
const WHOLE_PACKET: u32 = 0xffff;

/// Instructions of one attempt: EtherType, next header and port at a given depth of tags.
const ATTEMPT_LEN: usize = 8;

/// Tries without a tag, with one and with two.
pub(super) fn establishment() -> Vec<sock_filter> {
    let mut program = Vec::new();
    for depth in 0..3u32 {
        let ether_type = 12 + 4 * depth;
        let ip = ether_type + 2;
        // Offsets of jumps count from the next instruction; the last one of an attempt rejects.
        program.extend([
            op(LOAD_HALF, 0, 0, ether_type),
            // A tag: the next attempt looks behind it. The last attempt rejects instead.
            op(JUMP_EQUAL, tag_jump(1, depth), 0, TPID_8021Q.into()),
            op(JUMP_EQUAL, tag_jump(2, depth), 0, TPID_8021AD.into()),
            op(JUMP_EQUAL, 0, end_jump(3), ETHERTYPE_IPV6),
            op(LOAD_BYTE, 0, 0, ip + 6),
            op(JUMP_EQUAL, 0, end_jump(5), NEXT_HEADER_UDP),
            op(LOAD_HALF, 0, 0, ip + 40 + 2),
            op(JUMP_EQUAL, 1, 0, UDP_PORT.into()),
            op(RETURN, 0, 0, 0),
            op(RETURN, 0, 0, WHOLE_PACKET),
        ]);
    }
    program
}

/// From instruction `at` of an attempt to the next attempt, or to the last one's rejection.
fn tag_jump(at: usize, depth: u32) -> u8 {
    let next_attempt = ATTEMPT_LEN + 2;
    let target = if depth < 2 { next_attempt } else { ATTEMPT_LEN };
    u8::try_from(target - at - 1).unwrap_or(0)
}

/// From instruction `at` of an attempt to its rejection.
fn end_jump(at: usize) -> u8 {
    u8::try_from(ATTEMPT_LEN - at - 1).unwrap_or(0)
}

fn op(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use doorstep_establish::frame::{self, Envelope};
    use doorstep_establish::{Mac, Tags};

    use super::*;

    /// Runs the program as the kernel does: a load beyond the packet rejects it.
    fn run(program: &[sock_filter], packet: &[u8]) -> u32 {
        let (mut at, mut a) = (0, 0u32);
        loop {
            let op = program[at];
            at += 1;
            let k = op.k as usize;
            match op.code {
                LOAD_HALF => match packet.get(k..k + 2) {
                    Some(bytes) => a = u32::from(bytes[0]) << 8 | u32::from(bytes[1]),
                    None => return 0,
                },
                LOAD_BYTE => match packet.get(k) {
                    Some(byte) => a = (*byte).into(),
                    None => return 0,
                },
                JUMP_EQUAL => at += usize::from(if a == op.k { op.jt } else { op.jf }),
                RETURN => return op.k,
                code => panic!("instruction {code}"),
            }
        }
    }

    #[test]
    fn takes_the_exchange_under_any_tags_and_nothing_else() {
        let program = establishment();
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        for vids in [&[][..], &[101], &[101, 1004]] {
            let tags = Tags::from_vids(vids).unwrap();
            let wire = frame::build(&Envelope::to_line(mac, tags), b"datagram");
            assert_eq!(run(&program, &wire), WHOLE_PACKET, "{tags}");
            let ether_type = 12 + 4 * vids.len();
            let cases = [
                ("IPv4", ether_type, 8),
                ("TCP", ether_type + 8, 6),
                ("port", ether_type + 45, 1),
            ];
            for (name, at, value) in cases {
                let mut other = wire.clone();
                other[at] = value;
                assert_eq!(run(&program, &other), 0, "{name} under {tags}");
            }
            for len in 0..wire.len() - 12 {
                assert_eq!(run(&program, &wire[..len]), 0, "cut to {len} under {tags}");
            }
        }
        let two = frame::build(
            &Envelope::to_line(mac, Tags::from_vids(&[1, 2]).unwrap()),
            b"datagram",
        );
        let three = [&two[..12], &[0x81, 0, 0, 3], &two[12..]].concat();
        assert_eq!(run(&program, &three), 0);
    }
}
