//! The app, as somebody with a phone uses it: in a room, in Chromium, with the real daemons.
//!
//! `DOORSTEP_WRITE_SCREENSHOTS=1` has the pictures of the documentation made anew.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use doorstep_test_chromium::{Chromium, Key, Page};
use doorstep_tests::lab::cpe::{Client, Cpe};
use doorstep_tests::lab::netns::Netns;
use doorstep_tests::lab::street::{Plan, Session, Street};
use doorstep_tests::suite::{CaseResult, Skip};
use serde::Deserialize;

use crate::rooms::{PATIENCE, needs_dnsmasq};

const APP: &str = "http://doorstep.home";
const PHONE_WIDTH: u32 = 375;
const PHONE_HEIGHT: u32 = 720;
/// A page of the world, and the name by which its resolver knows it.
const WORLD: &str = "world.example";
const WORLD_PORT: u16 = 8080;
const WORLD_SAYS: &str = "the world says hello";

/// Somebody who has nothing yet connects, moves, adds a connection, ends it all, and sees pages of the
/// world exactly while there is a connection.
pub fn from_a_phone() -> CaseResult {
    needs_dnsmasq()?;
    if !doorstep_test_chromium::is_there() {
        return Err(Skip("there is no Chromium on this host".to_owned()).into());
    }
    let mut street = Street::new(Plan {
        gateways: 2,
        rooms: 1,
        app: true,
        ..Plan::default()
    })?;
    publish(&street)?;
    // An address and a resolver are there before any session.
    let room = &street.homes[0].rooms[0];
    let device = Cpe::start_in_room(Client::Udhcpc, room, &street.dir().join("phone"))?;
    device
        .wait_until(PATIENCE, |address| address.is_some())
        .with_context(|| street.homes[0].terminal.log_tail())?;
    let chromium = browser(room, &device.resolv_conf())?;
    let page = chromium.page();
    page.resize(PHONE_WIDTH, PHONE_HEIGHT);
    page.prefer("light");
    page.read_in("zh-CN,zh;q=0.9,en;q=0.5");

    // Whatever is opened before there is a session, it is the app.
    leads_to_the_app(&page, "before.example");
    page.open(&format!("{APP}/"));
    page.until_text("这里还没有开通宽带");
    fits(&page);
    page.keep("app-start-zh");
    connect(&street, &page)?;
    sees_the_world(&page);

    page.open(&format!("{APP}/"));
    page.tab_to("#in-en");
    page.press(Key::Enter);
    page.until_text("You are online.");
    page.keep("app-online");
    let first = sessions(&street)?.pop().context("no session")?;
    not_from_elsewhere(&street, &first)?;

    relocate(&mut street, &page)?;
    sees_the_world(&page);
    additional(&street, &page)?;
    for left in [1, 0] {
        release(&street, &page, left)?;
    }
    page.until_text("There is no connection here yet.");
    page.prefer("dark");
    fits(&page);
    page.keep("app-start-dark");

    leads_to_the_app(&page, "after.example");
    let unseen = sees_nothing(&street.homes[0].rooms[0], street.http(false))?;
    ensure!(unseen, "the world is reached without a session");
    let log = street.homes[0].terminal.log();
    ensure!(
        !log.contains(&street.homes[0].phone()),
        "the log has the number"
    );
    let told: Vec<String> = page
        .requests()
        .into_iter()
        .filter(|url| url.contains(&street.homes[0].phone()))
        .collect();
    ensure!(told.is_empty(), "an address has the number: {told:?}");
    // What is not reached while there is no session is not the app's.
    let complaints = page.complaints();
    let own: Vec<_> = complaints
        .iter()
        .filter(|text| !text.contains(".example"))
        .collect();
    ensure!(own.is_empty(), "{own:?}");
    Ok(())
}

/// A browser in a room, which asks the resolver that the room's device was given.
fn browser(room: &Netns, resolv_conf: &Path) -> Result<Chromium> {
    let mut shell = room.command("unshare")?;
    let resolv_conf = resolv_conf.to_str().context("a plain path")?;
    let enter = format!("mount --bind {resolv_conf} /etc/resolv.conf && exec \"$0\" \"$@\"");
    shell.args(["--mount", "/bin/sh", "-c", &enter, "/bin/sh"]);
    Ok(Chromium::start_at(shell))
}

