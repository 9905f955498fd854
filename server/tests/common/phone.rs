//! A subscriber's phone: a browser with cookies, that fills in the app's forms.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Server;
use super::browser::{Answer, form};

const PATIENCE: Duration = Duration::from_secs(60);
const BOUNDARY: &str = "------doorstep-test";

/// The section of a configuration with an app.
pub const APP: &str = "[app]\nlisten = \"127.0.0.1:0\"\ntls = false\n\
     sign_in_rate = { per_minute = 100000, burst = 10000 }";

pub struct Phone {
    address: SocketAddr,
    pub cookies: BTreeMap<String, String>,
    pub language: &'static str,
}

impl Phone {
    pub fn new(server: &Server) -> Self {
        Phone {
            address: server.running.as_ref().unwrap().app.unwrap(),
            cookies: BTreeMap::new(),
            language: "en",
        }
    }

    /// Of a subscriber who is new.
    pub async fn registered(server: &Server, number: &str) -> Self {
        let mut phone = Phone::new(server);
        let answer = phone.register(number).await;
        assert_eq!(answer.status, 303, "{}", answer.body);
        phone
    }

    pub async fn register(&mut self, number: &str) -> Answer {
        let fields = [("phone", number), ("csrf", "")];
        self.post("/register/connect", &fields).await
    }

    /// At another server of the operator, or after a restart.
    pub fn at(&mut self, server: &Server) {
        self.address = server.running.as_ref().unwrap().app.unwrap();
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, "", b"").await
    }

    pub async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let kind = "application/x-www-form-urlencoded";
        self.ask("POST", path, kind, form(fields).as_bytes()).await
    }

    /// Sends what the first form of a page would send, with some of its fields filled in.
    pub async fn submit(&mut self, page: &Answer, filled: &[(&str, &str)]) -> Answer {
        let (path, fields) = form_of(page, filled);
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        self.post(&path, &fields).await
    }

    /// The same of the form that asks where one is.
    pub async fn say_where(&mut self, page: &Answer, typed: &str, picture: &[u8]) -> Answer {
        let (path, fields) = form_of(page, &[("location", typed)]);
        let mut body = Vec::new();
        for (name, value) in &fields {
            let part = format!(
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            );
            body.extend_from_slice(part.as_bytes());
        }
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"picture\"; filename=\"a.png\"\r\n\
             Content-Type: image/png\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(picture);
        body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        self.ask("POST", &path, &kind, &body).await
    }

    /// From the page where one begins to the page that shows how it goes on.
    pub async fn ask_at(&mut self, path: &str, sealed: &str) -> Answer {
        let page = self.get(path).await;
        assert_eq!(page.status, 200, "{}", page.body);
        let confirm = self.say_where(&page, sealed, b"").await;
        assert_eq!(confirm.status, 200, "{}", confirm.body);
        self.submit(&confirm, &[]).await
    }

    pub async fn ask(&mut self, method: &str, path: &str, kind: &str, body: &[u8]) -> Answer {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAccept-Language: {}\r\n",
            self.address, self.language
        );
        let cookies = self.cookies.iter();
        let cookies: Vec<_> = cookies
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if !cookies.is_empty() {
            head += &format!("Cookie: {}\r\n", cookies.join("; "));
        }
        if method == "POST" {
            head += &format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
        }
        let request = [format!("{head}\r\n").as_bytes(), body].concat();
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let talk = async {
            stream.write_all(&request).await.unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await.unwrap();
            String::from_utf8(bytes).unwrap()
        };
        let text = tokio::time::timeout(PATIENCE, talk).await;
        let answer = Answer::read(&text.expect("the app says nothing"));
        self.keep_cookies(&answer);
        answer
    }

    fn keep_cookies(&mut self, answer: &Answer) {
        let lines = answer.head.lines();
        let set = lines.filter_map(|line| line.strip_prefix("set-cookie: "));
        for cookie in set {
            let pair = cookie.split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if cookie.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }
}

/// Where the first form of a page goes, and its hidden fields with those that are filled in.
fn form_of(page: &Answer, filled: &[(&str, &str)]) -> (String, Vec<(String, String)>) {
    let start = page.body.find("<form").expect("a form");
    let end = page.body[start..].find("</form>").unwrap() + start;
    let form = &page.body[start..end];
    let attribute = |text: &str, name: &str| -> Option<String> {
        let start = format!(" {name}=\"");
        let at = text.find(&start)? + start.len();
        text[at..].split('"').next().map(ToOwned::to_owned)
    };
    let action = attribute(form, "action").unwrap();
    let inputs = form.split("<input").skip(1);
    let mut fields: Vec<_> = inputs
        .filter(|input| attribute(input, "type").as_deref() == Some("hidden"))
        .map(|input| {
            let name = attribute(input, "name").unwrap();
            (name, attribute(input, "value").unwrap_or_default())
        })
        .collect();
    fields.extend(
        filled
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    );
    (action, fields)
}
