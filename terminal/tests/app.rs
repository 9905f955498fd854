//! The app of a whole daemon, asked from a room by HTTP, with a gateway's end of the line and a server
//! that the test plays.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use doorstep_establish::Mac;
use tokio::process::Child;
use tokio::sync::mpsc;

use crate::support::home::{Gateway, PATIENCE, Terminal, listening, stop};
use crate::support::operator::{Granted, Operator, serve};
use crate::support::room::{Answer, Device};
use crate::support::{assert_unchanged, dump, has_nft, in_namespace, ip};

const PORT: u16 = 8080;

struct Scene {
    terminal: Terminal,
    daemon: Child,
    operator: Arc<Operator>,
    device: Device,
}

impl Scene {
    /// A home that has never been connected.
    async fn new(folder: &Path) -> (Self, mpsc::UnboundedReceiver<Granted>) {
        let (operator, grants) = Operator::new(Duration::ZERO);
        let url = serve(operator.clone(), folder).await;
        let config = format!(
            "state_dir = \"state\"\nadmin_socket = \"run/admin.sock\"\n\
             [server]\nurl = \"{url}\"\nca = \"ca.pem\"\nserver_name = \"north-net\"\n\
             [wan]\nports = [\"wan0\"]\n\
             [home]\nroom_ports = [\"room0\"]\nipv4 = \"192.168.77.1/24\"\nmasquerade = {}\n\
             dhcp = false\n[home.app]\nport = {PORT}\n",
            has_nft()
        );
        std::fs::write(folder.join("terminal.toml"), config).unwrap();
        let terminal = Terminal {
            folder: folder.to_owned(),
        };
        let daemon = terminal.daemon();
        terminal.until("listens", listening).await;
        let device = Device::plug_in(PORT);
        let scene = Scene {
            terminal,
            daemon,
            operator,
            device,
        };
        (scene, grants)
    }

    /// A page, and the token of its forms.
    async fn form(&mut self, path: &str) -> String {
        let page = self.device.get(path).await;
        assert_eq!(page.status, 200, "{path}: {page:?}");
        page.field("csrf").unwrap().to_owned()
    }

    async fn register(&mut self, phone: &str) -> Answer {
        let csrf = self.form("/register/connect").await;
        let fields = [("csrf", csrf.as_str()), ("phone", phone)];
        self.device.post("/register/connect", &fields).await
    }