/// Registers by a phone number, and connects by a picture of the door's code.
fn connect(street: &Street, page: &Page) -> Result<()> {
    page.tab_to("#connect");
    page.press(Key::Enter);
    page.until("location.pathname === '/register/connect'");
    page.tab_to("#phone");
    page.type_text(&street.homes[0].phone());
    fits(page);
    page.press(Key::Enter);
    page.until("location.pathname === '/connect'");
    page.tab_to("#picture");
    fits(page);
    page.keep("app-door-zh");
    page.choose_file(&photograph(street, 0)?);
    press(page, "#go-on");
    page.until_text("现在开通吗？");
    page.tab_to("#confirm");
    fits(page);
    page.keep("app-confirm-zh");
    page.press(Key::Enter);
    page.until("document.querySelector('#steps')?.dataset.end === 'well'");
    page.until_text("您已上网。");
    let states =
        page.value("[...document.querySelectorAll('#steps li')].map((li) => li.dataset.state)");
    let states = states.context("no steps")?.to_string();
    for state in ["requested", "accepted", "bringing-up", "established"] {
        ensure!(states.contains(state), "no step {state}: {states}");
    }
    fits(page);
    page.keep("app-steps-zh");
    Ok(())
}

/// Takes the terminal to another building, and types that door's code.
fn relocate(street: &mut Street, page: &Page) -> Result<()> {
    let before = sessions(street)?.pop().context("no session")?;
    street.plug(0, 1)?;
    page.open(&format!("{APP}/"));
    choose(page, "move");
    page.until("location.pathname === '/move'");
    page.tab_to("#location");
    // As somebody types it from a sticker, in two lines.
    let sealed = street.seal(1, 0)?;
    let (begin, end) = sealed.split_at(sealed.len() / 2);
    page.type_text(&format!("{begin}\n{end}"));
    press(page, "#go-on");
    page.until_text("Move now?");
    press(page, "#confirm");
    page.until("document.querySelector('#steps')?.dataset.end === 'well'");
    page.keep("app-steps");
    let after = sessions(street)?.pop().context("no session")?;
    ensure!(
        after.session_id == before.session_id && after.gateway_id != before.gateway_id,
        "{before:?} {after:?}"
    );
    Ok(())
}

/// One more at the same door, with nothing to type.
fn additional(street: &Street, page: &Page) -> Result<()> {
    page.open(&format!("{APP}/"));
    press(page, "#add");
    page.until("location.pathname === '/add'");
    press(page, "#same");
    page.until_text("Add a connection now?");
    press(page, "#confirm");
    page.until("document.querySelector('#steps')?.dataset.end === 'well'");
    ensure!(sessions(street)?.len() == 2, "{:?}", sessions(street)?);
    Ok(())
}

fn release(street: &Street, page: &Page, left: usize) -> Result<()> {
    page.open(&format!("{APP}/"));
    choose(page, "release");
    page.until_text("End this connection?");
    if left == 0 {
        fits(page);
        page.keep("app-release");
    }
    press(page, "#confirm");
    page.until("document.querySelector('#steps')?.dataset.end === 'well'");
    ensure!(sessions(street)?.len() == left, "{:?}", sessions(street)?);
    press(page, "#home");
    page.until_at("/");
    Ok(())
}

/// Opens what can be done to the first connection, and begins it.
fn choose(page: &Page, deed: &str) {
    press(page, "section.session summary");
    press(page, &format!("[data-deed={deed}]"));
}

fn press(page: &Page, selector: &str) {
    page.tab_to(selector);
    page.press(Key::Enter);
}

