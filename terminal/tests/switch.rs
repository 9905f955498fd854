//! A home with two operators: a session of one takes the place of the other's.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use doorstep_establish::{Body, Mac};
use serde_json::Value;
use tokio::process::Child;
use tokio::sync::mpsc;

use crate::support::home::{Gateway, PATIENCE, Terminal, listening, stop};
use crate::support::operator::{Granted, Operator, serve};
use crate::support::{assert_unchanged, dump, has_nft, in_namespace, ip};

struct Side {
    operator: Arc<Operator>,
    grants: mpsc::UnboundedReceiver<Granted>,
}

/// A home that is registered at two operators, and has a session of the first.
struct Scene {
    terminal: Terminal,
    daemon: Child,
    north: Side,
    south: Side,
    gateway: Gateway,
    first: Granted,
    before: String,
}

impl Scene {
    async fn new(folder: &Path) -> Self {
        let mut sides = Vec::new();
        let mut config = format!(
            "state_dir = \"state\"\nadmin_socket = \"run/admin.sock\"\n\
             [wan]\nports = [\"wan0\"]\n\
             [home]\nroom_ports = [\"room0\"]\nipv4 = \"192.168.77.1/24\"\nmasquerade = {}\n",
            has_nft()
        );
        for name in ["north", "south"] {
            let (operator, grants) = Operator::new(Duration::ZERO);
            let own = folder.join(name);
            std::fs::create_dir(&own).unwrap();
            let url = serve(operator.clone(), &own).await;
            config += &format!(
                "[operators.{name}]\nurl = \"{url}\"\nca = \"{name}/ca.pem\"\n\
                 server_name = \"north-net\"\n"
            );
            sides.push(Side { operator, grants });
        }
        std::fs::write(folder.join("terminal.toml"), config).unwrap();
        let (south, mut north) = (sides.pop().unwrap(), sides.pop().unwrap());
        let terminal = Terminal {
            folder: folder.to_owned(),
        };
        let before = dump();
        let daemon = terminal.daemon();
        terminal.until("listens", listening).await;
        let (code, _, error) = terminal.client("register --phone 13800000000").await;
        assert_eq!(code, 2, "at which of the two?");
        assert!(error.contains("--operator (north, south)"), "{error}");
        ok(&terminal, "register --phone 13800000000 --operator north").await;

        let gateway = Gateway::new("gw-1", Mac([2, 0, 0, 0, 1, 1]));
        let establish = async {
            let grant = north.grants.recv().await.unwrap();
            gateway.establish(grant.clone(), 10).await;
            grant
        };
        let (_, first) = tokio::join!(
            ok(&terminal, "request --sealed d1.x --operator north"),
            establish
        );
        let switch = "switch --sealed d1.x --operator south";
        let (code, _, error) = terminal.client(switch).await;
        assert_eq!(code, 6, "not registered there");
        assert!(
            error.contains("not registered at operator south"),
            "{error}"
        );
        ok(&terminal, "register --phone 13800000000 --operator south").await;
        Self {
            terminal,
            daemon,
            north,
            south,
            gateway,
            first,
            before,
        }
    }

    /// The terminal asks the second operator for a session in the first one's place, which a gateway
    /// establishes; what the terminal said to that one.
    async fn switch(&mut self, through: &Gateway) -> (Granted, Body) {
        let Self {
            terminal, south, ..
        } = self;
        let establish = async {
            let grant = south.grants.recv().await.unwrap();
            let (_, body) = through.accepted(grant.clone(), 20).await;
            (grant, body)
        };
        let (result, said) = tokio::join!(
            ok(terminal, "switch --sealed d1.x --operator south"),
            establish
        );
        assert_eq!(result["state"], "established");
        assert_eq!(result["ipv4_address"], "100.64.1.20");
        said
    }

    async fn end(self) {
        let only = |status: &Value| {
            let sessions = status["sessions"].as_array().unwrap();
            sessions.len() == 1 && sessions[0]["operator"] == "south"
        };
        let status = self.terminal.until("the first one has ended", only).await;
        assert_eq!(status["sessions"][0]["replaces"], Value::Null);
        assert!(!ip("addr show wan0").contains("100.64.1.10"));
        ok(&self.terminal, "release").await;
        assert_unchanged(&self.before, "after the release");
        stop(self.daemon).await;
    }
}

async fn ok(terminal: &Terminal, words: &str) -> Value {
    let (code, json, error) = terminal.client(words).await;
    assert_eq!(code, 0, "{words}: {error}");
    json
}

/// The source that packets into the world have.
fn source() -> String {
    let route = ip("route get 8.8.8.8");
    let at = route.find("src ").unwrap_or_else(|| panic!("{route}"));
    route[at + 4..].split(' ').next().unwrap().to_owned()
}

#[test]
fn on_one_line_the_answer_names_the_session_that_ends() {
    in_namespace(
        "on_one_line_the_answer_names_the_session_that_ends",
        || async {
            let folder = tempfile::tempdir().unwrap();
            let mut scene = Scene::new(folder.path()).await;
            assert_eq!(source(), "100.64.1.10");
            let through = Gateway::new("gw-1", Mac([2, 0, 0, 0, 1, 1]));
            let (grant, body) = scene.switch(&through).await;
            let (id, _, key) = &scene.first;
            let named = body.replaces().expect("a session to end");
            assert_eq!((named.session, named.generation), (*id, 1));
            assert!(named.is_proven(key, grant.0, &body));
            assert!(!named.is_proven(&grant.2, grant.0, &body));
            // New flows take the new session at once, before anybody says that the other has ended.
            assert_eq!(source(), "100.64.1.20");
            let known = scene.north.operator.sessions.lock().unwrap().len();
            assert_eq!(known, 1, "nobody asked its server");

            // As its server has it from the gateway.
            scene.north.operator.end(&id.to_string());
            scene.end().await;
        },
    );
}

#[test]
fn elsewhere_the_former_session_is_released_once_the_new_one_is_there() {
    in_namespace(
        "elsewhere_the_former_session_is_released_once_the_new_one_is_there",
        || async {
            let folder = tempfile::tempdir().unwrap();
            let mut scene = Scene::new(folder.path()).await;
            let other = Gateway::new("gw-2", Mac([2, 0, 0, 0, 1, 2]));
            let (_, body) = scene.switch(&other).await;
            assert_eq!(body.replaces(), None, "gw-2 knows no session of gw-1");
            scene.end().await;
        },
    );
}

/// An operator's server answers with the id of another's session.
#[test]
fn no_operator_lays_hands_on_anothers_session() {
    in_namespace("no_operator_lays_hands_on_anothers_session", || async {
        let folder = tempfile::tempdir().unwrap();
        let scene = Scene::new(folder.path()).await;
        *scene.south.operator.always.lock().unwrap() = Some(scene.first.0);
        let (code, _, error) = scene
            .terminal
            .client("request --sealed d1.x --operator south")
            .await;
        assert_eq!(code, 1);
        assert!(error.contains("a session of another operator"), "{error}");
        let status = ok(&scene.terminal, "status").await;
        let session = &status["sessions"][0];
        assert_eq!(session["operator"], "north");
        assert_eq!(session["generation"], 1);
        assert_eq!(session["state"], "established");
        // Its key is the one that its gateway has.
        let release = scene.gateway.establish(scene.first.clone(), 10);
        assert!(tokio::time::timeout(PATIENCE, release).await.is_ok());
        stop(scene.daemon).await;
    });
}
