//! A home's daemon, its clients, and a gateway's end of its line.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use doorstep_establish::frame::{self, Envelope};
use doorstep_establish::{
    Body, Direction, Initiator, Mac, Message, Nonce, Offer, Outcome, SessionKey, Tags, open, seal,
};
use doorstep_terminal::packet::{Hearing, Port};
use serde_json::Value;
use tokio::process::{Child, Command};
use uuid::Uuid;

use super::ip;
use super::operator::Granted;

/// How long a daemon may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A gateway's end of the line, with an Ethernet address of its own.
pub struct Gateway {
    port: Port,
    mac: Mac,
    name: &'static str,
}

impl Gateway {
    pub fn new(name: &'static str, mac: Mac) -> Self {
        let index = gw0_index();
        Self {
            port: Port::open(index, Hearing::Everything).unwrap(),
            mac,
            name,
        }
    }

    fn offer(&self, number: u8) -> Offer {
        Offer {
            gateway_id: self.name.into(),
            ipv4: Some([100, 64, 1, number].into()),
            ipv4_gateway: Some([100, 64, 0, 1].into()),
            ipv6: Some(format!("2001:db8:{number}::/56").parse().unwrap()),
            ipv6_line: None,
            dns: vec!["192.0.2.53".parse().unwrap()],
            mtu: 1500,
        }
    }

    pub async fn send(&self, session: Uuid, key: &SessionKey, body: &Body) {
        let envelope = Envelope::to_line(self.mac, Tags::NONE);
        self.port
            .send(&frame::build(&envelope, &seal(key, session, body)))
            .await
            .unwrap();
    }

    /// Runs the exchange until the terminal has accepted, and confirms.
    pub async fn establish(&self, grant: Granted, number: u8) -> Initiator {
        self.accepted(grant, number).await.0
    }

    /// The same; also what the terminal has said.
    pub async fn accepted(
        &self,
        (session, generation, key): Granted,
        number: u8,
    ) -> (Initiator, Body) {
        let nonce = Nonce::generate(&mut rand::rng());
        let now = Instant::now();
        let mut initiator = Initiator::new(session, generation, nonce, self.offer(number), now);
        loop {
            if let Some(body) = initiator.poll(Instant::now(), &mut rand::rng()) {
                self.send(session, &key, &body).await;
            }
            let due = initiator.next_deadline().unwrap();
            let received = tokio::time::timeout_at(due.into(), self.port.receive()).await;
            let Ok(Ok(bytes)) = received else { continue };
            let Ok(parsed) = frame::parse(&bytes) else {
                continue;
            };
            let key_of = |id| (id == session).then(|| key.clone());
            // Repetitions that belong to an earlier session are still in the queue.
            let Ok((_, body)) = open(parsed.payload, Direction::FromTerminal, key_of) else {
                continue;
            };
            match initiator.on_body(&body, parsed.envelope.src_mac) {
                Outcome::Accepted { .. } => {
                    assert_eq!(
                        parsed.envelope.dst_mac, self.mac,
                        "it goes to the request's source"
                    );
                    // It answers no questions, as older gateways do not.
                    let confirm = Body {
                        message: Message::Confirm { slot: None },
                        ..initiator.confirm(0)
                    };
                    self.send(session, &key, &confirm).await;
                    return (initiator, body);
                }
                Outcome::Refused { detail } => panic!("refused: {detail}"),
                Outcome::Ignored(_) => {}
            }
        }
    }
}

/// From `ip`: /sys shows the namespace in which it was mounted, hence not this one.
fn gw0_index() -> u32 {
    let json: Value = serde_json::from_str(&ip("-j link show gw0")).unwrap();
    u32::try_from(json[0]["ifindex"].as_u64().unwrap()).unwrap()
}

fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorstep-terminal"));
    command
        .kill_on_drop(true)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub struct Terminal {
    pub folder: PathBuf,
}

impl Terminal {
    pub fn daemon(&self) -> Child {
        let config = self.folder.join("terminal.toml");
        let mut command = binary();
        command.stderr(Stdio::inherit());
        command
            .args(["run", "--config"])
            .arg(config)
            .spawn()
            .unwrap()
    }

    /// Runs a client: its exit code, its JSON, its errors.
    pub async fn client(&self, words: &str) -> (i32, Value, String) {
        let output = binary()
            .args(words.split_whitespace())
            .args(["-o", "json", "--socket"])
            .arg(self.folder.join("run/admin.sock"))
            .output()
            .await
            .unwrap();
        let json = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (
            output.status.code().unwrap(),
            json,
            String::from_utf8(output.stderr).unwrap(),
        )
    }

    pub async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let (code, status, error) = self.client("status").await;
            if code == 0 && holds(&status) {
                return status;
            }
            assert!(Instant::now() < end, "{what}: {status:#} {error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

pub async fn stop(mut daemon: Child) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(daemon.id().unwrap()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let status = tokio::time::timeout(PATIENCE, daemon.wait()).await.unwrap();
    assert!(status.unwrap().success());
}

pub fn listening(status: &Value) -> bool {
    status["ports"][0]["listening"] == true
}
