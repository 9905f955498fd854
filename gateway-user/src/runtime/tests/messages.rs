//! What the scripted server says, and what it hears.

use super::*;

pub(super) fn connect(generation: u64) -> v1::ServerMessage {
    let body = Down::Connect(v1::Connect {
        session_id: SESSION.into(),
        generation,
        location_id: "110103-xinjing-001-002-004".into(),
        session_key: vec![7; 32],
        ipv4_address: "100.64.1.10".into(),
        service: Some(service(300)),
        service_revision: 1,
        ..v1::Connect::default()
    });
    v1::ServerMessage { body: Some(body) }
}

pub(super) fn service(megabits: u64) -> v1::Service {
    v1::Service {
        upstream_bps: 0,
        downstream_bps: megabits * 1_000_000,
        shape_downstream: true,
        priority: 3,
        time_to_live_s: 0,
    }
}

pub(super) fn change_service(generation: u64, revision: u64, megabits: u64) -> v1::ServerMessage {
    let body = Down::ChangeService(v1::ChangeService {
        session_id: SESSION.into(),
        generation,
        revision,
        service: Some(service(megabits)),
    });
    v1::ServerMessage { body: Some(body) }
}

pub(super) fn disconnect(generation: u64) -> v1::ServerMessage {
    let body = Down::Disconnect(v1::Disconnect {
        session_id: SESSION.into(),
        generation,
    });
    v1::ServerMessage { body: Some(body) }
}

/// The next stream, past its Hello.
pub(super) async fn greeted(server: &mut ScriptedServer) -> (Stream, v1::Hello) {
    let mut stream = server.stream().await;
    let Up::Hello(hello) = next(&mut stream).await else {
        panic!("a Hello first");
    };
    let operator = "north-net".to_owned();
    stream.send(v1::ServerMessage {
        body: Some(Down::Welcome(v1::Welcome { operator })),
    });
    (stream, hello)
}

/// The next message that is not accounting.
pub(super) async fn next(stream: &mut Stream) -> Up {
    loop {
        let message = stream.next().await.expect("a message");
        match message.body.expect("a body") {
            Up::Accounting(_) => {}
            body => return body,
        }
    }
}

pub(super) async fn established(stream: &mut Stream) -> v1::Established {
    match next(stream).await {
        Up::Established(established) => established,
        other => panic!("Established, not {other:?}"),
    }
}