/// A page loaded by its name, through the new connection; loaded anew while names are not known yet.
fn sees_the_world(page: &Page) {
    let url = format!("http://{WORLD}:{WORLD_PORT}/hello");
    let end = Instant::now() + Duration::from_secs(20);
    while !page.reaches(&url) {
        assert!(
            Instant::now() < end,
            "{url} is not reached:\n{}",
            page.text()
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    page.until_text(WORLD_SAYS);
}

/// As a phone looks whether there is an internet, by a name that the browser has not asked for yet: it
/// remembers addresses for longer than it is told to.
fn leads_to_the_app(page: &Page, name: &str) {
    let end = Instant::now() + Duration::from_secs(20);
    let is_app =
        "location.host === '192.168.77.1' && !!document.querySelector('body.app #connect')";
    while !page.reaches(&format!("http://{name}/")) || page.value(is_app) != Some(true.into()) {
        assert!(
            Instant::now() < end,
            "{name} does not lead to the app:\n{}",
            page.text()
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn sees_nothing(room: &Netns, world: SocketAddr) -> Result<bool> {
    room.run(move || TcpStream::connect_timeout(&world, Duration::from_secs(2)).is_err())
}

/// The world does not reach the app: by the session's address nobody listens.
fn not_from_elsewhere(street: &Street, session: &Session) -> Result<()> {
    let own = SocketAddr::new(session.v4()?, 80);
    let open = street
        .inet
        .run(move || TcpStream::connect_timeout(&own, Duration::from_secs(2)).is_ok())?;
    ensure!(!open, "the world reaches the app at {own}");
    // The app's own socket is in the way of another one that would listen everywhere.
    let terminal = &street.homes[0].netns;
    let bound = terminal.run(|| TcpListener::bind("0.0.0.0:80").is_ok())?;
    ensure!(!bound, "nobody listens at port 80");
    Ok(())
}

fn sessions(street: &Street) -> Result<Vec<Session>> {
    #[derive(Deserialize)]
    struct Status {
        sessions: Vec<Session>,
    }
    let status: Status = street.homes[0].terminal.ask_json(&["status"])?;
    Ok(status.sessions)
}

/// The door's code as a phone takes it: turned, on a wall, as JPEG.
fn photograph(street: &Street, building: usize) -> Result<PathBuf> {
    let sealed = street.seal(building, 0)?;
    let sticker = street.dir().join("sticker.png");
    let name = sticker.to_str().context("a plain path")?;
    let words = ["qr", "--sealed", &sealed, "--png", name];
    street.homes[0].terminal.ask(&words)?;
    let sticker = image::open(&sticker)?.rotate90().into_rgb8();
    let mut wall = image::RgbImage::from_pixel(2400, 1800, image::Rgb([190, 184, 170]));
    image::imageops::replace(&mut wall, &sticker, 900, 500);
    let photograph = street.dir().join("photograph.jpg");
    wall.save(&photograph)?;
    Ok(photograph)
}

/// A page of the world, and a resolver that knows its name, at the address that sessions are told of.
fn publish(street: &Street) -> Result<()> {
    let world = street.http(false).ip();
    let pages = street
        .inet
        .run(move || TcpListener::bind((world, WORLD_PORT)))??;
    std::thread::spawn(move || {
        for mut stream in pages.incoming().flatten() {
            // A browser that goes away is none of this one's business.
            let Ok(1..) = stream.read(&mut [0; 4096]) else {
                continue;
            };
            let text = format!("<!DOCTYPE html><title>world</title><p>{WORLD_SAYS}</p>");
            let _ = write!(
                stream,
                "HTTP/1.0 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{text}",
                text.len()
            );
        }
    });
    let names = street.inet.run(move || UdpSocket::bind((world, 53)))??;
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((len, from)) = names.recv_from(&mut query) {
            if let Some(answer) = resolved(&query[..len], world) {
                let _ = names.send_to(&answer, from);
            }
        }
    });
    Ok(())
}

/// The answer to a query (RFC 1035, 4.1): the address, or that there is none of that kind.
fn resolved(query: &[u8], world: IpAddr) -> Option<Vec<u8>> {
    let IpAddr::V4(world) = world else {
        return None;
    };
    let question = query.get(12..)?;
    let end = question.iter().position(|byte| *byte == 0)? + 5;
    let question = question.get(..end)?;
    let is_address = question[end - 4..] == [0, 1, 0, 1];
    let mut name = Vec::new();
    for label in WORLD.split('.') {
        name.push(u8::try_from(label.len()).ok()?);
        name.extend(label.bytes());
    }
    let is_known = question.to_ascii_lowercase().starts_with(&name);
    let count = u8::from(is_address && is_known);
    let code = if is_known { 0 } else { 3 };
    let mut answer = query.get(..2)?.to_vec();
    answer.extend([0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
    answer.extend(question);
    if count == 1 {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        answer.extend(world.octets());
    }
    Some(answer)
}

/// Nothing is wider than the phone, or too small to be read.
fn fits(page: &Page) {
    assert_eq!(page.overflow(), [""; 0], "{}", page.text());
    let small = page.value(
        "[...document.querySelectorAll('main *')].some((element) => \
         parseFloat(getComputedStyle(element).fontSize) < 12)",
    );
    assert_eq!(small, Some(false.into()), "{}", page.text());
}
