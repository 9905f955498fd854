//! Who one is: registering, signing in again, and out.
//!
//! Whoever registers gets in. Whoever is registered already gets in by a code that the operator has sent
//! to the number; without codes only the operator can help, for anybody may type a number.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, State};
use axum::http::HeaderMap;
use axum::http::header::SET_COOKIE;
use axum::response::{AppendHeaders, IntoResponse as _, Redirect, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use doorstep_app::deed::Deed;
use doorstep_app::forms::{self, Meant};
use doorstep_app::language::Language;
use doorstep_app::shell::{Shell, bad};
use maud::{Markup, html};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::App;
use super::around::{Reader, idle_s};
use super::owner::{OwnForm, Owner, Posted};
use super::problem::{Kind, Result};
use super::words::own;
use crate::engine::{CODE_MS, EngineError};
use crate::identity::{IdCard, Phone};
use crate::limits::Reason;
use crate::listener::browsers::Peer;
use crate::service::convert;
use crate::vault::Secret;
use crate::verification::{Claim, Verdict};

/// Where one goes on once one is known.
const MEANT: Meant<'static> = Meant {
    deed: Deed::Connect,
    session: "",
    operator: "",
    plan: "",
    are_several: false,
};

/// One's numbers.
type Numbers = (Option<Phone>, Option<IdCard>);

pub async fn form(Reader(language): Reader, owner: Option<Owner>) -> Response {
    match owner {
        Some(_) => Redirect::to("/").into_response(),
        None => numbers_page(language, None).into_response(),
    }
}

fn page(language: Language, title: &str, content: &Markup) -> Markup {
    let shell = Shell {
        language,
        title,
        here: "/register",
        events: None,
        is_waiting: false,
    };
    shell.render(&Markup::default(), content)
}

fn numbers_page(language: Language, problem: Option<&Markup>) -> Markup {
    let words = language.words();
    let content = html! {
        (forms::register(words, &MEANT, "", problem))
        p.faint { (own(language).again) }
    };
    page(language, words.register.title, &content)
}

fn code_page(language: Language, problem: Option<&Markup>) -> Markup {
    let words = language.words();
    let content = html! {
        @if let Some(problem) = problem { (problem) }
        (forms::code(words, &MEANT, ""))
    };
    page(language, words.register.code_title, &content)
}

/// The operator's own words, if it has said any.
fn refused(text: &str, reason: &str) -> Markup {
    html! {
        (bad(text))
        @if !reason.is_empty() { p { (convert::tidy(reason)) } }
    }
}

impl App {
    /// What the operator says of numbers and a code; none: it is not asked.
    async fn verify(
        &self,
        (phone, id_card): (Option<&Phone>, Option<&IdCard>),
        code: Option<&str>,
        peer: SocketAddr,
    ) -> Result<Option<Verdict>> {
        let Some(verifier) = &self.verifier else {
            return Ok(None);
        };
        let Some(place) = verifier.place() else {
            let refusals = &self.engine.guard.refusals;
            return Err(refusals.refuse(Reason::Verifications, None).into());
        };
        let claim = Claim {
            operator: &self.engine.config.operator,
            phone: phone.map(Phone::as_str),
            id_card: id_card.map(IdCard::as_str),
            code,
            source: Some(peer.ip().to_canonical()),
        };
        Ok(Some(verifier.ask(&claim, place).await))
    }

    fn take_attempt(&self, phone: Option<&Phone>, id_card: Option<&IdCard>) -> Result<()> {
        let key = self.engine.number_key(phone, id_card);
        self.attempts
            .take(&key)
            .map_err(|wait| Kind::TooOften(wait.as_secs() + 1).into())
    }

    /// Has the phone keep whose it is, and leads home.
    async fn let_in(&self, subscriber: Uuid) -> Result<Response> {
        let token = self.engine.sign_in_phone(subscriber).await?;
        let set = AppendHeaders([
            (SET_COOKIE, self.token.keep(&token, idle_s(self))),
            (SET_COOKIE, self.code.clear()),
        ]);
        tracing::info!(%subscriber, "signed in on a phone");
        Ok((set, Redirect::to("/")).into_response())
    }

    /// The page for the code, in the browser that it was sent for.
    fn ask_for_code(
        &self,
        language: Language,
        (phone, id_card): (Option<&Phone>, Option<&IdCard>),
    ) -> Result<Response> {
        let sent = self.engine.code_sent(phone, id_card)?;
        let seconds = u32::try_from(CODE_MS / 1000).unwrap_or(u32::MAX);
        let set = AppendHeaders([(SET_COOKIE, self.code.keep(&sent, seconds))]);
        Ok((set, code_page(language, None)).into_response())
    }
}

