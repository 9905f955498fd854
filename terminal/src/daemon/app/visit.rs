//! Who asks, and in which language. A visitor is a browser, by a cookie; nobody signs in.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Form;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::{ACCEPT_LANGUAGE, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Redirect, Response};
use doorstep_app::language::Language;
use doorstep_app::shell::Shell;
use doorstep_app::words::Words;
use doorstep_web::form::Fields;
use doorstep_web::origin;
use doorstep_web::page::CSRF;
use doorstep_web::session::Use;
use doorstep_web::token::Token;
use maud::Markup;
use zeroize::Zeroizing;

use super::App;
use super::problem::Problem;

/// For how long a language is remembered.
const LANGUAGE_S: u32 = 365 * 24 * 3600;
/// For how long numbers wait for the operator's code.
const CODE_WITHIN: Duration = Duration::from_secs(600);

/// What is remembered of a browser.
#[derive(Clone, Debug, Default)]
pub struct Visitor(Arc<Mutex<Option<Waiting>>>);

/// Numbers that wait for the operator's code: so they stand in no page.
pub struct Waiting {
    pub operator: String,
    pub phone: Zeroizing<String>,
    pub id_card: Zeroizing<String>,
    since: Instant,
}

impl Waiting {
    pub fn new(operator: String, phone: Zeroizing<String>, id_card: Zeroizing<String>) -> Self {
        Self {
            operator,
            phone,
            id_card,
            since: Instant::now(),
        }
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waiting(hidden)")
    }
}

impl Visitor {
    fn lock(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn wait_for_code(&self, waiting: Waiting) {
        *self.lock() = Some(waiting);
    }

    /// The numbers, once.
    pub fn take_waiting(&self) -> Option<Waiting> {
        let waiting = self.lock().take();
        waiting.filter(|waiting| waiting.since.elapsed() < CODE_WITHIN)
    }
}

/// A request of somebody's.
pub struct Visit {
    pub language: Language,
    pub visitor: Visitor,
    /// Stands in each form.
    pub csrf: Token,
    /// The page's address, without its language.
    pub here: String,
    cookies: Vec<HeaderValue>,
}

/// What a page is like.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kind<'a> {
    pub events: Option<&'a str>,
    pub is_waiting: bool,
}

impl Visit {
    pub fn words(&self) -> &'static Words {
        self.language.words()
    }

    /// A page that stays as it is.
    pub fn page(&self, title: &str, content: &Markup) -> Response {
        self.render(title, Kind::default(), &Markup::default(), content)
    }

    pub fn render(&self, title: &str, kind: Kind<'_>, live: &Markup, rest: &Markup) -> Response {
        let shell = Shell {
            language: self.language,
            title,
            here: &self.here,
            events: kind.events,
            is_waiting: kind.is_waiting,
        };
        self.with_cookies(shell.render(live, rest).into_response())
    }

    pub fn redirect(&self, path: &str) -> Response {
        self.with_cookies(Redirect::to(path).into_response())
    }

    fn with_cookies(&self, mut response: Response) -> Response {
        for cookie in &self.cookies {
            response.headers_mut().append(SET_COOKIE, cookie.clone());
        }
        response
    }

    /// The page of what has gone wrong, if it has.
    pub fn answer(&self, outcome: Result<Response, Problem>) -> Response {
        outcome.unwrap_or_else(|problem| problem.page(self))
    }
}

impl FromRequestParts<Arc<App>> for Visit {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Response> {
        let (here, asked) = without_language(&parts.uri);
        let mut cookies = Vec::new();
        if let Some(language) = asked {
            cookies.push(app.language.keep(language.code(), LANGUAGE_S));
        }
        let language = asked
            .or_else(|| Language::of(app.language.read(&parts.headers)?))
            .unwrap_or_else(|| {
                let header = parts.headers.get(ACCEPT_LANGUAGE);
                let header = header.and_then(|value| value.to_str().ok());
                Language::accepted(header.unwrap_or_default())
            });
        let known = app.cookie.read(&parts.headers);
        let known = known.and_then(|cookie| {
            let found = app.visitors.find(cookie, Instant::now(), Use::Person)?;
            Some((found.who, found.csrf))
        });
        let (visitor, csrf) = match known {
            Some(known) => known,
            // Whoever sends a form has got it with a cookie; one without has no page of ours.
            None => {
                let failed = |_| StatusCode::INTERNAL_SERVER_ERROR.into_response();
                let visitor = Visitor::default();
                let begun = app.visitors.begin(visitor.clone(), Instant::now());
                let cookie = begun.map_err(failed)?;
                cookies.push(app.cookie.set(&cookie));
                let found = app
                    .visitors
                    .find(cookie.as_str(), Instant::now(), Use::Person);
                match found {
                    Some(found) => (visitor, found.csrf),
                    None => (visitor, Token::new().map_err(failed)?),
                }
            }
        };
        Ok(Self {
            language,
            visitor,
            csrf,
            here: if parts.method == Method::GET {
                here
            } else {
                parts.uri.path().to_owned()
            },
            cookies,
        })
    }
}

/// The address without `language=`, and what that was.
fn without_language(uri: &Uri) -> (String, Option<Language>) {
    let mut asked = None;
    let kept: Vec<&str> = uri
        .query()
        .into_iter()
        .flat_map(|query| query.split('&'))
        .filter(|pair| match pair.strip_prefix("language=") {
            Some(code) => {
                asked = Language::of(code);
                false
            }
            None => !pair.is_empty(),
        })
        .collect();
    let path = uri.path();
    let here = match kept.is_empty() {
        true => path.to_owned(),
        false => format!("{path}?{}", kept.join("&")),
    };
    (here, asked)
}

/// A form that a page of this very browser has sent.
pub struct Posted {
    pub visit: Visit,
    pub fields: Fields,
}

impl FromRequest<Arc<App>> for Posted {
    type Rejection = Response;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let visit = Visit::from_request_parts(&mut parts, app).await?;
        if !origin::is_own(&parts.headers, &parts.uri) {
            return Err(Problem::Forged.page(&visit));
        }
        let request = Request::from_parts(parts, body);
        let form = Form::<HashMap<String, String>>::from_request(request, app).await;
        let Form(fields) = form.map_err(|_| Problem::BadForm.page(&visit))?;
        let fields = Fields::from(fields);
        if !visit.csrf.is(fields.get(CSRF)) {
            return Err(Problem::Forged.page(&visit));
        }
        Ok(Self { visit, fields })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_taken_off_the_address() {
        for (uri, here, language) in [
            ("/", "/", None),
            ("/?language=zh", "/", Some(Language::Chinese)),
            (
                "/move?session=a&language=en&plan=b",
                "/move?session=a&plan=b",
                Some(Language::English),
            ),
            ("/?language=de", "/", None),
            ("/?xlanguage=zh", "/?xlanguage=zh", None),
        ] {
            let (own, asked) = without_language(&uri.parse().unwrap());
            assert_eq!((own.as_str(), asked), (here, language), "{uri}");
        }
    }

    #[test]
    fn numbers_are_given_once_and_never_shown() {
        let visitor = Visitor::default();
        let number = |text: &str| Zeroizing::new(text.to_owned());
        let waiting = Waiting::new("north".into(), number("13812345678"), number(""));
        visitor.wait_for_code(waiting);
        assert!(!format!("{visitor:?}").contains("138"));
        assert_eq!(*visitor.take_waiting().unwrap().phone, "13812345678");
        assert!(visitor.take_waiting().is_none());
    }
}