    /// Confirms, and looks until the steps have come to an end.
    async fn carry_out(&mut self, deed: &str, fields: &[(&str, &str)], end: &str) -> Answer {
        let done = self.device.post(deed, fields).await;
        assert_eq!(done.status, 303, "{done:?}");
        let steps = done.location().to_owned();
        assert!(steps.starts_with("/steps/"), "{steps}");
        let limit = Instant::now() + PATIENCE;
        loop {
            let page = self.device.get(&steps).await;
            if page.body.contains(&format!("data-end=\"{end}\"")) {
                return page;
            }
            assert!(page.body.contains("data-end=\"\""), "{}", page.body);
            assert!(Instant::now() < limit, "{}", page.body);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[test]
fn somebody_in_a_room_registers_connects_and_releases() {
    in_namespace(
        "somebody_in_a_room_registers_connects_and_releases",
        || async {
            let folder = tempfile::tempdir().unwrap();
            let before = dump();
            let (mut scene, mut grants) = Scene::new(folder.path()).await;
            scene.device.headers.push(("Accept-Language", "en"));
            let page = scene.device.get("/").await;
            assert!(
                page.body.contains("There is no connection here yet."),
                "{page:?}"
            );
            assert!(
                page.header("content-security-policy")
                    .unwrap()
                    .starts_with("default-src 'none'")
            );
            assert_eq!(page.header("cache-control"), Some("no-store"));

            // Nobody is asked for a door before the operator knows them.
            let led = scene.device.get("/connect").await;
            assert_eq!(led.status, 303);
            assert_eq!(led.location(), "/register/connect?operator=default");
            let refused = scene.register("").await;
            assert!(
                refused.body.contains("Give one of the two numbers."),
                "{refused:?}"
            );
            let registered = scene.register("13812345678").await;
            assert_eq!(registered.status, 303, "{registered:?}");
            assert_eq!(registered.location(), "/connect");

            // The one that one has already is offered as what needs no thought.
            let choice = scene.device.get("/connect").await;
            for said in [
                "data-plan=\"home\" href=\"/connect?operator=default&amp;plan=home\"",
                "data-plan=\"office\"",
                "up 500\u{a0}Mbit/s · Your present plan",
            ] {
                assert!(choice.body.contains(said), "{said}: {}", choice.body);
            }
            let csrf = scene.form("/connect?operator=default&plan=home").await;
            let typed = [
                ("csrf", csrf.as_str()),
                ("operator", "default"),
                ("plan", "home"),
                ("location", "d1.\nAB C"),
            ];
            let asked = scene
                .device
                .post_picture("/connect/door", &typed, b"")
                .await;
            assert!(asked.body.contains("Connect now?"), "{asked:?}");
            assert_eq!(asked.field("door"), Some("d1.ABC"));
            assert_eq!(asked.field("plan"), Some("home"));
            let no_picture = scene
                .device
                .post_picture("/connect/door", &typed[..3], b"GIF")
                .await;
            assert!(
                no_picture.body.contains("Take it as JPEG or PNG."),
                "{no_picture:?}"
            );

            let gateway = Gateway::new("gw-1", Mac([2, 0, 0, 0, 1, 1]));
            let grant = async {
                let grant = grants.recv().await.unwrap();
                gateway.establish(grant, 10).await;
            };
            let confirmed = [
                ("csrf", csrf.as_str()),
                ("operator", "default"),
                ("plan", "home"),
                ("door", "d1.ABC"),
            ];
            let done = scene.device.post("/connect", &confirmed).await;
            assert_eq!(done.status, 303, "{done:?}");
            // The same button, pressed twice, begins nothing new.
            let twice = scene.device.post("/connect", &confirmed).await;
            assert_eq!(twice.location(), done.location());
            grant.await;
            let status = scene
                .terminal
                .until("is connected", |status| {
                    status["sessions"][0]["state"] == "established"
                })
                .await;
            assert_eq!(scene.operator.answers.lock().unwrap().len(), 1);
            assert_eq!(*scene.operator.plan.lock().unwrap(), "home");
            let page = scene.device.get(done.location()).await;
            for said in ["You are online.", "Asked", "Accepted", "Connected"] {
                assert!(page.body.contains(said), "{said}: {}", page.body);
            }
            let page = scene.device.get("/").await;
            assert!(page.body.contains("100.64.1.10"), "{}", page.body);

            let session = status["sessions"][0]["session_id"].as_str().unwrap();
            let ask = format!("/release?session={session}");
            let page = scene.device.get(&ask).await;
            assert!(page.body.contains("End this connection?"), "{page:?}");
            let confirmed = [("csrf", csrf.as_str()), ("session", session)];
            scene.carry_out("/release", &confirmed, "well").await;
            let page = scene.device.get("/").await;
            assert!(
                page.body.contains("There is no connection here yet."),
                "{page:?}"
            );
            let gone = scene.device.get(&ask).await;
            assert_eq!(gone.status, 404, "{gone:?}");

            stop(scene.daemon).await;
            drop(scene.device);
            let config = scene.terminal.folder.join("terminal.toml");
            let undo = format!("undo --config {}", config.display());
            undone(&undo).await;
            assert_unchanged(&without_tv0(&before), "undone");
        },
    );
}

/// What was there, without the cable's end that has gone with the device.
fn without_tv0(before: &str) -> String {
    let kept = before
        .lines()
        .filter(|line| !line.contains("tv0") && !line.contains("room0"));
    kept.map(|line| format!("{line}\n")).collect()
}

async fn undone(words: &str) {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_doorstep-terminal"))
        .args(words.split_whitespace())
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn an_operator_may_want_a_code() {
    in_namespace("an_operator_may_want_a_code", || async {
        let folder = tempfile::tempdir().unwrap();
        let (mut scene, _grants) = Scene::new(folder.path()).await;
        scene.device.headers.push(("Accept-Language", "en"));
        *scene.operator.code.lock().unwrap() = Some("271828");
        let asked = scene.register("13812345678").await;
        assert!(asked.body.contains("Enter the code"), "{asked:?}");
        // The number waits at the terminal, not in the page.
        assert!(!asked.body.contains("13812345678"), "{asked:?}");
        let csrf = asked.field("csrf").unwrap().to_owned();
        let wrong = [("csrf", csrf.as_str()), ("code", "1")];
        let refused = scene.device.post("/register/connect/code", &wrong).await;
        assert!(
            refused.body.contains("That was not the code"),
            "{refused:?}"
        );
        // And it waits no longer than for one attempt.
        let right = [("csrf", csrf.as_str()), ("code", "271828")];
        let late = scene.device.post("/register/connect/code", &right).await;
        assert!(late.body.contains("Begin again"), "{late:?}");
        scene.register("13812345678").await;
        let registered = scene.device.post("/register/connect/code", &right).await;
        assert_eq!(
            (registered.status, registered.location()),
            (303, "/connect")
        );
        stop(scene.daemon).await;
    });
}

#[test]
fn an_operator_out_of_reach_is_told_of() {
    in_namespace("an_operator_out_of_reach_is_told_of", || async {
        let folder = tempfile::tempdir().unwrap();
        let (mut scene, _grants) = Scene::new(folder.path()).await;
        ip("link set lo down");
        let refused = scene.register("13812345678").await;
        assert_eq!(refused.status, 503, "{refused:?}");
        assert!(
            refused.body.contains("Your operator cannot be reached."),
            "{refused:?}"
        );
        ip("link set lo up");
        assert_eq!(scene.register("13812345678").await.status, 303);
        ip("link set lo down");
        let plans = scene.device.get("/connect").await;
        assert_eq!(plans.status, 503, "{plans:?}");
        assert!(
            plans.body.contains("Your operator cannot be reached."),
            "{plans:?}"
        );
        stop(scene.daemon).await;
    });
}

#[test]
fn what_no_page_of_ours_has_sent_is_refused() {
    in_namespace("what_no_page_of_ours_has_sent_is_refused", || async {
        let folder = tempfile::tempdir().unwrap();
        let (mut scene, _grants) = Scene::new(folder.path()).await;
        let csrf = scene.form("/register/connect").await;
        let phone = ("phone", "13812345678");
        let path = "/register/connect";
        for forged in [
            vec![phone],
            vec![phone, ("csrf", "x")],
            vec![phone, ("csrf", "")],
        ] {
            let answer = scene.device.post(path, &forged).await;
            assert_eq!(answer.status, 403, "{forged:?}");
        }
        let own = [phone, ("csrf", csrf.as_str())];
        for (header, status) in [
            (("Origin", "http://evil.example"), 403),
            (("Sec-Fetch-Site", "cross-site"), 403),
            (("Host", "evil.example"), 421),
        ] {
            scene.device.headers = vec![header];
            assert_eq!(
                scene.device.post(path, &own).await.status,
                status,
                "{header:?}"
            );
            let picture = scene.device.post_picture("/connect/door", &own, b"").await;
            assert_eq!(picture.status, status, "{header:?}");
        }
        let led = scene.device.get("/").await;
        assert_eq!(
            (led.status, led.location()),
            (302, "http://192.168.77.1:8080/")
        );
        scene.device.headers.clear();
        // Another browser has other tokens.
        let cookies = std::mem::take(&mut scene.device.cookies);
        assert_eq!(scene.device.post(path, &own).await.status, 403);
        scene.device.cookies = cookies;
        // What is too large is not read.
        let large = vec![0; 25 * 1024 * 1024];
        let answer = scene
            .device
            .post_picture("/connect/door", &own[1..], &large)
            .await;
        assert_eq!(answer.status, 413, "{answer:?}");
        let long = "1".repeat(20_000);
        let answer = scene
            .device
            .post(path, &[("csrf", &csrf), ("phone", &long)])
            .await;
        assert_eq!(answer.status, 400, "{answer:?}");
        let nowhere = scene.device.get("/nowhere").await;
        assert_eq!(nowhere.status, 404);
        let status = scene.terminal.until("answers", |_| true).await;
        assert_eq!(
            status["operators"][0]["subscriber_id"]
                .as_str()
                .unwrap_or(""),
            ""
        );
        // With all of it, it is done.
        assert_eq!(scene.device.post(path, &own).await.status, 303);
        stop(scene.daemon).await;
    });
}

#[test]
fn pages_speak_the_readers_language() {
    in_namespace("pages_speak_the_readers_language", || async {
        let folder = tempfile::tempdir().unwrap();
        let (mut scene, _grants) = Scene::new(folder.path()).await;
        scene.device.headers = vec![("Accept-Language", "zh-CN,en;q=0.5")];
        let page = scene.device.get("/").await;
        assert!(page.body.contains("lang=\"zh-CN\"") && page.body.contains("我的宽带"));
        let switched = scene.device.get("/?language=en").await;
        assert!(switched.body.contains("My broadband"), "{switched:?}");
        // It is remembered.
        let page = scene.device.get("/register/connect").await;
        assert!(page.body.contains("Phone number"), "{page:?}");
        stop(scene.daemon).await;
    });
}
