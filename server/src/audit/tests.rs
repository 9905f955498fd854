//! Whatever is done to a log of whatever content is found, and the first bad entry is named.

use std::borrow::Cow;

use proptest::prelude::*;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::export::{self, Line, Reader};
use super::*;

fn key(byte: u8) -> AuditKey {
    AuditKey::new(Zeroizing::new([byte; 32]))
}

fn event() -> impl Strategy<Value = Event> {
    let id = || proptest::option::of(any::<u128>().prop_map(Uuid::from_u128));
    // Short texts of few letters, so that boundaries between fields come to lie everywhere.
    (
        any::<i64>(),
        "[ab]{0,3}",
        "[ab]{0,3}",
        id(),
        id(),
        ".{0,12}",
    )
        .prop_map(|(at_ms, who, action, subscriber, session, detail)| Event {
            at_ms,
            who: Cow::Owned(who),
            action: Cow::Owned(action),
            subscriber,
            session,
            detail,
        })
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    proptest::collection::vec(event(), 1..12)
}

/// The log, and the head after each entry, from the empty one on.
fn build(key: &AuditKey, events: Vec<Event>) -> (Vec<Chained>, Vec<Head>) {
    let mut heads = vec![key.empty()];
    let log = events
        .into_iter()
        .map(|event| {
            let mut head = *heads.last().unwrap();
            let chained = key.append(&mut head, event);
            heads.push(head);
            chained
        })
        .collect();
    (log, heads)
}

fn verify(
    key: &AuditKey,
    log: &[Chained],
    head: &Head,
    anchor: Option<Head>,
) -> Result<u64, Fault> {
    let mut verifier = Verifier::new(key, anchor)?;
    for chained in log {
        verifier.push(chained)?;
    }
    verifier.finish(head)
}

fn first_bad(key: &AuditKey, log: &[Chained], head: &Head) -> Option<u64> {
    verify(key, log, head, None).unwrap_err().first_bad()
}

/// Reads an entry back from its encoding: that this can be done shows that no two share one.
fn decode(bytes: &[u8]) -> Option<Entry> {
    fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
        let (taken, left) = rest.split_at_checked(count)?;
        *rest = left;
        Some(taken)
    }
    fn text(rest: &mut &[u8]) -> Option<String> {
        let length = u64::from_be_bytes(take(rest, 8)?.try_into().ok()?);
        String::from_utf8(take(rest, usize::try_from(length).ok()?)?.to_vec()).ok()
    }
    fn id(rest: &mut &[u8]) -> Option<Option<Uuid>> {
        match take(rest, 1)? {
            [0] => Some(None),
            [1] => Some(Some(Uuid::from_slice(take(rest, 16)?).ok()?)),
            _ => None,
        }
    }
    let rest = &mut &bytes[..];
    (take(rest, 1)? == [entry::VERSION]).then_some(())?;
    let entry = Entry {
        number: u64::from_be_bytes(take(rest, 8)?.try_into().ok()?),
        event: Event {
            at_ms: i64::from_be_bytes(take(rest, 8)?.try_into().ok()?),
            who: text(rest)?.into(),
            action: text(rest)?.into(),
            subscriber: id(rest)?,
            session: id(rest)?,
            detail: text(rest)?,
        },
    };
    rest.is_empty().then_some(entry)
}

