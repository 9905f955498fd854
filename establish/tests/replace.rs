//! A session in another's place: what proves that it may be, and what does not.

use std::time::Instant;

use doorstep_establish::{
    Body, Decision, Direction, Former, Mac, Message, Nonce, Offer, Phase, Replaced, Responder,
    SessionKey, Tags, open, seal,
};
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use uuid::Uuid;

const GATEWAY: Mac = Mac([2, 0, 0, 0, 0, 1]);
const TERMINAL: Mac = Mac([2, 0, 0, 0, 0, 2]);
const NEW: Uuid = Uuid::from_u128(2);

fn former() -> Former {
    Former {
        session: Uuid::from_u128(1),
        generation: 5,
        key: SessionKey::from_slice(&[7; 32]).unwrap(),
    }
}

fn request(nonce: u8) -> Body {
    Body {
        generation: 3,
        nonce: Nonce([nonce; 16]),
        message: Message::Request(Offer {
            gateway_id: "gw-1".into(),
            ipv4: Some([100, 64, 1, 10].into()),
            ipv4_gateway: None,
            ipv6: None,
            ipv6_line: None,
            dns: vec![],
            mtu: 1500,
        }),
    }
}

/// The Accept of a terminal whose links are up at once.
fn accepted(terminal: &mut Responder, request: &Body) -> Body {
    let now = Instant::now();
    let decision = terminal.on_body(request, GATEWAY, Tags::NONE);
    assert!(matches!(decision, Decision::BringUp(_)), "{decision:?}");
    assert!(terminal.brought_up(request.nonce, TERMINAL, now));
    let mut rng = StdRng::seed_from_u64(1);
    terminal.poll(now, &mut rng).expect("an Accept is due")
}

#[test]
fn each_accept_proves_it_for_its_own_establishment() {
    let mut terminal = Responder::new(NEW, 3);
    let plain = accepted(&mut terminal, &request(0));
    assert_eq!(plain.replaces(), None, "unless it is asked for");

    terminal.replace(Some(former()));
    let key = SessionKey::generate();
    let mut proofs = vec![];
    for nonce in 1..4 {
        let first = accepted(&mut terminal, &request(nonce));
        let again = terminal.on_body(&request(nonce), GATEWAY, Tags::NONE);
        assert_eq!(again, Decision::Answer(first.clone()), "repeated as it was");
        let datagram = seal(&key, NEW, &first);
        let (_, body) = open(&datagram, Direction::FromTerminal, |_| Some(key.clone())).unwrap();
        let named = *body.replaces().expect("it names the former");
        assert_eq!((named.session, named.generation), (former().session, 5));
        assert!(named.is_proven(&former().key, NEW, &body));
        proofs.push((named, body));
    }
    for (at, (named, _)) in proofs.iter().enumerate() {
        for (other, (_, body)) in proofs.iter().enumerate() {
            let proven = named.is_proven(&former().key, NEW, body);
            assert_eq!(
                proven,
                at == other,
                "a proof is good in its own establishment"
            );
        }
    }
    assert_eq!(terminal.phase(), Phase::Accepting);
}

proptest! {
    /// One bit of anything that it stands for, and it proves nothing.
    #[test]
    fn a_proof_stands_for_exactly_what_it_was_made_for(
        bytes in any::<[u8; 32]>(),
        former_id: u128,
        former_generation: u64,
        new_id: u128,
        generation: u64,
        nonce in any::<[u8; 16]>(),
        part in 0..7usize,
        bit in 0..64usize,
    ) {
        let mut key = bytes;
        let (mut session, mut new) = (former_id, new_id);
        let former = Former {
            session: Uuid::from_u128(former_id),
            generation: former_generation,
            key: SessionKey::from_slice(&bytes).unwrap(),
        };
        let mut named = former.replaced_by(Uuid::from_u128(new_id), generation, Nonce(nonce));
        let mut body = Body { generation, nonce: Nonce(nonce), message: Message::Confirm { slot: None } };
        prop_assert!(named.is_proven(&former.key, Uuid::from_u128(new), &body));
        match part {
            0 => key[bit % 32] ^= 1 << (bit % 8),
            1 => session ^= 1 << bit,
            2 => named.generation ^= 1 << bit,
            3 => new ^= 1 << bit,
            4 => body.generation ^= 1 << bit,
            5 => body.nonce.0[bit % 16] ^= 1 << (bit % 8),
            _ => named.proof[bit % 32] ^= 1 << (bit % 8),
        }
        let named = Replaced { session: Uuid::from_u128(session), ..named };
        let key = SessionKey::from_slice(&key).unwrap();
        prop_assert!(!named.is_proven(&key, Uuid::from_u128(new), &body), "part {part}");
    }

    /// Who knows the new session's key alone cannot end the former, nor the other way round.
    #[test]
    fn neither_operator_can_do_it_alone(own in any::<[u8; 32]>(), other in any::<[u8; 32]>()) {
        prop_assume!(own != other);
        let of = |bytes: &[u8; 32]| SessionKey::from_slice(bytes).unwrap();
        let body = request(1);
        let forged = Former { key: of(&own), ..former() };
        let named = forged.replaced_by(NEW, body.generation, body.nonce);
        prop_assert!(!named.is_proven(&of(&other), NEW, &body));

        let accept = Body {
            message: Message::Accept { terminal_mac: TERMINAL, replaces: Some(named) },
            ..body
        };
        let datagram = seal(&of(&own), NEW, &accept);
        prop_assert!(open(&datagram, Direction::FromTerminal, |_| Some(of(&other))).is_err());
    }
}
