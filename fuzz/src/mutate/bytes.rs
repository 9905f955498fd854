//! Changes that know nothing of what the bytes mean.

use rand::Rng;
use rand::seq::IndexedRandom as _;

/// Bytes at which something often changes: signs, ends of ranges, what text is made of.
const BYTES: [u8; 12] = [
    0, 1, 0x7f, 0x80, 0xff, 0xfe, b' ', b'\n', b'0', b'-', b'"', b'/',
];

/// Longest piece that is put in, taken out or written twice.
const PIECE: usize = 64;

pub(super) fn change(rng: &mut impl Rng, words: &[&str], input: &mut Vec<u8>, other: &[u8]) {
    let at = rng.random_range(0..=input.len());
    match rng.random_range(0..10) {
        0 | 1 if at < input.len() => input[at] ^= 1 << rng.random_range(0..8),
        2 if at < input.len() => input[at] = pick(rng, &BYTES),
        3 if at < input.len() => {
            let step = rng.random_range(1..=4);
            input[at] = match rng.random() {
                true => input[at].wrapping_add(step),
                false => input[at].wrapping_sub(step),
            };
        }
        4 => {
            let end = (at + rng.random_range(1..=PIECE)).min(input.len());
            input.drain(at..end);
        }
        5 => {
            let end = (at + rng.random_range(1..=PIECE)).min(input.len());
            let piece = input[at..end].to_vec();
            let to = rng.random_range(0..=input.len());
            input.splice(to..to, piece);
        }
        6 => {
            let from = rng.random_range(0..=other.len());
            let piece = &other[from..(from + rng.random_range(1..=PIECE)).min(other.len())];
            input.splice(at..at, piece.iter().copied());
        }
        7 => {
            let word = words.choose(rng).copied().unwrap_or_default();
            input.splice(at..at, word.bytes());
        }
        8 => input.truncate(at),
        _ => {
            let mut piece = [0; 4];
            rng.fill_bytes(&mut piece);
            let len = rng.random_range(1..=piece.len());
            input.splice(at..at, piece[..len].iter().copied());
        }
    }
}

fn pick(rng: &mut impl Rng, from: &[u8]) -> u8 {
    from.choose(rng).copied().unwrap_or_default()
}
