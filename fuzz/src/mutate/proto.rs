//! Changes of protobuf messages, by the wire format alone.

use prost::bytes::{Buf, BufMut};
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};
use rand::Rng;
use rand::seq::IndexedRandom as _;

/// Ends of the types' ranges.
const NUMBERS: [u64; 14] = [
    0,
    1,
    7,
    8,
    255,
    256,
    65_535,
    65_536,
    u32::MAX as u64,
    i64::MAX as u64,
    i64::MIN as u64,
    u64::MAX - 1,
    u64::MAX,
    1_000_000_000_001,
];

/// Deepest message in a message that is changed.
const DEPTH: u32 = 6;

#[derive(Clone, Debug, PartialEq)]
struct Field {
    number: u32,
    value: Value,
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    Bytes(Vec<u8>),
}

pub(super) fn change(rng: &mut impl Rng, words: &[&str], input: &mut Vec<u8>, other: &[u8]) {
    change_at(rng, words, input, other, DEPTH);
}

fn change_at(rng: &mut impl Rng, words: &[&str], input: &mut Vec<u8>, other: &[u8], depth: u32) {
    let Some(mut fields) = parse(input) else {
        return super::bytes::change(rng, words, input, other);
    };
    let others = parse(other).unwrap_or_default();
    let at = rng.random_range(0..=fields.len());
    match rng.random_range(0..12) {
        0 if at < fields.len() => {
            fields.remove(at);
        }
        1 => {
            let further = match rng.random() {
                true => others.choose(rng),
                false => fields.choose(rng),
            };
            if let Some(field) = further.cloned() {
                fields.insert(at, field);
            }
        }
        2 if at < fields.len() => fields[at].number = rng.random_range(1..=16),
        3 => {
            let number = rng.random_range(1..=16);
            let value = Value::Varint(number_of(rng));
            fields.insert(at, Field { number, value });
        }
        _ => {
            if let Some(field) = fields.get_mut(at.saturating_sub(1)) {
                value(rng, words, field, &others, depth);
            }
        }
    }
    *input = write(&fields);
}

fn value(rng: &mut impl Rng, words: &[&str], field: &mut Field, others: &[Field], depth: u32) {
    match &mut field.value {
        Value::Varint(number) => {
            *number = match rng.random_range(0..3) {
                0 => number.wrapping_add(1),
                1 => number.wrapping_sub(1),
                _ => number_of(rng),
            }
        }
        Value::Fixed64(bytes) => rng.fill(bytes),
        Value::Fixed32(bytes) => rng.fill(bytes),
        Value::Bytes(bytes) => {
            // Text is seldom a message by chance, but three bytes may be.
            let is_text = bytes.len() > 3 && bytes.iter().all(u8::is_ascii_graphic);
            let same = others.iter().find_map(|other| match &other.value {
                Value::Bytes(bytes) if other.number == field.number => Some(bytes.as_slice()),
                _ => None,
            });
            let other = same.unwrap_or_default();
            if depth > 0 && !is_text && !bytes.is_empty() && parse(bytes).is_some() {
                change_at(rng, words, bytes, other, depth - 1);
            } else if is_text && rng.random_bool(0.8) {
                super::text::change(rng, words, bytes, other);
            } else {
                super::bytes::change(rng, words, bytes, other);
            }
        }
    }
}

fn number_of(rng: &mut impl Rng) -> u64 {
    NUMBERS.choose(rng).copied().unwrap_or_default()
}

/// None if it is no message, or has groups.
fn parse(mut bytes: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while bytes.has_remaining() {
        let (number, wire_type) = decode_key(&mut bytes).ok()?;
        let value = match wire_type {
            WireType::Varint => Value::Varint(decode_varint(&mut bytes).ok()?),
            WireType::SixtyFourBit => Value::Fixed64(take(&mut bytes)?),
            WireType::ThirtyTwoBit => Value::Fixed32(take(&mut bytes)?),
            WireType::LengthDelimited => {
                let len = usize::try_from(decode_varint(&mut bytes).ok()?).ok()?;
                let (value, rest) = bytes.split_at_checked(len)?;
                bytes = rest;
                Value::Bytes(value.to_vec())
            }
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        fields.push(Field { number, value });
    }
    Some(fields)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (value, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*value)
}

fn write(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    for Field { number, value } in fields {
        match value {
            Value::Varint(value) => {
                encode_key(*number, WireType::Varint, &mut out);
                encode_varint(*value, &mut out);
            }
            Value::Fixed64(bytes) => {
                encode_key(*number, WireType::SixtyFourBit, &mut out);
                out.put_slice(bytes);
            }
            Value::Fixed32(bytes) => {
                encode_key(*number, WireType::ThirtyTwoBit, &mut out);
                out.put_slice(bytes);
            }
            Value::Bytes(bytes) => {
                encode_key(*number, WireType::LengthDelimited, &mut out);
                encode_varint(bytes.len() as u64, &mut out);
                out.put_slice(bytes);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use doorstep_proto::v1 as pb;
    use prost::Message as _;

    use super::*;

    #[test]
    fn a_message_comes_back() {
        let message = pb::Connect {
            session_id: "0190f3e8-0000-7000-8000-000000000001".into(),
            generation: u64::MAX,
            dns: vec!["192.0.2.53".into(), "2001:db8::53".into()],
            service: Some(pb::Service {
                priority: 7,
                ..pb::Service::default()
            }),
            ..pb::Connect::default()
        };
        let bytes = message.encode_to_vec();
        let fields = parse(&bytes).expect("a message");
        assert_eq!(fields.len(), 5);
        assert_eq!(write(&fields), bytes);
        assert_eq!(parse(&bytes[..bytes.len() - 1]), None);
    }
}
