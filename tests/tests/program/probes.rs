//! Terminals that ask whether their sessions are alive.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use doorstep_establish::frame::{self, Envelope};
use doorstep_establish::{
    GATEWAY_LINK_LOCAL, Mac, Nonce, Probe, ProbeKey, SessionKey, TPID_8021Q, Tag, Tags,
};
use doorstep_gateway_common::Reason;
use doorstep_gateway_common::limit::Pace;
use doorstep_tests::frames::{GATEWAY_MAC, HOME_MAC};
use doorstep_tests::model::Model;
use doorstep_tests::programs::{self, Fate, Loaded, Side, XDP_DROP, XDP_REDIRECT};
use doorstep_tests::suite::CaseResult;
use uuid::Uuid;

use crate::fixture::{self, BLOCKED_TAGS, Home};

fn key(home: &Home) -> ProbeKey {
    let session = SessionKey::from_slice(&[7; 32]).expect("32 bytes");
    let id = Uuid::from_u128(u128::from(home.slot));
    ProbeKey::derive(&session, id, 7, Nonce([1; 16]))
}

/// The gateway of the fixture, whose terminals may ask.
pub fn model() -> Model {
    let model = fixture::model();
    for home in fixture::homes() {
        let record = &model.liveness.0[home.slot as usize];
        record.expect(&home.line(), key(&home).words());
    }
    model
}

fn tags(tags: &[(u16, u16)]) -> Result<Tags> {
    let tags: Vec<Tag> = tags.iter().map(|&(tpid, vid)| Tag { tpid, vid }).collect();
    Ok(Tags::new(&tags)?)
}

fn sent(home: &Home, datagram: &[u8]) -> Result<Vec<u8>> {
    let (terminal, gateway) = (Mac(HOME_MAC), Mac(GATEWAY_MAC));
    let envelope = Envelope::to_gateway(terminal, gateway, tags(home.tags)?);
    Ok(frame::build(&envelope, datagram))
}

fn probe(home: &Home, sequence: u64) -> Probe {
    Probe {
        slot: home.slot,
        sequence,
        nonce: 0x1112_1314_1516_1718 ^ sequence,
    }
}

/// The frame in which a home's terminal asks.
pub fn question(home: &Home, sequence: u64) -> Vec<u8> {
    sent(home, &probe(home, sequence).ask(&key(home))).expect("the tags of a home")
}

/// Runs a frame; the model and the counters say the same.
fn run(loaded: &mut Loaded, model: &Model, bytes: &[u8], reason: Reason) -> Result<Fate> {
    let before = loaded.count(reason)?;
    let fate = loaded.run(Side::Access, bytes)?;
    let (expected, _, says) = programs::model(model, Side::Access, bytes);
    ensure!(says == reason, "the model says {}", says.name());
    ensure!(fate == expected, "{fate:02x?}, not {expected:02x?}");
    let counted = loaded.count(reason)? - before;
    ensure!(counted == 1, "not counted as {}", reason.name());
    Ok(fate)
}

pub fn answers_the_sessions_terminal() -> CaseResult {
    let model = model();
    let mut loaded = Loaded::new(&model)?;
    for home in fixture::homes() {
        let mut heard = 0;
        // A number that has been there is a replay: answered, and no sign of life.
        for (sequence, last, is_new) in [
            (3, 3, true),
            (4, 4, true),
            (2, 4, false),
            (4, 4, false),
            (9, 9, true),
        ] {
            if !is_new {
                // Longer than the records' unit of time, so that a replay that counts would show.
                std::thread::sleep(Duration::from_millis(150));
            }
            let asked = probe(&home, sequence);
            let bytes = sent(&home, &asked.ask(&key(&home)))?;
            let fate = run(&mut loaded, &model, &bytes, Reason::ProbeAnswered)
                .with_context(|| format!("{}, {sequence}", home.name))?;
            ensure!(fate.action == XDP_REDIRECT, "{}", fate.action);
            let parsed = frame::parse(&fate.frame)?;
            let Envelope {
                src_mac,
                dst_mac,
                tags: under,
                src_ip,
                dst_ip,
            } = parsed.envelope;
            ensure!(src_mac == Mac(GATEWAY_MAC) && dst_mac == Mac(HOME_MAC));
            ensure!(src_ip == GATEWAY_LINK_LOCAL && dst_ip == Mac(HOME_MAC).link_local());
            ensure!(under == tags(home.tags)?, "{under}");
            let answer = Probe::open_answer(parsed.payload, &key(&home)).context("no answer")?;
            let expected = Probe {
                sequence: last,
                ..asked
            };
            ensure!(answer == expected, "{answer:?}");
            let record = loaded.heard(home.slot)?;
            ensure!(u64::from(record.sequence()) == last, "{record:?}");
            let now = record.heard.get();
            ensure!((now > heard) == is_new, "{sequence}: {heard:x}, {now:x}");
            heard = now;
        }
    }
    Ok(())
}

