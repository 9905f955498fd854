//! What is asked of a list: which rows, how many, and behind which the page begins.
//!
//! A page's token is opaque to whoever has it. It holds the last key of the page before, and a digest
//! of the filters: with others it would lead into the midst of another list. A time is none of them, so
//! that it may be told as one that moves on, such as an hour ago.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use doorstep_proto::v1 as pb;
use sha2::{Digest as _, Sha256};
use tonic::Status;
use uuid::Uuid;

use super::convert::{self, Violations};
use crate::session::State;
use crate::store::{Key, Sessions};

const DEFAULT_LIMIT: u32 = 500;
const MAX_LIMIT: u32 = 1000;

/// The form of tokens; another one for another form.
const FORM: u8 = 1;
const DIGEST_LEN: usize = 8;
const ID_LEN: usize = 16;
/// Longer ones hold more than a location.
const MAX_TOKEN_LEN: usize = 200;

const NO_TOKEN: &str = "is not a next_page_token of this server's; begin without one";
const OTHER_LIST: &str =
    "is of a list with other filters; ask with the same ones, or begin without a token";

/// A page of a list.
#[derive(Debug)]
pub struct Asked<T> {
    pub which: T,
    pub after: Option<Key>,
    pub limit: u32,
    digest: [u8; DIGEST_LEN],
}

impl<T> Asked<T> {
    /// `list` tells it from other lists.
    fn new(
        which: T,
        list: &str,
        (page_token, limit): (&str, u32),
        violations: &mut Violations,
    ) -> Self {
        let mut digest = [0; DIGEST_LEN];
        digest.copy_from_slice(&Sha256::digest(list)[..DIGEST_LEN]);
        let after = violations.check("page_token", read(page_token, digest));
        Asked {
            which,
            after: after.flatten(),
            limit: match limit {
                0 => DEFAULT_LIMIT,
                limit => limit.min(MAX_LIMIT),
            },
            digest,
        }
    }

    /// Empty: there is no next page.
    pub fn token(&self, next: Option<&Key>) -> String {
        next.map_or_else(String::new, |key| {
            let location = key.location.as_bytes();
            let bytes = [&[FORM], &self.digest[..], key.id.as_bytes(), location].concat();
            URL_SAFE_NO_PAD.encode(bytes)
        })
    }
}

fn read(token: &str, digest: [u8; DIGEST_LEN]) -> Result<Option<Key>, &'static str> {
    if token.is_empty() {
        return Ok(None);
    }
    let bytes = (token.len() <= MAX_TOKEN_LEN).then(|| URL_SAFE_NO_PAD.decode(token));
    let bytes = bytes.and_then(Result::ok).ok_or(NO_TOKEN)?;
    let rest = bytes.strip_prefix(&[FORM]).ok_or(NO_TOKEN)?;
    let (own, rest) = rest.split_at_checked(DIGEST_LEN).ok_or(NO_TOKEN)?;
    let (id, location) = rest.split_at_checked(ID_LEN).ok_or(NO_TOKEN)?;
    let id = Uuid::from_slice(id).map_err(|_| NO_TOKEN)?;
    let location = String::from_utf8(location.to_vec()).map_err(|_| NO_TOKEN)?;
    if own != digest {
        return Err(OTHER_LIST);
    }
    // No text of a database's may hold one.
    if location.contains('\0') {
        return Err(NO_TOKEN);
    }
    Ok(Some(Key { location, id }))
}

fn since(unix_ms: i64) -> Result<i64, &'static str> {
    (unix_ms >= 0)
        .then_some(unix_ms)
        .ok_or("must be a time in Unix milliseconds, or 0")
}

pub fn sessions(request: &pb::ListSessionsRequest) -> Result<Asked<Sessions>, Status> {
    let mut violations = Violations::default();
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let location = given(&request.location_prefix)
        .and_then(|text| violations.check("location_prefix", text.parse()));
    let subscriber = convert::optional_uuid(&request.subscriber_id);
    let subscriber = violations.check("subscriber_id", subscriber).flatten();
    let states = states(request, &mut violations);
    let since_ms = violations.check("since_unix_ms", since(request.since_unix_ms));
    let which = Sessions {
        by_location: false,
        location,
        gateway: given(&request.gateway_id),
        subscriber,
        states,
        since_ms: since_ms.unwrap_or_default(),
    };
    let list = format!(
        "sessions {:?} {:?} {:?} {:?}",
        which.location, which.gateway, which.subscriber, which.states
    );
    let page = (request.page_token.as_str(), request.limit);
    let asked = Asked::new(which, &list, page, &mut violations);
    if violations.is_empty() {
        Ok(asked)
    } else {
        Err(violations.status())
    }
}

