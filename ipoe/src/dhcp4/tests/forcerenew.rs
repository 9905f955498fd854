//! FORCERENEW, as a client checks it.

use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::Md5;

use super::*;

const CAPABLE: [u8; 3] = [145, 1, 1];
const XID: u32 = 0x0102_0304;

/// A client's message that says what it can.
fn capable(message: &Message, options: &[u8]) -> Vec<u8> {
    let mut message = message.clone();
    message.set_chaddr(&CPE);
    let mut payload = message.to_vec().unwrap();
    payload.pop();
    payload.extend_from_slice(options);
    payload.push(255);
    wrapped(&payload, CPE)
}

fn payload(frame: &[u8]) -> Vec<u8> {
    Datagram::parse(frame).unwrap().payload.to_vec()
}

fn request() -> Message {
    message(MessageType::Request, NONE, &[requested(ADDRESS)])
}

#[test]
fn the_acknowledgement_tells_the_nonce_to_who_asks_for_it() {
    let discover = message(MessageType::Discover, NONE, &[]);
    let told = answer(&capable(&discover, &CAPABLE), &line(), HOUR).unwrap();
    assert_eq!(told.told_nonce, None);
    let offer = payload(told.frame.as_ref().unwrap());
    assert_eq!(raw_option(&offer, 145).unwrap().1, [1]);
    assert_eq!(raw_option(&offer, 90), None, "the nonce is not for all");

    let told = answer(&capable(&request(), &CAPABLE), &line(), HOUR).unwrap();
    assert_eq!(told.told_nonce, Some(7));
    let ack = payload(told.frame.as_ref().unwrap());
    let option = raw_option(&ack, 90).unwrap().1;
    // Reconfigure key, HMAC-MD5, growing; the counter; a nonce.
    assert_eq!(option.len(), 3 + 8 + 1 + 16);
    assert_eq!(option[..3], [3, 1, 0]);
    assert_eq!(option[3..11], secret().counter.to_be_bytes());
    assert_eq!(option[11], 1);

    for other in [&[][..], &[145, 1, 2], &[145, 0]] {
        let told = answer(&capable(&request(), other), &line(), HOUR).unwrap();
        assert_eq!(told.told_nonce, None, "{other:?}");
        let ack = payload(told.frame.as_ref().unwrap());
        assert_eq!(raw_option(&ack, 90), None, "{other:?}");
    }
}

#[test]
fn a_forced_renewal_is_signed_with_the_nonce() {
    let told = answer(&capable(&request(), &CAPABLE), &line(), HOUR).unwrap();
    let ack = payload(told.frame.as_ref().unwrap());
    let nonce = raw_option(&ack, 90).unwrap().1[12..].to_vec();

    let frame = forcerenew(&line(), CPE, XID, TAGS).unwrap();
    let datagram = Datagram::parse(&frame).unwrap();
    assert_eq!(datagram.destination_mac, CPE);
    assert_eq!((datagram.source, datagram.destination), (SERVER, ADDRESS));
    assert_eq!((datagram.source_port, datagram.destination_port), (67, 68));
    let mut forced = datagram.payload.to_vec();
    assert_eq!(forced[4..8], XID.to_be_bytes());
    assert_eq!(raw_option(&forced, 53).unwrap().1, [9]);
    assert_eq!(raw_option(&forced, 54).unwrap().1, SERVER.octets());
    let (at, option) = raw_option(&forced, 90).unwrap();
    assert_eq!((&option[..3], option[11]), (&[3, 1, 0][..], 2));
    let digest = option[12..].to_vec();
    forced[at + 2 + 12..][..16].fill(0);
    let mut mac = <Hmac<Md5>>::new_from_slice(&nonce).unwrap();
    mac.update(&forced);
    assert_eq!(mac.finalize().into_bytes()[..], digest[..]);
}

#[test]
fn each_client_of_each_generation_has_its_own_nonce() {
    let nonces = [
        Forcerenew::derive(&[7; 32], 3, CPE, 0),
        Forcerenew::derive(&[7; 32], 4, CPE, 0),
        Forcerenew::derive(&[7; 32], 3, OTHER_CPE, 0),
        Forcerenew::derive(&[8; 32], 3, CPE, 0),
    ];
    for (i, nonce) in nonces.iter().enumerate() {
        assert!(!nonces[i + 1..].contains(nonce));
        assert!(!format!("{nonce:?}").contains("nonce"), "kept secret");
    }
    assert_eq!(nonces[0], Forcerenew::derive(&[7; 32], 3, CPE, 0));
    assert_eq!(forcerenew(&ended(), CPE, XID, TAGS), None);
}
