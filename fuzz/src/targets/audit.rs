//! The exported audit log.

use std::sync::LazyLock;

use doorstep_server::audit::export::{ExportError, Line, Reader, write_entry, write_head};
use doorstep_server::audit::{AuditKey, Chained, Event, Head, Verifier};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::Target;
use crate::mutate::Shape;

pub const TARGET: Target = Target {
    name: "audit_export",
    about: "exported audit logs: no changed one is verified, and what is read is what was written",
    check,
    seeds,
    shape: Shape::Text,
    words: &[
        "{\"head\":\"",
        "audit1:",
        "\"number\":",
        "\"subscriber\":",
        "\"session\":null",
        "\\u0000",
        "+",
        "00",
    ],
    inputs: 6_000,
};

static KEY: LazyLock<AuditKey> = LazyLock::new(|| AuditKey::new(Zeroizing::new([5; 32])));

/// A log that was written, with the head that it had at its end.
struct Log {
    entries: Vec<Chained>,
    head: Head,
}

/// One log of one server, as it stood at several times.
static LOGS: LazyLock<Vec<Log>> = LazyLock::new(|| {
    let events = [
        ("subscriber", "registered", "phone 138****0000"),
        ("operator", "forced", "a \"quoted\"\nline\u{0} é"),
        ("gateway", "receipt", ""),
        ("server", "legacy-seal", "line 101.1004"),
    ];
    let mut head = KEY.empty();
    let mut entries = Vec::new();
    let mut logs = vec![Log {
        entries: Vec::new(),
        head,
    }];
    for (number, (who, action, detail)) in (1..).zip(events) {
        let event = Event {
            at_ms: 1_700_000_000_000 - number,
            who: who.into(),
            action: action.into(),
            subscriber: (number % 2 == 0).then(|| Uuid::from_u128(2)),
            session: (number > 2).then(|| Uuid::from_u128(3)),
            detail: detail.to_owned(),
        };
        entries.push(KEY.append(&mut head, event));
        logs.push(Log {
            entries: entries.clone(),
            head,
        });
    }
    logs
});

fn seeds() -> Vec<Vec<u8>> {
    LOGS.iter()
        .map(|log| write(&log.entries, Some(&log.head)))
        .collect()
}

fn write(entries: &[Chained], head: Option<&Head>) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        write_entry(&mut out, entry).expect("memory");
    }
    if let Some(head) = head {
        write_head(&mut out, head).expect("memory");
    }
    out
}

fn check(data: &[u8]) {
    let mut entries = Vec::new();
    let mut head = None;
    let mut whole = true;
    let lines = data.split(|byte| *byte == b'\n').count() as u64;
    for line in Reader::new(data) {
        match line {
            Ok(Line::Entry(entry)) => entries.push(entry),
            Ok(Line::Head(found)) => assert!(head.replace(found).is_none(), "two heads"),
            Err(error) => {
                let (ExportError::Read { line, .. }
                | ExportError::Long { line }
                | ExportError::Form { line, .. }
                | ExportError::Link { line }
                | ExportError::Head { line, .. }
                | ExportError::AfterHead { line }) = error;
                assert!((1..=lines).contains(&line), "line {line} of {lines}");
                whole = false;
            }
        }
    }
    let written = write(&entries, head.as_ref());
    let mut again = Vec::new();
    for line in Reader::new(&written[..]) {
        again.push(line.expect("what was written"));
    }
    let read = entries.iter().cloned().map(Line::Entry);
    assert!(again.into_iter().eq(read.chain(head.map(Line::Head))));
    if let Some(head) = head {
        assert_eq!(head.to_string().parse(), Ok(head));
        if whole {
            verify(&entries, &head);
        }
    }
    let text = String::from_utf8_lossy(data);
    for word in text.split(['"', '\n']) {
        if let Ok(head) = word.parse::<Head>() {
            let canonical = head.to_string();
            assert!(same_number(word, &canonical), "{word} reads as {canonical}");
        }
    }
}

/// Hexadecimal digits of either case, and a count with zeros before it.
fn same_number(word: &str, canonical: &str) -> bool {
    let plain = |text: &str| -> String {
        let parts = text.split(':').map(|part| match part.len() {
            64 => part.to_ascii_lowercase(),
            _ => part.trim_start_matches('0').to_owned(),
        });
        parts.collect::<Vec<_>>().join(":")
    };
    plain(word) == plain(canonical)
}

/// What is verified is one of the logs that were written, to the letter.
fn verify(entries: &[Chained], head: &Head) {
    let mut verifier = Verifier::new(&KEY, None).expect("without an anchor");
    let pushed = entries.iter().try_for_each(|entry| verifier.push(entry));
    let verified = pushed.and_then(|()| verifier.finish(head));
    let log = LOGS
        .iter()
        .find(|log| log.head == *head && log.entries == entries);
    match (verified, log) {
        (Ok(count), Some(log)) => assert_eq!(count, log.entries.len() as u64),
        (Ok(_), None) => panic!("a changed log is verified"),
        (Err(fault), Some(_)) => panic!("a good log: {fault}"),
        (Err(fault), None) => {
            if let Some(bad) = fault.first_bad() {
                assert!(bad >= 1, "{fault}");
            }
        }
    }
    // Against what was kept elsewhere, a log that was put back is found out.
    let newest = LOGS.last().map(|log| log.head);
    let mut anchored = Verifier::new(&KEY, newest).expect("our own head");
    let pushed = entries.iter().try_for_each(|entry| anchored.push(entry));
    if pushed.and_then(|()| anchored.finish(head)).is_ok() {
        assert_eq!(Some(*head), newest);
    }
}
