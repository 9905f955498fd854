//! What may be told, key by key. Everything else is left out.
//!
//! A [`Shape`] is an allow-list: of an object only the keys that it names, of a value only what has the
//! form that it says. There is none for free text: errors, details and descriptions may quote anything.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Map, Number, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Stands where a value has not the form that its key should have.
pub const WITHHELD: &str = "(withheld)";
/// The longest name, which is longer than any that a configuration may have.
const NAME: usize = 63;
/// More digits in one name, or in a row, are no number of a port, building or version any more.
const DIGITS: usize = 10;
const RUN: usize = 6;
/// Names in a label.
const WORDS: usize = 6;
/// The greatest number that is written as text: below any phone number.
const SHORT_NUMBER: u64 = 9_999_999_999;

/// The form of a value. Null has every form.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// A number, or a short one as text.
    Number,
    Flag,
    /// Unix milliseconds, told as RFC 3339; 0 is null.
    Time,
    /// A name that somebody has given, a state, a version: up to 63 letters, digits and `._:@+-`, with
    /// few digits.
    Name,
    /// Up to six names or UUIDs with blanks between them, and no address.
    Label,
    /// An IP address, with a prefix length or a port, or none.
    Address,
    /// `https://host:port`
    Url,
    /// An absolute or relative path.
    Path,
    /// A UUID.
    Id,
    /// A location id or an access line: told only where that was asked for.
    Whereabouts,
    /// Whether there is any text, or anything in a list.
    Present,
    /// The first of these that the value has the form of.
    OneOf(&'static [Shape]),
    /// Of an object, these keys.
    Fields(&'static [(&'static str, Shape)]),
    /// Of each item of a list.
    Each(&'static Shape),
    /// Of each value of an object, by keys that are names.
    ByName(&'static Shape),
}

/// What was asked for, and how much of what was given is not told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Picking {
    /// Where homes are is told, too.
    pub locations: bool,
    /// Values with another form than their key should have.
    pub withheld: u64,
    /// Keys that the allow-list does not have.
    pub left_out: u64,
}

impl Shape {
    /// What of a value may be told.
    pub fn pick(&self, value: &Value, picking: &mut Picking) -> Value {
        let picked = match (self, value) {
            (Shape::Present, value) => {
                let text = value.as_str().is_some_and(|text| !text.is_empty());
                let items = value.as_array().is_some_and(|items| !items.is_empty());
                Some(Value::Bool(text || items))
            }
            (_, Value::Null) => Some(Value::Null),
            (Shape::OneOf(shapes), value) => shapes.iter().find_map(|shape| {
                let mut tried = *picking;
                let told = shape.pick(value, &mut tried);
                (tried.withheld == picking.withheld).then(|| {
                    *picking = tried;
                    told
                })
            }),
            (Shape::Number, Value::Number(number)) => Some(Value::Number(number.clone())),
            (Shape::Number, Value::String(text)) => short_number(text),
            (Shape::Flag, Value::Bool(_)) => Some(value.clone()),
            (Shape::Flag, Value::String(text)) => text.parse().ok().map(Value::Bool),
            (Shape::Time, Value::Number(number)) => time(number),
            (Shape::Whereabouts, Value::String(_)) if !picking.locations => {
                picking.left_out += 1;
                return Value::Null;
            }
            // An empty text stands for none.
            (_, Value::String(text)) if text.is_empty() => Some(Value::Null),
            (Shape::Name, Value::String(text)) => is_name(text).then(|| value.clone()),
            (Shape::Label, Value::String(text)) => is_label(text).then(|| value.clone()),
            (Shape::Address, Value::String(text)) => is_address(text).then(|| value.clone()),
            (Shape::Url, Value::String(text)) => is_url(text).then(|| value.clone()),
            (Shape::Path, Value::String(text)) => is_path(text).then(|| value.clone()),
            (Shape::Id, Value::String(text)) => is_id(text).then(|| value.clone()),
            (Shape::Whereabouts, Value::String(text)) => {
                (is_location(text) || is_path(text)).then(|| value.clone())
            }
            (Shape::Fields(fields), Value::Object(object)) => {
                Some(pick_fields(fields, object, picking))
            }
            (Shape::Each(shape), Value::Array(items)) => {
                let items = items.iter().map(|item| shape.pick(item, picking));
                Some(items.collect())
            }
            (Shape::ByName(shape), Value::Object(object)) => {
                Some(pick_by_name(shape, object, picking))
            }
            _ => None,
        };
        picked.unwrap_or_else(|| {
            picking.withheld += 1;
            WITHHELD.into()
        })
    }
}

