//! By which names the pages may be asked for. A name of somebody else's that is made to lead here (DNS
//! rebinding) would have their pages read ours.

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{HOST, LOCATION};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

/// Of one door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts {
    pub name: String,
    pub address: Ipv4Addr,
    pub port: u16,
}

impl Hosts {
    fn has(&self, host: &str) -> bool {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) => (name, port.parse().ok()),
            None => (host, Some(80)),
        };
        // A name may end with the root's point.
        let name = name.strip_suffix('.').unwrap_or(name);
        let is_ours = name.eq_ignore_ascii_case(&self.name) || name.parse() == Ok(self.address);
        is_ours && port == Some(self.port)
    }

    /// Where the pages are, also for devices that ask another resolver than ours.
    fn origin(&self) -> String {
        match self.port {
            80 => format!("http://{}/", self.address),
            port => format!("http://{}:{port}/", self.address),
        }
    }
}

/// A layer around all routes.
pub async fn known(State(hosts): State<Arc<Hosts>>, request: Request, next: Next) -> Response {
    let named = request.headers().get(HOST);
    let named = named.and_then(|host| host.to_str().ok());
    if named.is_some_and(|host| hosts.has(host)) {
        return next.run(request).await;
    }
    // It says nothing but where the pages are.
    let location = HeaderValue::try_from(hosts.origin());
    match (request.method(), location) {
        (&Method::GET, Ok(location)) => (StatusCode::FOUND, [(LOCATION, location)]).into_response(),
        _ => StatusCode::MISDIRECTED_REQUEST.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use tower::ServiceExt as _;

    use super::*;

    fn hosts(port: u16) -> Hosts {
        Hosts {
            name: "doorstep.home".into(),
            address: [192, 168, 77, 1].into(),
            port,
        }
    }

    #[test]
    fn names_of_others_are_not_ours() {
        for (host, port, ours) in [
            ("doorstep.home", 80, true),
            ("Doorstep.Home.", 80, true),
            ("doorstep.home:80", 80, true),
            ("doorstep.home:8080", 8080, true),
            ("192.168.77.1", 80, true),
            ("192.168.77.1:8080", 8080, true),
            ("doorstep.home", 8080, false),
            ("doorstep.home:81", 80, false),
            ("192.168.78.1", 80, false),
            ("evil.example", 80, false),
            ("doorstep.home.evil.example", 80, false),
            ("doorstep.home:80:80", 80, false),
            ("[::1]", 80, false),
            ("", 80, false),
        ] {
            assert_eq!(hosts(port).has(host), ours, "{host} {port}");
        }
    }

    #[tokio::test]
    async fn by_another_name_nothing_is_read_and_nothing_is_done() {
        let app = Router::new()
            .route("/", get(async || "a page").post(async || "done"))
            .layer(from_fn_with_state(Arc::new(hosts(80)), known));
        for (method, host, status) in [
            (Method::GET, Some("doorstep.home"), 200),
            (Method::POST, Some("192.168.77.1"), 200),
            (Method::GET, Some("evil.example"), 302),
            (Method::POST, Some("evil.example"), 421),
            (Method::POST, None, 421),
        ] {
            let mut request = Request::builder().method(&method).uri("/");
            if let Some(host) = host {
                request = request.header(HOST, host);
            }
            let request = request.body(Body::empty()).unwrap();
            let answer = app.clone().oneshot(request).await.unwrap();
            assert_eq!(answer.status(), status, "{method} {host:?}");
            if status == 302 {
                assert_eq!(answer.headers()[LOCATION], "http://192.168.77.1/");
            }
        }
    }
}
