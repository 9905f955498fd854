//! The DevTools protocol: objects of JSON, each ended by a zero byte.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{ChildStdin, ChildStdout};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

/// Both ways to the browser.
pub struct Pipe {
    out: Mutex<ChildStdin>,
    last: AtomicU64,
    waiting: Mutex<HashMap<u64, mpsc::Sender<Value>>>,
    /// Whatever it has told without being asked.
    events: Mutex<Vec<Value>>,
}

impl Pipe {
    pub fn new(out: ChildStdin, from: ChildStdout) -> Arc<Self> {
        let pipe = Arc::new(Pipe {
            out: Mutex::new(out),
            last: AtomicU64::new(0),
            waiting: Mutex::default(),
            events: Mutex::default(),
        });
        let own = Arc::clone(&pipe);
        thread::spawn(move || own.read(from));
        pipe
    }

    fn read(&self, from: ChildStdout) {
        let mut from = BufReader::new(from);
        let mut bytes = Vec::new();
        while from.read_until(0, &mut bytes).is_ok_and(|count| count > 0) {
            if bytes.last() == Some(&0) {
                bytes.pop();
            }
            let message: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            bytes.clear();
            match message["id"].as_u64() {
                Some(id) => {
                    if let Some(waiting) = self.waiting.lock().unwrap().remove(&id) {
                        // Who asked may have given up.
                        let _ = waiting.send(message);
                    }
                }
                None => self.events.lock().unwrap().push(message),
            }
        }
    }

    /// The answer to a command, or what was wrong with it.
    pub fn try_ask(
        &self,
        session: Option<&str>,
        method: &str,
        params: &Value,
    ) -> Result<Value, String> {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, answer) = mpsc::channel();
        self.waiting.lock().unwrap().insert(id, sender);
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        let written = self.out.lock().unwrap().write_all(&bytes);
        written.unwrap_or_else(|error| panic!("Chromium is gone: {error}"));
        let answer = answer.recv_timeout(PATIENCE);
        let mut answer = answer.unwrap_or_else(|_| panic!("{method}: Chromium does not answer"));
        match answer["error"].take() {
            Value::Null => Ok(answer["result"].take()),
            error => Err(error.to_string()),
        }
    }

    pub fn ask(&self, session: Option<&str>, method: &str, params: &Value) -> Value {
        let answer = self.try_ask(session, method, params);
        answer.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// What was told of a session until now.
    pub fn events(&self, session: &str) -> Vec<Value> {
        let events = self.events.lock().unwrap();
        let own = events.iter().filter(|event| event["sessionId"] == session);
        own.cloned().collect()
    }
}