proptest! {
    #[test]
    fn the_encoding_tells_entries_apart(number: u64, event in event()) {
        let entry = Entry { number, event };
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        prop_assert_eq!(decode(&bytes), Some(entry));
    }

    #[test]
    fn a_log_as_it_was_written_is_good(events in events()) {
        let key = key(1);
        let (log, heads) = build(&key, events);
        let head = heads.last().unwrap();
        for anchor in heads.iter().copied().map(Some).chain([None]) {
            prop_assert_eq!(verify(&key, &log, head, anchor), Ok(log.len() as u64));
        }
    }

    #[test]
    fn every_change_of_every_field_is_found(events in events(), bit in 0..256usize) {
        let key = key(1);
        let (log, heads) = build(&key, events);
        let head = heads.last().unwrap();
        for at in 0..log.len() {
            let changes: [&dyn Fn(&mut Chained); 7] = [
                &|c| c.entry.event.at_ms ^= 1 << (bit % 64),
                &|c| c.entry.event.who.to_mut().push('a'),
                // What moves from one field to the next leaves the bytes of the texts as they were.
                &|c| {
                    let who = c.entry.event.who.to_mut();
                    let moved = who.pop().unwrap_or('b');
                    c.entry.event.action.to_mut().insert(0, moved);
                },
                &|c| c.entry.event.detail.push('\0'),
                &|c| {
                    let session = c.entry.event.session;
                    let flipped = session.map_or(0, |id| id.as_u128() ^ 1 << (bit % 128));
                    c.entry.event.session = Some(Uuid::from_u128(flipped));
                },
                &|c| {
                    let event = &mut c.entry.event;
                    event.subscriber = match event.subscriber {
                        None => Some(Uuid::nil()),
                        Some(_) => None,
                    };
                },
                &|c| {
                    let mut bytes = *c.link.as_bytes();
                    bytes[bit / 8] ^= 1 << (bit % 8);
                    c.link = Link::from_slice(&bytes).unwrap();
                },
            ];
            for (which, change) in changes.iter().enumerate() {
                let mut bad = log.clone();
                change(&mut bad[at]);
                let found = first_bad(&key, &bad, head);
                prop_assert_eq!(found, Some(at as u64 + 1), "change {}", which);
            }
        }
    }

    #[test]
    fn removed_inserted_and_reordered_entries_are_found(events in events()) {
        let key = key(1);
        let (log, heads) = build(&key, events);
        let head = heads.last().unwrap();
        for at in 0..log.len() {
            let bad = at as u64 + 1;
            let mut gone = log.clone();
            gone.remove(at);
            prop_assert_eq!(first_bad(&key, &gone, head), Some(bad), "removed");
            // The same with the numbers made good again.
            for (index, chained) in gone.iter_mut().enumerate() {
                chained.entry.number = index as u64 + 1;
            }
            prop_assert_eq!(first_bad(&key, &gone, head), Some(bad), "removed, renumbered");

            let mut twice = log.clone();
            twice.insert(at, log[at].clone());
            prop_assert_eq!(first_bad(&key, &twice, head), Some(bad + 1), "twice");
            for (index, chained) in twice.iter_mut().enumerate() {
                chained.entry.number = index as u64 + 1;
            }
            prop_assert_eq!(first_bad(&key, &twice, head), Some(bad + 1), "twice, renumbered");

            // Of one who has the database but not the key.
            let mut theirs = heads[at];
            let mut forged = log[..at].to_vec();
            forged.push(super::tests::key(2).append(&mut theirs, log[at].entry.event.clone()));
            prop_assert_eq!(first_bad(&key, &forged, head), Some(bad), "forged");
            prop_assert_eq!(
                verify(&key, &log[..at], &theirs, None),
                Err(Fault::Head(HeadError::Seal)),
                "forged head"
            );

            for other in at + 1..log.len() {
                let mut swapped = log.clone();
                swapped.swap(at, other);
                prop_assert_eq!(first_bad(&key, &swapped, head), Some(bad), "swapped");
                let (left, right) = swapped.split_at_mut(other);
                std::mem::swap(&mut left[at].entry.number, &mut right[0].entry.number);
                prop_assert_eq!(first_bad(&key, &swapped, head), Some(bad), "swapped, renumbered");
            }
        }
    }

    #[test]
    fn a_log_that_was_cut_off_or_put_back_is_found(events in events()) {
        let key = key(1);
        let (log, heads) = build(&key, events);
        let count = log.len() as u64;
        let head = *heads.last().unwrap();
        for (kept, former) in heads.iter().enumerate().take(log.len()) {
            let last = kept as u64;
            let cut = &log[..kept];
            prop_assert_eq!(verify(&key, cut, &head, None), Err(Fault::CutOff { last, count }));
            prop_assert_eq!(
                verify(&key, &log, former, None),
                Err(Fault::Beyond { count: last })
            );
            // With the head of that time nothing in the database tells; the anchor does.
            prop_assert_eq!(verify(&key, cut, former, None), Ok(last));
            prop_assert_eq!(
                verify(&key, cut, former, Some(head)),
                Err(Fault::PutBack { last, count })
            );
            // A count that was raised or lowered has no seal.
            let raised = Head { count: count + 1, ..head };
            prop_assert_eq!(
                verify(&key, &log, &raised, None),
                Err(Fault::Head(HeadError::Seal))
            );
        }
    }

    #[test]
    fn a_log_written_anew_with_the_key_contradicts_the_anchor(events in events()) {
        let key = key(1);
        let (log, heads) = build(&key, events.clone());
        for at in 0..log.len() {
            let mut other = events.clone();
            other[at].detail.push('!');
            let (anew, new_heads) = build(&key, other);
            let head = new_heads.last().unwrap();
            prop_assert_eq!(verify(&key, &anew, head, None), Ok(log.len() as u64));
            for anchor in &heads[at + 1..] {
                prop_assert_eq!(
                    verify(&key, &anew, head, Some(*anchor)),
                    Err(Fault::WrittenAnew { count: anchor.count })
                );
            }
        }
    }

    #[test]
    fn an_export_reads_back(events in events()) {
        let key = key(1);
        let (log, heads) = build(&key, events);
        let head = *heads.last().unwrap();
        let mut text = Vec::new();
        for chained in &log {
            export::write_entry(&mut text, chained).unwrap();
        }
        export::write_head(&mut text, &head).unwrap();
        let read: Vec<Line> = Reader::new(text.as_slice()).map(Result::unwrap).collect();
        let mut written: Vec<Line> = log.into_iter().map(Line::Entry).collect();
        written.push(Line::Head(head));
        prop_assert_eq!(read, written);
    }

    #[test]
    fn heads_read_back_and_nothing_else_does(count: u64, cut in 0..200usize) {
        let head = key(1).head_for_tests(count);
        let text = head.to_string();
        prop_assert_eq!(text.parse::<Head>(), Ok(head));
        if cut < text.len() {
            prop_assert!(text[..cut].parse::<Head>().is_err());
        }
        for (from, to) in [("audit1:", "audit1:+"), ("audit1:", "audit1::"), ("audit1", "audit2")] {
            prop_assert!(text.replace(from, to).parse::<Head>().is_err());
        }
        for more in [":", "0", "\n"] {
            prop_assert!((text.clone() + more).parse::<Head>().is_err());
        }
    }
}