fn pick_fields(
    fields: &[(&str, Shape)],
    object: &Map<String, Value>,
    picking: &mut Picking,
) -> Value {
    let mut picked = Map::new();
    for (key, value) in object {
        match fields.iter().find(|(allowed, _)| allowed == key) {
            Some((_, shape)) => {
                picked.insert(key.clone(), shape.pick(value, picking));
            }
            None => picking.left_out += 1,
        }
    }
    Value::Object(picked)
}

fn pick_by_name(shape: &Shape, object: &Map<String, Value>, picking: &mut Picking) -> Value {
    let mut picked = Map::new();
    for (key, value) in object {
        match is_name(key) {
            true => {
                picked.insert(key.clone(), shape.pick(value, picking));
            }
            false => picking.withheld += 1,
        }
    }
    Value::Object(picked)
}

fn short_number(text: &str) -> Option<Value> {
    let number: u64 = text.parse().ok()?;
    (number <= SHORT_NUMBER).then(|| number.into())
}

fn time(unix_ms: &Number) -> Option<Value> {
    match unix_ms.as_i64()? {
        0 => Some(Value::Null),
        unix_ms => moment(i128::from(unix_ms) * 1_000_000).map(Value::String),
    }
}

/// A moment as RFC 3339.
pub(super) fn moment(unix_ns: i128) -> Option<String> {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(unix_ns).ok()?;
    moment.format(&Rfc3339).ok()
}

pub(super) fn is_time(text: &str) -> bool {
    OffsetDateTime::parse(text, &Rfc3339).is_ok()
}

pub(super) fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._:@+-".contains(c);
    let runs = text.split(|c: char| !c.is_ascii_digit()).map(str::len);
    let (all, longest) = runs.fold((0, 0), |(all, longest), run| (all + run, longest.max(run)));
    (1..=NAME).contains(&text.len()) && text.chars().all(allowed) && all <= DIGITS && longest <= RUN
}

fn is_label(text: &str) -> bool {
    let mut words = 0;
    text.split(' ').all(|word| {
        words += 1;
        is_id(word) || (is_name(word) && !is_address(word))
    }) && words <= WORDS
}

pub(super) fn is_address(text: &str) -> bool {
    let prefix = text.split_once('/').is_some_and(|(address, length)| {
        let length = length.parse::<u8>().is_ok_and(|length| length <= 128);
        length && address.parse::<IpAddr>().is_ok()
    });
    prefix || text.parse::<IpAddr>().is_ok() || text.parse::<SocketAddr>().is_ok()
}

/// Without user, password, query or anything else that a URL may carry.
fn is_url(text: &str) -> bool {
    let host = ["https://", "http://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    host.is_some_and(|host| {
        is_address(host)
            || host.split_once(':').map_or_else(
                || is_host(host),
                |(host, port)| is_host(host) && port.parse::<u16>().is_ok(),
            )
    })
}

fn is_host(text: &str) -> bool {
    is_address(text) || (is_name(text) && !text.contains([':', '@', '+']))
}

fn is_path(text: &str) -> bool {
    text.len() <= 200 && text.split('/').all(|part| part.is_empty() || is_name(part))
}

/// As `110103-xinjingjiayuan-001-002-004`.
pub(super) fn is_location(text: &str) -> bool {
    let digits =
        |part: &str, length| part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = text.split('-').collect();
    let [area, community, building, unit, room] = parts[..] else {
        return false;
    };
    let community_is_one = community.bytes().all(|byte| byte.is_ascii_alphanumeric());
    digits(area, 6)
        && (1..=32).contains(&community.len())
        && community_is_one
        && [building, unit, room].iter().all(|part| digits(part, 3))
}

