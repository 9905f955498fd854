use super::*;

const SESSION: Uuid = Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);

fn gateway() -> Gateway {
    Gateway::new(1, "gw-00001".to_owned(), Arc::default())
}

fn connect(generation: u64, revision: u64) -> Down {
    Down::Connect(pb::Connect {
        session_id: SESSION.to_string(),
        generation,
        service_revision: revision,
        ..pb::Connect::default()
    })
}

fn disconnect(generation: u64) -> Down {
    Down::Disconnect(pb::Disconnect {
        session_id: SESSION.to_string(),
        generation,
    })
}

fn change(generation: u64, revision: u64) -> Down {
    Down::ChangeService(pb::ChangeService {
        session_id: SESSION.to_string(),
        generation,
        revision,
        service: None,
    })
}

/// What was answered, in short.
fn said(answers: &[Up]) -> Vec<String> {
    let text = |answer: &Up| match answer {
        Up::Hello(hello) => format!("hello {}", hello.held.len()),
        Up::Ack(ack) => format!("ack {} {}", ack.generation, ack.revision),
        Up::Nack(nack) => format!("nack {} {:?}", nack.generation, nack.reason()),
        Up::Established(it) => format!("established {}", it.generation),
        Up::Receipt(receipt) => format!("receipt {} {}", receipt.number, receipt.generation),
        Up::Accounting(_) => "accounting".to_owned(),
    };
    answers.iter().map(text).collect()
}

/// A history, message by message: what comes, and what is answered.
#[test]
fn answers_are_a_real_gateways() {
    let mut gateway = gateway();
    let history = [
        (change(5, 2), vec!["nack 5 NotHeld"]),
        (connect(5, 1), vec!["ack 5 1", "established 5"]),
        (connect(5, 1), vec!["ack 5 1", "established 5"]),
        (connect(4, 1), vec!["nack 4 StaleGeneration"]),
        (change(5, 3), vec!["ack 5 3"]),
        (change(5, 2), vec!["ack 5 3"]),
        (change(4, 4), vec!["nack 4 StaleGeneration"]),
        (disconnect(5), vec!["nack 5 StaleGeneration"]),
        (disconnect(6), vec!["ack 6 0", "receipt 1 6"]),
        (disconnect(6), vec!["ack 6 0", "receipt 1 6"]),
        (connect(6, 1), vec!["nack 6 StaleGeneration"]),
        (change(6, 4), vec!["nack 6 NotHeld"]),
        (connect(7, 1), vec!["ack 7 1", "established 7"]),
        (disconnect(8), vec!["ack 8 0", "receipt 2 8"]),
    ];
    for (message, expected) in history {
        let answers = gateway.on(message.clone());
        assert_eq!(said(&answers), expected, "{message:?}");
    }
}

#[test]
fn hello_names_what_flows_and_what_is_receipted() {
    let mut gateway = gateway();
    assert_eq!(said(&gateway.open()), ["hello 0"]);
    gateway.on(connect(5, 1));
    assert_eq!(said(&gateway.open()), ["hello 1"]);
    gateway.on(disconnect(6));
    assert_eq!(said(&gateway.open()), ["hello 1", "receipt 1 6"]);
    gateway.on(connect(7, 1));
    let opening = gateway.open();
    assert_eq!(said(&opening), ["hello 1", "receipt 1 6"]);
    let Up::Hello(hello) = &opening[0] else {
        panic!("no Hello first");
    };
    assert_eq!(hello.held[0].phase(), pb::HeldPhase::Established);
    gateway.on(Down::ReceiptAck(pb::ReceiptAck { number: 1 }));
    assert_eq!(said(&gateway.open()), ["hello 1"]);
}

#[test]
fn what_was_never_there_is_receipted_too() {
    let mut gateway = gateway();
    assert_eq!(said(&gateway.on(disconnect(3))), ["ack 3 0", "receipt 1 3"]);
    assert_eq!(gateway.held(SESSION).map(|held| held.forwards), Some(false));
}
