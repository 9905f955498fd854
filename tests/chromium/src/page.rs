//! A page, used by the keyboard.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::pipe::Pipe;

const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// So many times Tab is pressed before something counts as out of reach.
const REACH: usize = 150;
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// A key with a meaning of its own.
#[derive(Clone, Copy, Debug)]
pub enum Key {
    Tab,
    Enter,
}

impl Key {
    fn params(self) -> (&'static str, u32, &'static str) {
        match self {
            Key::Tab => ("Tab", 9, ""),
            Key::Enter => ("Enter", 13, "\r"),
        }
    }
}

pub struct Page {
    pipe: Arc<Pipe>,
    session: String,
}

impl Page {
    pub(crate) fn new(pipe: Arc<Pipe>, session: &str) -> Self {
        let page = Page {
            pipe,
            session: session.to_owned(),
        };
        for domain in ["DOM", "Page", "Runtime", "Log", "Network"] {
            page.ask(&format!("{domain}.enable"), &json!({}));
        }
        page
    }

    fn ask(&self, method: &str, params: &Value) -> Value {
        self.pipe.ask(Some(&self.session), method, params)
    }

    /// The size of the window in pixels, as a phone's or a desk's.
    pub fn resize(&self, width: u32, height: u32) {
        let params = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600,
        });
        self.ask("Emulation.setDeviceMetricsOverride", &params);
    }

    /// As people have it set in their system: `light` or `dark`.
    pub fn prefer(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.ask(
            "Emulation.setEmulatedMedia",
            &json!({ "features": features }),
        );
    }

    /// The languages that people read, as `Accept-Language` has them.
    pub fn read_in(&self, languages: &str) {
        let headers = json!({ "headers": { "Accept-Language": languages } });
        self.ask("Network.setExtraHTTPHeaders", &headers);
    }

    /// Chooses a file for the field that has the focus, as a person does in the dialogue that it opens.
    pub fn choose_file(&self, file: &Path) {
        let field = json!({ "expression": "document.activeElement" });
        let found = self.ask("Runtime.evaluate", &field);
        let chosen = json!({ "files": [file], "objectId": found["result"]["objectId"] });
        self.ask("DOM.setFileInputFiles", &chosen);
    }

    /// Opens an address that may not be reached, such as by a new connection; whether it was.
    #[must_use]
    pub fn reaches(&self, url: &str) -> bool {
        let answer = self.ask("Page.navigate", &json!({ "url": url }));
        answer["errorText"] == Value::Null
    }

    /// Opens an address and waits until it is there.
    pub fn open(&self, url: &str) {
        let answer = self.ask("Page.navigate", &json!({ "url": url }));
        assert_eq!(answer["errorText"], Value::Null, "{url}");
        let path = url.splitn(4, '/').nth(3).unwrap_or("");
        self.until_at(&format!("/{path}"));
    }

    /// What an expression is; none while a page makes room for the next one.
    #[must_use]
    pub fn value(&self, expression: &str) -> Option<Value> {
        let params = json!({ "expression": expression, "returnByValue": true });
        let session = Some(self.session.as_str());
        let mut answer = self
            .pipe
            .try_ask(session, "Runtime.evaluate", &params)
            .ok()?;
        if answer["exceptionDetails"] != Value::Null {
            return None;
        }
        Some(answer["result"]["value"].take())
    }

    /// Waits until an expression is true.
    pub fn until(&self, expression: &str) {
        let end = Instant::now() + PATIENCE;
        while self.value(expression) != Some(Value::Bool(true)) {
            assert!(
                Instant::now() < end,
                "it does not become true: {expression}\nat {:?}:\n{}",
                self.value("location.href"),
                self.text()
            );
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Waits until the page says this.
    pub fn until_text(&self, text: &str) {
        let text = Value::from(text);
        self.until(&format!("document.body.innerText.includes({text})"));
    }

    /// Waits until the page is at this path with its query, and whole.
    pub fn until_at(&self, path: &str) {
        let path = Value::from(path);
        self.until(&format!(
            "document.readyState === 'complete' && (location.pathname + location.search) === {path}"
        ));
    }

    #[must_use]
    pub fn text(&self) -> String {
        let text = self.value("document.body.innerText").unwrap_or_default();
        text.as_str().unwrap_or_default().to_owned()
    }

    pub fn press(&self, key: Key) {
        let (name, code, text) = key.params();
        for kind in ["keyDown", "keyUp"] {
            let mut params = json!({
                "type": kind, "key": name, "code": name, "windowsVirtualKeyCode": code,
            });
            if kind == "keyDown" && !text.is_empty() {
                params["text"] = text.into();
            }
            self.ask("Input.dispatchKeyEvent", &params);
        }
    }

    pub fn type_text(&self, text: &str) {
        self.ask("Input.insertText", &json!({ "text": text }));
    }

    /// Presses Tab until what the selector finds has the focus, and can be seen to have it.
    pub fn tab_to(&self, selector: &str) {
        let has_focus = format!(
            "document.activeElement?.matches({}) ?? false",
            Value::from(selector)
        );
        for _ in 0..REACH {
            if self.value(&has_focus) == Some(Value::Bool(true)) {
                let outline = "getComputedStyle(document.activeElement).outlineStyle !== 'none'";
                assert_eq!(self.value(outline), Some(Value::Bool(true)), "{selector}");
                return;
            }
            self.press(Key::Tab);
        }
        panic!("the keyboard does not reach {selector}:\n{}", self.text());
    }

    /// What is wider than the window, if anything is.
    #[must_use]
    pub fn overflow(&self) -> Vec<String> {
        let found = self.value(
            "[...document.querySelectorAll('body *')].filter((element) => {
                const box = element.getBoundingClientRect();
                return box.width > 0 && box.left >= 0 && box.right > innerWidth + 0.5;
            }).map((element) => element.tagName + '.' + element.className)
            .concat(document.documentElement.scrollWidth > innerWidth ? ['the page'] : [])",
        );
        let found = found.unwrap_or_else(|| panic!("the page is not there"));
        let all = found.as_array().into_iter().flatten();
        all.map(ToString::to_string).collect()
    }

    /// The window's content as PNG.
    #[must_use]
    pub fn picture(&self) -> Vec<u8> {
        let answer = self.ask("Page.captureScreenshot", &json!({ "format": "png" }));
        let data = answer["data"].as_str().expect("a picture");
        BASE64_STANDARD.decode(data).expect("base64")
    }

    /// A picture that shows something; kept for the documentation, as `docs/img/NAME.png`, if that is asked for.
    pub fn keep(&self, name: &str) {
        let picture = self.picture();
        assert!(picture.starts_with(PNG), "{name}");
        // A page without anything on it would be far smaller.
        assert!(picture.len() > 4_000, "{name}: {} bytes", picture.len());
        if std::env::var_os("DOORSTEP_WRITE_SCREENSHOTS").is_some() {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/img");
            std::fs::write(folder.join(format!("{name}.png")), picture).expect("a picture is kept");
        }
    }

    /// Errors and warnings of the console, refusals of the content security policy, exceptions.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let events = self.pipe.events(&self.session);
        let complaints = events.iter().filter(|event| {
            let params = &event["params"];
            match event["method"].as_str() {
                Some("Runtime.exceptionThrown") => true,
                Some("Runtime.consoleAPICalled") => {
                    matches!(
                        params["type"].as_str(),
                        Some("error" | "warning" | "assert")
                    )
                }
                Some("Log.entryAdded") => {
                    matches!(params["entry"]["level"].as_str(), Some("error" | "warning"))
                }
                _ => false,
            }
        });
        complaints
            .map(|event| event["params"].to_string())
            .collect()
    }

    /// Waits until there is a complaint of this kind.
    pub fn until_complaint(&self, text: &str) {
        let end = Instant::now() + PATIENCE;
        while !self
            .complaints()
            .iter()
            .any(|complaint| complaint.contains(text))
        {
            assert!(Instant::now() < end, "nobody complains of {text}");
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Every address that was asked for.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        let events = self.pipe.events(&self.session);
        let sent = events
            .iter()
            .filter(|event| event["method"] == "Network.requestWillBeSent");
        let urls = sent.filter_map(|event| event["params"]["request"]["url"].as_str());
        urls.map(ToOwned::to_owned).collect()
    }
}