pub(super) fn is_id(text: &str) -> bool {
    let groups = [8, 4, 4, 4, 12];
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &&str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    parts.len() == groups.len()
        && parts
            .iter()
            .zip(groups)
            .all(|(part, length)| part.len() == length && hex(part))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_form_that_a_key_has_is_told() {
        use Shape::{Address, Flag, Id, Label, Name, Number, OneOf, Path, Present, Time, Url};
        let id = "0190f2c4-5a1e-7c3b-9d2e-1f0a5b6c7d8e";
        for (shape, told) in [
            (Number, json!(13_800_138_000_u64)),
            (Flag, json!(true)),
            (Name, json!("north-net")),
            (Name, json!("6.12.48+deb12-cloud-amd64")),
            (Name, json!("lan1.20")),
            (Address, json!("2001:db8::1")),
            (Address, json!("100.64.1.0/24")),
            (Address, json!("[::]:7443")),
            (Url, json!("https://198.51.100.10:7443")),
            (Url, json!("https://[2001:db8::1]:7443")),
            (Url, json!("https://server.example.net:7443")),
            (Path, json!("/var/lib/doorstep-server")),
            (Id, json!(id)),
            (Name, Value::Null),
            (Label, json!("access port access0")),
            (Label, json!(format!("session {id}"))),
            (OneOf(&[Number, Name]), json!("100M")),
            (OneOf(&[Number, Name]), json!(100)),
        ] {
            let mut picking = Picking::default();
            assert_eq!(shape.pick(&told, &mut picking), told, "{shape:?}");
            assert_eq!(picking, Picking::default(), "{told}");
        }
        for (shape, value, told) in [
            (Number, json!("17"), json!(17)),
            (Flag, json!("true"), json!(true)),
            (Time, json!(0), Value::Null),
            (
                Time,
                json!(1_700_000_000_000_i64),
                json!("2023-11-14T22:13:20Z"),
            ),
            (Name, json!(""), Value::Null),
            (Present, json!("the certificate has expired"), json!(true)),
            (Present, json!(""), json!(false)),
        ] {
            assert_eq!(shape.pick(&value, &mut Picking::default()), told, "{value}");
        }
        for (shape, hidden) in [
            (Number, json!("13800138000")),
            (Number, json!("seven")),
            (Name, json!("13800138000")),
            (Name, json!("11010519491231002X")),
            (Name, json!("the number is 7")),
            (Name, json!("4f6d0c2a9be31577d08a4f6d0c2a9be3")),
            (Name, json!(17)),
            (Address, json!("100.64.1")),
            (Url, json!("https://user:secret@server.example.net:7443")),
            (Url, json!("https://server.example.net/?token=x")),
            (Url, json!("postgres://doorstep:secret@db/doorstep")),
            (Label, json!("a phone of 138 0013 8000 00")),
            (Label, json!("called 13800138000")),
            (Label, json!("address 100.64.1.2")),
            (Label, json!("address 2001:db8::1")),
            (OneOf(&[Number, Flag]), json!("hush")),
            (Path, json!("/home/13800138000/x")),
            (Id, json!("0190f2c4")),
            (Flag, json!("maybe")),
        ] {
            let mut picking = Picking::default();
            assert_eq!(shape.pick(&hidden, &mut picking), WITHHELD, "{hidden}");
            assert_eq!(picking.withheld, 1, "{hidden}");
        }
    }

    #[test]
    fn where_homes_are_is_told_if_asked_for() {
        let given = json!([
            "110103-xinjingjiayuan-001-002-004",
            "access0/101.1004",
            "at home, 2nd"
        ]);
        let shape = Shape::Each(&Shape::Whereabouts);
        let mut picking = Picking::default();
        let told = shape.pick(&given, &mut picking);
        assert_eq!(told, json!([null, null, null]));
        assert_eq!((picking.withheld, picking.left_out), (0, 3));
        picking.locations = true;
        let told = shape.pick(&given, &mut picking);
        assert_eq!(told, json!([given[0], given[1], WITHHELD]));
    }

    #[test]
    fn keys_that_are_not_named_are_left_out() {
        const SHAPE: Shape = Shape::Fields(&[
            ("name", Shape::Name),
            ("ports", Shape::Each(&Shape::Fields(&[("up", Shape::Flag)]))),
            ("counts", Shape::ByName(&Shape::Number)),
        ]);
        let given = json!({
            "name": "gw1",
            "phone": "13800138000",
            "ports": [{"up": true, "mac": "02:00:00:00:00:01"}],
            "counts": {"seen": 7, "13800138000": 1, "said": "13800138000"},
        });
        let mut picking = Picking::default();
        let told = json!({
            "name": "gw1",
            "ports": [{"up": true}],
            "counts": {"seen": 7, "said": WITHHELD},
        });
        assert_eq!(SHAPE.pick(&given, &mut picking), told);
        assert_eq!((picking.withheld, picking.left_out), (2, 2));
    }
}
