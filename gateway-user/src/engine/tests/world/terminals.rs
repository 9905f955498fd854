//! The terminals: what they read and what they answer.

use doorstep_establish::{
    Body, Direction, Former, Mac, Message, SessionKey, frame, open, seal, session_of,
};
use doorstep_gateway_common::LineKey;
use uuid::Uuid;

use super::World;
use super::given::{GATEWAY_MAC, NORTH, SOUTH, id, key};
use super::routers::is_for_routers;
use crate::engine::Event;
use crate::engine::row::Snapshot;

impl World {
    /// All terminals accept what has been asked so far. Returns how many.
    pub fn terminals_accept(&mut self) -> usize {
        let frames = std::mem::take(&mut self.frames);
        let mut accepted = 0;
        for (ifindex, bytes) in frames {
            let Some((event, _)) = accept(ifindex, &bytes) else {
                continue;
            };
            accepted += 1;
            self.feed(event);
        }
        accepted
    }

    /// As [`Self::terminals_accept`], and each names another session on its line as the one that ends.
    pub fn terminals_replace(&mut self) -> usize {
        let frames = std::mem::take(&mut self.frames);
        let mut accepted = 0;
        for (ifindex, bytes) in frames {
            let Some((event, _)) = replace(&self.journal, ifindex, &bytes) else {
                continue;
            };
            accepted += 1;
            self.feed(event);
        }
        accepted
    }

    /// What gateways have said to terminals since the last look.
    pub fn said(&mut self) -> Vec<Message> {
        let frames = std::mem::take(&mut self.frames);
        let said = frames.iter().filter_map(|(_, bytes)| read(bytes));
        said.map(|(_, _, body)| body.message).collect()
    }
}

/// A terminal's MAC address, different in each home.
pub fn terminal_mac(line: LineKey) -> Mac {
    let [s, t] = line.s_vid.to_be_bytes();
    let [c, d] = line.c_vid.to_be_bytes();
    Mac([2, 1, s, t, c, d])
}

/// Whose message a frame is, and what it says; as a terminal with every key would read it.
pub fn read(bytes: &[u8]) -> Option<(LineKey, SessionKey, Body)> {
    if is_for_routers(bytes) {
        return None;
    }
    let parsed = frame::parse(bytes).expect("the gateway's frames can be parsed");
    assert_eq!(parsed.envelope.src_mac, GATEWAY_MAC);
    let (s_vid, c_vid) = match parsed.envelope.tags.as_slice() {
        [] => (0, 0),
        [c] => (0, c.vid),
        [s, c, ..] => (s.vid, c.vid),
    };
    let line = LineKey {
        ifindex: 7,
        s_vid,
        c_vid,
    };
    let session = session_of(parsed.payload)?;
    let number = (0..8).find(|n| id(*n) == session)?;
    [NORTH, SOUTH]
        .into_iter()
        .flat_map(|operator| (1..200).map(move |generation| key(operator, number, generation)))
        .find_map(|key| {
            let offered = key.clone();
            let (_, body) = open(parsed.payload, Direction::FromGateway, |_| Some(offered)).ok()?;
            Some((line, key, body))
        })
}

/// What a terminal answers to a frame, if it is a request.
pub fn accept(ifindex: u32, bytes: &[u8]) -> Option<(Event, Body)> {
    let (line, key, body) = read(bytes)?;
    assert_eq!(line.ifindex, ifindex);
    if !matches!(body.message, Message::Request(_)) {
        return None;
    }
    let mac = terminal_mac(line);
    let answer = Body {
        message: Message::Accept {
            terminal_mac: mac,
            replaces: None,
        },
        ..body
    };
    let session = session_of(frame::parse(bytes).ok()?.payload)?;
    Some((answer_from(line, mac, session, &key, &answer), answer))
}

/// What a terminal answers that has another session on the line, and wants that one to end.
pub fn replace(journal: &Snapshot, ifindex: u32, bytes: &[u8]) -> Option<(Event, Body)> {
    let (_, answer) = accept(ifindex, bytes)?;
    let (line, key, _) = read(bytes)?;
    let id = session_of(frame::parse(bytes).ok()?.payload)?;
    let tags = frame::parse(bytes).ok()?.envelope.tags;
    let mut others: Vec<_> = journal
        .sessions
        .iter()
        .filter(|(_, row)| row.place.tags == tags && row.connect.key != key)
        .collect();
    others.sort_unstable_by_key(|(session, _)| **session);
    let former = others.first().map(|(_, row)| Former {
        session: row.connect.session,
        generation: row.connect.generation,
        key: row.connect.key.clone(),
    });
    let mac = terminal_mac(line);
    let replaces = former.map(|former| former.replaced_by(id, answer.generation, answer.nonce));
    let answer = Body {
        message: Message::Accept {
            terminal_mac: mac,
            replaces,
        },
        ..answer
    };
    Some((answer_from(line, mac, id, &key, &answer), answer))
}

/// An answer as it comes from a line.
pub fn answer_from(line: LineKey, mac: Mac, session: Uuid, key: &SessionKey, body: &Body) -> Event {
    let envelope = frame::Envelope::to_gateway(mac, GATEWAY_MAC, doorstep_establish::Tags::NONE);
    Event::Frame {
        line,
        frame: frame::build(&envelope, &seal(key, session, body)),
    }
}
