//! How each server is reached, for `status`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use doorstep_gateway_common::OperatorIndex;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerState {
    pub connected: bool,
    /// Since when it is as it is.
    pub since_unix_ms: i64,
    /// When it was last connected; 0: never. While it is connected, when that began.
    pub contact_unix_ms: i64,
    pub last_error: Option<String>,
}

/// Shared by the clients, which write, and those who show it.
#[derive(Clone, Debug, Default)]
pub struct ServerStates(Arc<Mutex<BTreeMap<OperatorIndex, ServerState>>>);

impl ServerStates {
    pub fn get(&self, operator: OperatorIndex) -> ServerState {
        let states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        states.get(&operator).cloned().unwrap_or_default()
    }

    pub(super) fn update(
        &self,
        operator: OperatorIndex,
        connected: bool,
        error: Option<String>,
        now_unix_ms: i64,
    ) {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let state = states.entry(operator).or_insert_with(|| ServerState {
            since_unix_ms: now_unix_ms,
            ..ServerState::default()
        });
        if state.connected != connected {
            state.since_unix_ms = now_unix_ms;
        }
        if connected || state.connected {
            state.contact_unix_ms = now_unix_ms;
        }
        state.connected = connected;
        // A stream that is up again does not hide why the last one ended.
        if error.is_some() {
            state.last_error = error;
        }
    }
}