impl AuditKey {
    fn head_for_tests(&self, count: u64) -> Head {
        let mut head = self.empty();
        head.count = count;
        head
    }
}

#[test]
fn an_export_that_is_damaged_says_where() {
    let key = key(1);
    let mut head = key.empty();
    let mut text = Vec::new();
    let event = Event {
        at_ms: 1,
        who: "operator".into(),
        action: "forced".into(),
        subscriber: None,
        session: None,
        detail: String::new(),
    };
    let entry = key.append(&mut head, event);
    export::write_entry(&mut text, &entry).unwrap();
    export::write_head(&mut text, &head).unwrap();
    let good = String::from_utf8(text).unwrap();
    for (name, text, error) in [
        ("no JSON", format!("{good}\nx\n"), "line 3: the log goes on"),
        ("no JSON first", format!("x\n{good}"), "line 1: neither"),
        (
            "unknown field",
            good.replacen("\"who\"", "\"whom\"", 1),
            "line 1: neither",
        ),
        (
            "a link that is none",
            good.replacen("\"link\":\"", "\"link\":\"z", 1),
            "line 1: link:",
        ),
        (
            "a head that is none",
            good.replace("audit1", "audit2"),
            "line 2: not a head",
        ),
    ] {
        let errors: Vec<String> = Reader::new(text.as_bytes())
            .filter_map(|line| line.err().map(|error| error.to_string()))
            .collect();
        assert_eq!(errors.len(), 1, "{name}");
        assert!(errors[0].starts_with(error), "{name}: {}", errors[0]);
    }
}

#[test]
fn keys_do_not_show() {
    assert_eq!(format!("{:?}", key(7)), "AuditKey(hidden)");
}
