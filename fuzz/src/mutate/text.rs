//! Changes of text: lines, words, numbers.

use std::ops::Range;

use rand::Rng;
use rand::seq::IndexedRandom as _;

/// What is written where a number stands: ends of the types' ranges, and what is no number.
const NUMBERS: [&str; 20] = [
    "0",
    "1",
    "-1",
    "2",
    "7",
    "8",
    "48",
    "63",
    "64",
    "65",
    "128",
    "255",
    "256",
    "4094",
    "4095",
    "65535",
    "65536",
    "4294967295",
    "18446744073709551616",
    "1e9",
];

/// What is written between words.
const MARKS: [&str; 24] = [
    " ",
    "\t",
    "\n",
    "\r\n",
    "\r",
    ",",
    ".",
    "-",
    "/",
    ":",
    "=",
    "\"",
    "'",
    "#",
    "[",
    "]",
    "{",
    "}",
    "\\",
    "\0",
    "\u{feff}",
    "é",
    "０",
    "\u{10ffff}",
];

pub(super) fn change(rng: &mut impl Rng, words: &[&str], input: &mut Vec<u8>, other: &[u8]) {
    let mut text = String::from_utf8_lossy(input).into_owned();
    if rng.random_bool(0.25) {
        lines(rng, &mut text, &String::from_utf8_lossy(other));
    } else {
        word(rng, words, &mut text, &String::from_utf8_lossy(other));
    }
    *input = text.into_bytes();
}

/// Takes a line out, or puts one in: its own, or one of another text.
fn lines(rng: &mut impl Rng, text: &mut String, other: &str) {
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    let at = rng.random_range(0..=lines.len());
    let further: Vec<&str> = match rng.random() {
        true => other.split_inclusive('\n').collect(),
        false => lines.clone(),
    };
    match rng.random_range(0..3) {
        0 if at < lines.len() => {
            lines.remove(at);
        }
        1 if at < lines.len() => {
            let with = rng.random_range(0..lines.len());
            lines.swap(at, with);
        }
        _ => lines.insert(at, further.choose(rng).copied().unwrap_or("\n")),
    }
    *text = lines.concat();
}

/// Writes something else for a word or a mark, or puts something before it.
fn word(rng: &mut impl Rng, words: &[&str], text: &mut String, other: &str) {
    let tokens = tokens(text);
    let at = tokens.choose(rng).cloned().unwrap_or_default();
    let old = &text[at.clone()];
    let is_number = !old.is_empty() && old.bytes().all(|byte| byte.is_ascii_digit());
    let new = match rng.random_range(0..8) {
        0..4 if is_number => NUMBERS.choose(rng).copied().unwrap_or_default().to_owned(),
        0 => String::new(),
        1 => [old, old].concat(),
        2 => words.choose(rng).copied().unwrap_or_default().to_owned(),
        3 => NUMBERS.choose(rng).copied().unwrap_or_default().to_owned(),
        4 => MARKS.choose(rng).copied().unwrap_or_default().to_owned(),
        5 => match rng.random() {
            true => old.to_uppercase(),
            false => old.repeat(rng.random_range(2..40)),
        },
        6 => beside(rng, old),
        _ => self::tokens(other)
            .choose(rng)
            .map(|range| other[range.clone()].to_owned())
            .unwrap_or_default(),
    };
    let place = match rng.random_bool(0.7) {
        true => at,
        false => at.start..at.start,
    };
    text.replace_range(place, &new);
}

/// The number beside it; a word that is no number loses its first or last character.
fn beside(rng: &mut impl Rng, old: &str) -> String {
    if let Ok(number) = old.parse::<u64>() {
        let next = match rng.random() {
            true => number.wrapping_add(1),
            false => number.wrapping_sub(1),
        };
        return format!("{next:0width$}", width = old.len());
    }
    let mut chars = old.chars();
    match rng.random() {
        true => chars.next(),
        false => chars.next_back(),
    };
    chars.as_str().to_owned()
}

/// Runs of letters and digits, and each character between them.
fn tokens(text: &str) -> Vec<Range<usize>> {
    let mut tokens: Vec<Range<usize>> = Vec::new();
    let mut in_word = false;
    for (start, char) in text.char_indices() {
        let end = start + char.len_utf8();
        let is_word = char.is_alphanumeric() || char == '_';
        match tokens.last_mut() {
            Some(last) if is_word && in_word => last.end = end,
            _ => tokens.push(start..end),
        }
        in_word = is_word;
    }
    tokens
}