pub async fn numbers(
    State(app): State<Arc<App>>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    Reader(language): Reader,
    OwnForm(fields): OwnForm,
) -> Result<Response> {
    let words = &language.words().register;
    let again = |problem: &Markup| Ok(numbers_page(language, Some(problem)).into_response());
    let (phone, id_card) = (fields.get("phone"), fields.get("id_card"));
    if phone.is_empty() && id_card.is_empty() {
        return again(&bad(words.nothing_given));
    }
    let country_code = app.engine.config.country_code.as_deref();
    let Ok((phone, id_card)) = convert::numbers(phone, id_card, country_code) else {
        return again(&bad(own(language).no_numbers));
    };
    app.take_attempt(phone.as_ref(), id_card.as_ref())?;
    let numbers = (phone.as_ref(), id_card.as_ref());
    match app.verify(numbers, None, peer).await? {
        Some(Verdict::CodeSent) => return app.ask_for_code(language, numbers),
        Some(Verdict::Refused(reason)) => return again(&refused(words.refused, &reason)),
        Some(Verdict::Failed) => return Err(Kind::Failed.into()),
        Some(Verdict::Accepted) | None => {}
    }
    match app.engine.register(phone, id_card).await {
        Ok((subscriber, _)) => app.let_in(subscriber).await,
        Err(EngineError::AlreadyRegistered) => again(&known(language)),
        Err(error) => Err(error.into()),
    }
}

/// Who is known and cannot prove it by a code needs what the operator alone can give.
fn known(language: Language) -> Markup {
    let own = own(language);
    html! { (bad(own.known)) p { a #by-secret href="/register/secret" { (own.by_secret) } } }
}

fn secret_page(language: Language, problem: Option<&Markup>) -> Markup {
    let (words, own) = (&language.words().register, own(language));
    let content = html! {
        @if let Some(problem) = problem { (problem) }
        p { (own.secret_hint) }
        form.fields method="post" action="/register/secret" {
            label.card {
                strong { (words.phone) }
                input #phone name="phone" type="tel" autocomplete="tel" required maxlength="32";
            }
            label.card {
                strong { (own.secret) }
                input #secret name="secret" autocomplete="off" autocapitalize="none" spellcheck="false"
                    required maxlength="64";
            }
            button.big #go-on type="submit" { (words.send) }
        }
    };
    page(language, words.title, &content)
}

pub async fn secret_form(Reader(language): Reader) -> Markup {
    secret_page(language, None)
}

/// The number, and the secret that the operator has made for it (`subscribers reset-secret`).
pub async fn secret(
    State(app): State<Arc<App>>,
    Reader(language): Reader,
    OwnForm(mut fields): OwnForm,
) -> Result<Response> {
    let given = Zeroizing::new(fields.take("secret"));
    let country_code = app.engine.config.country_code.as_deref();
    let phone = Phone::parse(fields.get("phone"), country_code).ok();
    app.take_attempt(phone.as_ref(), None)?;
    let bytes = BASE64_STANDARD.decode(given.trim()).map(Zeroizing::new);
    let secret = bytes.ok().and_then(|bytes| Secret::from_slice(&bytes));
    if let (Some(phone), Some(secret)) = (phone, secret)
        && let Some(subscriber) = app.engine.subscriber_by_phone(&phone).await?
    {
        match app.engine.authenticate(subscriber, &secret).await {
            Ok(()) => return app.let_in(subscriber).await,
            Err(EngineError::Unauthenticated) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let problem = bad(own(language).wrong_secret);
    Ok(secret_page(language, Some(&problem)).into_response())
}

pub async fn code(
    State(app): State<Arc<App>>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    Reader(language): Reader,
    headers: HeaderMap,
    OwnForm(fields): OwnForm,
) -> Result<Response> {
    let words = &language.words().register;
    let sent = app.code.read(&headers).unwrap_or_default();
    let Some((phone, id_card)): Option<Numbers> = app.engine.numbers_of_code(sent) else {
        return Ok(numbers_page(language, Some(&bad(words.code_wrong))).into_response());
    };
    let again = |problem: &Markup| Ok(code_page(language, Some(problem)).into_response());
    let Ok(Some(code)) = convert::verification_code(fields.get("code")) else {
        return again(&bad(words.code_wrong));
    };
    app.take_attempt(phone.as_ref(), id_card.as_ref())?;
    let numbers = (phone.as_ref(), id_card.as_ref());
    match app.verify(numbers, Some(code), peer).await? {
        Some(Verdict::Accepted) => {}
        Some(Verdict::CodeSent) => return app.ask_for_code(language, numbers),
        Some(Verdict::Refused(reason)) => return again(&refused(words.code_wrong, &reason)),
        Some(Verdict::Failed) | None => return Err(Kind::Failed.into()),
    }
    if let Some(subscriber) = app.engine.known_owner(numbers.0, numbers.1).await? {
        return app.let_in(subscriber).await;
    }
    let (subscriber, _) = app.engine.register(phone, id_card).await?;
    app.let_in(subscriber).await
}

pub async fn sign_out(
    State(app): State<Arc<App>>,
    Posted { owner, fields, .. }: Posted,
) -> Result<Response> {
    if fields.has("all") {
        app.engine.sign_out_phones(owner.id).await?;
    }
    let clear = AppendHeaders([(SET_COOKIE, app.token.clear())]);
    Ok((clear, Redirect::to("/register")).into_response())
}
