//! Whose phone asks, and whether a form is theirs.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Form;
use axum::extract::{FromRequest, FromRequestParts, OptionalFromRequestParts, Request};
use axum::http::Method;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Redirect, Response};
use doorstep_web::form::Fields;
use doorstep_web::origin;
use doorstep_web::page::CSRF;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::App;
use super::problem::{Kind, Problem};

/// Whose phone it is.
#[derive(Clone, Debug)]
pub struct Owner {
    pub id: Uuid,
    /// Stands in each form of theirs, and nobody else knows it.
    csrf: String,
}

/// Between a form's proof and the id of the request that it makes.
const AND: char = '.';

impl Owner {
    pub fn new(id: Uuid, csrf: String) -> Self {
        Owner { id, csrf }
    }

    /// What a new form has. With an id, so that a form that is sent twice asks for the same thing once.
    pub fn form_token(&self) -> String {
        format!("{}{AND}{}", self.csrf, Uuid::now_v7())
    }

    /// The id of the request that such a form makes, if it is theirs.
    fn request(&self, token: &str) -> Option<Uuid> {
        let (csrf, id) = token.split_once(AND)?;
        let is_theirs = bool::from(csrf.as_bytes().ct_eq(self.csrf.as_bytes()));
        is_theirs.then(|| id.parse().ok()).flatten()
    }
}

impl FromRequestParts<Arc<App>> for Owner {
    type Rejection = Response;

    async fn from_request_parts(
        parts: &mut Parts,
        _: &Arc<App>,
    ) -> std::result::Result<Self, Response> {
        match parts.extensions.get::<Owner>() {
            Some(owner) => Ok(owner.clone()),
            None if parts.method == Method::GET => Err(Redirect::to("/register").into_response()),
            None => Err(Problem::from(Kind::SignedOut).into_response()),
        }
    }
}

impl OptionalFromRequestParts<Arc<App>> for Owner {
    type Rejection = Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        _: &Arc<App>,
    ) -> std::result::Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get::<Owner>().cloned())
    }
}

/// A form that a browser has sent for a page of ours.
pub struct OwnForm(pub Fields);

impl FromRequest<Arc<App>> for OwnForm {
    type Rejection = Response;

    async fn from_request(request: Request, app: &Arc<App>) -> std::result::Result<Self, Response> {
        if !origin::is_own(request.headers(), request.uri()) {
            return Err(Problem::from(Kind::Forged).into_response());
        }
        let form = Form::<HashMap<_, _>>::from_request(request, app).await;
        let Form(fields) = form.map_err(|_| Problem::from(Kind::BadForm).into_response())?;
        Ok(OwnForm(fields.into()))
    }
}

/// Whether the fields are of a form that this phone was shown, and the id of the request.
pub fn check(owner: &Owner, fields: &Fields) -> Result<Uuid, Problem> {
    owner
        .request(fields.get(CSRF))
        .ok_or_else(|| Kind::Forged.into())
}

/// A form of whoever is signed in, sent by a page that was made for them.
pub struct Posted {
    pub owner: Owner,
    pub fields: Fields,
    pub request: Uuid,
}

impl FromRequest<Arc<App>> for Posted {
    type Rejection = Response;

    async fn from_request(request: Request, app: &Arc<App>) -> std::result::Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let owner = <Owner as FromRequestParts<_>>::from_request_parts(&mut parts, app).await?;
        let OwnForm(fields) = OwnForm::from_request(Request::from_parts(parts, body), app).await?;
        let request = check(&owner, &fields).map_err(Problem::into_response)?;
        Ok(Posted {
            owner,
            fields,
            request,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_of_whom_it_was_made_for_and_each_asks_for_something_else() {
        let owner = Owner::new(Uuid::from_u128(1), "secret".to_owned());
        let other = Owner::new(Uuid::from_u128(1), "others".to_owned());
        let (one, two) = (owner.form_token(), owner.form_token());
        assert!(owner.request(&one).is_some());
        assert_ne!(owner.request(&one), owner.request(&two));
        assert_eq!(owner.request(&one), owner.request(&one));
        for wrong in ["", "secret", "secret.", "secret.x", &other.form_token()] {
            assert_eq!(owner.request(wrong), None, "{wrong}");
        }
    }
}
