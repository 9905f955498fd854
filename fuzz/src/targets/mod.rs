//! The targets.
//!
//! | module | of what |
//! |---|---|
//! | [`location`], [`seal`] | location ids, and their sealed forms |
//! | [`establish`], [`exchange`] | frames, datagrams and messages on the line; both ends' state |
//! | [`ipoe`] | what ordinary routers ask on the line |
//! | [`records`] | what the eBPF programs hand to the gateway's daemon |
//! | [`inventory`], [`gateway_config`], [`server_config`], [`terminal_config`], [`rate`], [`trace`] | what people write |
//! | [`control`], [`requests`], [`numbers`] | protobuf messages and plain values |
//! | [`pki`] | tokens, certificates, requests for them |
//! | [`audit`] | the exported audit log |
//! | [`journal`], [`terminal_state`] | what a former run has kept |
//! | [`links`] | what a gateway's offer makes of a terminal's links |

pub mod audit;
pub mod control;
pub mod establish;
pub mod exchange;
pub mod gateway_config;
pub mod inventory;
pub mod ipoe;
pub mod journal;
pub mod links;
pub mod location;
pub mod numbers;
pub mod pki;
pub mod rate;
pub mod records;
pub mod requests;
pub mod seal;
pub mod server_config;
pub mod terminal_config;
pub mod terminal_state;
pub mod trace;

use crate::Target;

/// Lists the targets, and makes a test of each.
macro_rules! targets {
    ($($test:ident: $target:path,)+) => {
        /// All targets, by subject.
        pub const ALL: [&Target; [$(stringify!($test)),+].len()] = [$(&$target),+];

        #[cfg(test)]
        mod brief {
            $(
                #[test]
                fn $test() {
                    assert_eq!($target.name, stringify!($test));
                    if let Err(failure) = crate::run::briefly(&$target) {
                        panic!("{failure}");
                    }
                }
            )+

            use super::*;
        }
    };
}

targets! {
    location_id: location::TARGET,
    seal: seal::TARGET,
    seal_content: seal::CONTENT,
    establish_frame: establish::FRAME,
    establish_datagram: establish::DATAGRAM,
    establish_body: establish::BODY,
    establish_exchange: exchange::TARGET,
    dhcp4: ipoe::DHCP4,
    dhcp6: ipoe::DHCP6,
    router_solicitation: ipoe::SOLICITATION,
    punt_record: records::PUNT,
    trace_record: records::TRACE,
    trace_target: trace::TARGET,
    inventory: inventory::TARGET,
    gateway_config: gateway_config::TARGET,
    server_config: server_config::TARGET,
    terminal_config: terminal_config::TARGET,
    rate: rate::TARGET,
    server_message: control::SERVER_MESSAGE,
    gateway_message: control::GATEWAY_MESSAGE,
    access_request: requests::ACCESS,
    register_request: requests::REGISTER,
    service_request: requests::SERVICE,
    numbers: numbers::TARGET,
    token: pki::TOKEN,
    certificate: pki::CERTIFICATE,
    certificate_request: pki::REQUEST,
    audit_export: audit::TARGET,
    journal_row: journal::TARGET,
    terminal_state: terminal_state::TARGET,
    terminal_links: links::TARGET,
}

/// The messages that wrong input is refused with name one of these fields first.
fn names_a_field(message: &str, fields: &[&str]) -> bool {
    fields.iter().any(|field| {
        message
            .strip_prefix(field)
            .is_some_and(|rest| rest.starts_with(": "))
    })
}

/// A protobuf message that can be read is the same once it has been written and read again.
fn reread<M: prost::Message + Default + PartialEq + std::fmt::Debug>(data: &[u8]) -> Option<M> {
    let message = M::decode(data).ok()?;
    let again = M::decode(&message.encode_to_vec()[..]);
    assert_eq!(again.as_ref(), Ok(&message));
    Some(message)
}