/// In one order, so that it does not matter in which they were named.
fn states(request: &pb::ListSessionsRequest, violations: &mut Violations) -> Vec<State> {
    if request.states.is_empty() {
        let is_asked = |state: &State| request.include_released || *state != State::Released;
        return State::ALL.into_iter().filter(is_asked).collect();
    }
    if request.include_released {
        violations.add("include_released", "with states, name released among them");
    }
    let named = |state: &State| {
        request
            .states()
            .any(|named| named == convert::state(*state))
    };
    let known: Vec<State> = State::ALL.into_iter().filter(named).collect();
    let is_known = |named: i32| {
        State::ALL
            .map(convert::state)
            .map(i32::from)
            .contains(&named)
    };
    if !request.states.iter().all(|named| is_known(*named)) {
        violations.add("states", "there is no such state");
    }
    known
}

/// Since when they are registered.
pub fn subscribers(request: &pb::ListSubscribersRequest) -> Result<Asked<i64>, Status> {
    let mut violations = Violations::default();
    let since_ms = violations.check("since_unix_ms", since(request.since_unix_ms));
    let which = since_ms.unwrap_or_default();
    let page = (request.page_token.as_str(), request.limit);
    let asked = Asked::new(which, "subscribers", page, &mut violations);
    if violations.is_empty() {
        Ok(asked)
    } else {
        Err(violations.status())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> pb::ListSessionsRequest {
        pb::ListSessionsRequest {
            location_prefix: "110103-xinjingjiayuan".to_owned(),
            states: vec![pb::SessionState::Established.into()],
            ..pb::ListSessionsRequest::default()
        }
    }

    fn refusal(request: &pb::ListSessionsRequest) -> String {
        sessions(request).unwrap_err().message().to_owned()
    }

    #[test]
    fn a_token_leads_on_in_its_own_list_alone() {
        let key = Key {
            location: "110103-xinjingjiayuan-001-002-004".to_owned(),
            id: Uuid::from_u128(7),
        };
        let mut next = request();
        next.page_token = sessions(&request()).unwrap().token(Some(&key));
        next.limit = 7;
        let asked = sessions(&next).unwrap();
        assert_eq!((asked.after, asked.limit), (Some(key), 7));
        next.since_unix_ms = 1;
        assert!(sessions(&next).is_ok());
        next.gateway_id = "gw1".to_owned();
        assert!(refusal(&next).contains(OTHER_LIST));
        let other = pb::ListSubscribersRequest {
            page_token: next.page_token.clone(),
            ..Default::default()
        };
        assert!(
            subscribers(&other)
                .unwrap_err()
                .message()
                .contains(OTHER_LIST)
        );
        let token = next.page_token.clone();
        let long = "A".repeat(400);
        for bad in [&token[1..], &token[..20], "?", "AQ", long.as_str()] {
            next.page_token = bad.to_owned();
            assert!(refusal(&next).contains(NO_TOKEN), "{bad}");
        }
        assert_eq!(sessions(&request()).unwrap().token(None), "");
    }

    #[test]
    fn filters_that_are_wrong_are_named() {
        type Change = fn(&mut pb::ListSessionsRequest);
        let wrong: [(&str, Change); 5] = [
            ("location_prefix: ", |asked| {
                asked.location_prefix = "1101-".to_owned()
            }),
            ("subscriber_id: must be a UUID", |asked| {
                asked.subscriber_id = "me".to_owned()
            }),
            ("states: there is no such state", |asked| {
                asked.states = vec![99]
            }),
            ("include_released: with states", |asked| {
                asked.include_released = true
            }),
            ("since_unix_ms: must be a time", |asked| {
                asked.since_unix_ms = -1
            }),
        ];
        for (expected, change) in wrong {
            let mut asked = request();
            change(&mut asked);
            let told = refusal(&asked);
            assert!(told.contains(expected), "{told}");
        }
        let mut asked = request();
        asked.states.clear();
        let which = sessions(&asked).unwrap().which;
        assert!(!which.states.contains(&State::Released) && which.states.len() == 6);
        asked.include_released = true;
        assert_eq!(sessions(&asked).unwrap().which.states, State::ALL);
    }
}
