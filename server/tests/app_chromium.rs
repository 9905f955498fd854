//! The app as somebody with a phone and an ordinary router uses it: in a real browser, by the keyboard.
//!
//! `DOORSTEP_WRITE_SCREENSHOTS=1` has the pictures of the documentation made anew.

use doorstep_proto::v1::SessionState as S;
use doorstep_test_chromium::{Chromium, Key, Page};

use crate::common::phone::APP;
use crate::common::{HOME_1, HOME_2, PHONE, Server, UNHURRIED, config_with, picture};

const WIDTH: u32 = 375;
const HEIGHT: u32 = 720;

fn press(page: &Page, selector: &str) {
    page.tab_to(selector);
    page.press(Key::Enter);
}

/// Nothing is wider than the phone, and nothing too small to be read.
fn fits(page: &Page, what: &str) {
    assert_eq!(page.overflow(), [""; 0], "{what}");
    let small = page.value(
        "[...document.querySelectorAll('main *')].some((element) => \
         parseFloat(getComputedStyle(element).fontSize) < 11)",
    );
    assert_eq!(small, Some(false.into()), "{what}");
}

fn is_quiet(page: &Page, origin: &str) {
    assert_eq!(page.complaints(), [""; 0]);
    let addresses = page.requests();
    let elsewhere = addresses.iter().filter(|url| !url.starts_with(origin));
    assert_eq!(elsewhere.collect::<Vec<_>>(), Vec::<&String>::new());
    let numbers = addresses.iter().filter(|url| url.contains(PHONE));
    assert_eq!(numbers.count(), 0, "an address tells the number");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_goes_online_and_moves_by_its_phone() {
    // Over TLS, and so over HTTP/2.
    let app = APP.replace("tls = false\n", "");
    let plans = "[[plan]]\nname = \"home\"\nupstream = \"30M\"\ndownstream = \"300M\"\noffered = true\n\
         title = \"家庭宽带 300M\"\nprice = \"¥68 / 月\"\n\
         [[plan]]\nname = \"office\"\nupstream = \"100M\"\ndownstream = \"1G\"\noffered = true\n\
         title = \"商务宽带\"\nprice = \"¥198 / 月\"\n";
    let config = config_with(&format!("{app}\n{UNHURRIED}")) + plans;
    let server = Server::start_with(&config).await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut gw2 = server.synced_gateway("gw2").await;
    let origin = format!("https://{}", server.running.as_ref().unwrap().app.unwrap());
    let sticker = server.dir.path().join("door.png");
    std::fs::write(&sticker, picture::of(&server.seal(HOME_1))).unwrap();

    let walk = tokio::task::spawn_blocking({
        let origin = origin.clone();
        move || {
            let chromium = Chromium::start();
            let page = chromium.page();
            page.resize(WIDTH, HEIGHT);
            page.prefer("light");
            page.read_in("zh-CN,zh;q=0.9,en;q=0.5");
            page.open(&format!("{origin}/register"));
            page.tab_to("#phone");
            page.type_text(PHONE);
            fits(&page, "register");
            page.keep("phone-register-zh");
            press(&page, "#go-on");
            page.until_at("/");
            fits(&page, "nothing yet");
            press(&page, "#connect");
            page.until_at("/connect");
            page.until_text("¥68 / 月");
            fits(&page, "plans");
            page.keep("phone-plans-zh");
            press(&page, "a[data-plan=home]");
            page.until_at("/connect?plan=home");
            page.tab_to("#picture");
            page.choose_file(&sticker);
            fits(&page, "door");
            press(&page, "#go-on");
            page.until("document.querySelector('#confirm') !== null");
            fits(&page, "confirm");
            press(&page, "#confirm");
            page.until("document.querySelector('#steps') !== null");
            (chromium, page)
        }
    });
    let (chromium, page) = walk.await.unwrap();

    let connect = gw1.connect().await;
    assert_eq!(connect.service.unwrap().upstream_bps, 30_000_000);
    gw1.ack(&connect.session_id, connect.generation).await;
    let walk = tokio::task::spawn_blocking(move || {
        // What gateways do is seen without anything being pressed.
        page.until("document.querySelector('#router') !== null");
        fits(&page, "waits for the router");
        page.keep("phone-router-zh");
        page
    });
    let page = walk.await.unwrap();
    gw1.established(&connect.session_id, connect.generation)
        .await;
    server.reaches(&connect.session_id, S::Established).await;
    let sealed = server.seal(HOME_2);
    let walk = tokio::task::spawn_blocking({
        let session = connect.session_id.clone();
        move || {
            page.until("document.querySelector('#steps').dataset.end === 'well'");
            press(&page, "#home");
            page.until_at("/");
            press(&page, "#in-en");
            page.until_text("You are online.");
            page.until_text("家庭宽带 300M");
            fits(&page, "online");
            page.keep("phone-online");
            press(&page, "a[data-deed=move]");
            page.until_at(&format!("/move?session={session}"));
            page.tab_to("#location");
            page.type_text(&sealed);
            press(&page, "#go-on");
            page.until_text("Move now?");
            press(&page, "#confirm");
            page.until("document.querySelector('#steps') !== null");
            page
        }
    });
    let page = walk.await.unwrap();
    let disconnect = gw1.disconnect().await;
    gw1.receipt(&disconnect.session_id, disconnect.generation)
        .await;
    gw2.establish().await;
    let walk = tokio::task::spawn_blocking(move || {
        page.until("document.querySelector('#steps').dataset.end === 'well'");
        fits(&page, "moved");
        page.keep("phone-moved");
        page.prefer("dark");
        page.open(&format!("{origin}/"));
        fits(&page, "online, dark");
        page.keep("phone-dark");
        press(&page, "#out summary");
        press(&page, "#sign-out");
        page.until_at("/register");
        is_quiet(&page, &origin);
        drop(chromium);
    });
    walk.await.unwrap();
}