pub fn answers_nobody_else() -> CaseResult {
    let model = model();
    let mut loaded = Loaded::new(&model)?;
    let [untagged, one, two] = fixture::homes();
    let good = probe(&two, 1);
    let with = |change: fn(&mut Probe)| {
        let mut probe = good;
        change(&mut probe);
        probe.ask(&key(&two))
    };
    let mut changed = good.ask(&key(&two));
    changed[31] ^= 1;
    let cases: [(&str, &Home, Vec<u8>); 7] = [
        ("another's key", &two, good.ask(&key(&one)).to_vec()),
        ("a changed tag", &two, changed.to_vec()),
        ("on another line", &one, good.ask(&key(&two)).to_vec()),
        (
            "on an untagged line",
            &untagged,
            good.ask(&key(&two)).to_vec(),
        ),
        (
            "another's slot",
            &two,
            with(|probe| probe.slot = 4).to_vec(),
        ),
        (
            "a slot that nobody has",
            &two,
            with(|probe| probe.slot = 9).to_vec(),
        ),
        (
            "a slot beyond all",
            &two,
            with(|probe| probe.slot = u32::MAX).to_vec(),
        ),
    ];
    for (name, home, datagram) in cases {
        let fate = run(
            &mut loaded,
            &model,
            &sent(home, &datagram)?,
            Reason::ProbeRefused,
        )
        .context(name)?;
        ensure!(fate.action == XDP_DROP, "{name}: {}", fate.action);
    }
    for home in [untagged, one, two] {
        let record = loaded.heard(home.slot)?;
        ensure!(record.heard.get() == 0, "{} is heard", home.name);
    }
    let blocked = Home {
        tags: BLOCKED_TAGS,
        ..two
    };
    let bytes = sent(&blocked, &good.ask(&key(&two)))?;
    run(&mut loaded, &model, &bytes, Reason::BlockedLine)?;
    let unknown = Home {
        tags: &[(TPID_8021Q, 3999)],
        ..two
    };
    let bytes = sent(&unknown, &good.ask(&key(&two)))?;
    run(&mut loaded, &model, &bytes, Reason::UnknownLine)?;
    Ok(())
}

/// Whoever asks too often is not answered, and other datagrams of the port are the daemon's.
pub fn the_rest_goes_to_the_daemon() -> CaseResult {
    let mut model = model();
    model.globals.answer_line = Pace::per_second(1, 1);
    let mut loaded = Loaded::new(&model)?;
    let [_, _, two] = fixture::homes();
    let bytes = sent(&two, &probe(&two, 1).ask(&key(&two)))?;
    run(&mut loaded, &model, &bytes, Reason::ProbeAnswered)?;
    run(&mut loaded, &model, &bytes, Reason::AnswerLimited)?;
    let ask = probe(&two, 1).ask(&key(&two));
    let longer = [&ask[..], &[0]].concat();
    for datagram in [
        &ask[..31],
        &longer,
        &probe(&two, 1).answer(&key(&two)),
        &[1; 32],
    ] {
        run(
            &mut loaded,
            &model,
            &sent(&two, datagram)?,
            Reason::PuntEstablish,
        )?;
    }
    Ok(())
}
