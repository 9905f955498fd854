//! The text of a door's code: typed, or from a picture of it.

use std::collections::HashMap;

use axum::extract::Multipart;
use axum::extract::multipart::{Field, MultipartError};
use axum::http::StatusCode;
use doorstep_app::picture::{self, NARROW, PictureError};
use doorstep_app::words::Words;
use doorstep_daemon::blocking;
use doorstep_web::form::Fields;

use super::App;
use super::problem::{Kind, Problem, Result};

/// Longest field that is no picture.
const MAX_TEXT_LEN: usize = 4096;

/// A form with which somebody says where they are.
pub struct Said {
    pub fields: Fields,
    picture: Vec<u8>,
}

/// Reads the form; its fields come before the picture.
pub async fn read(mut form: Multipart) -> Result<Said> {
    let bad = |error: MultipartError| -> Problem {
        match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Kind::TooLarge.into(),
            _ => Kind::BadForm.into(),
        }
    };
    let mut fields = HashMap::new();
    let mut picture = Vec::new();
    while let Some(field) = form.next_field().await.map_err(bad)? {
        let name = field.name().unwrap_or_default().to_owned();
        if name == "picture" {
            picture = field.bytes().await.map_err(bad)?.to_vec();
        } else {
            fields.insert(name, text(field).await?);
        }
    }
    Ok(Said {
        fields: fields.into(),
        picture,
    })
}

async fn text(mut field: Field<'_>) -> Result<String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(|_| Kind::BadForm)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_TEXT_LEN {
            return Err(Kind::BadForm.into());
        }
    }
    String::from_utf8(bytes).map_err(|_| Kind::BadForm.into())
}

/// Why no door is known yet; for whoever stands before it.
pub enum NoDoor {
    NothingGiven,
    Picture(PictureError),
    /// There is a text, and it is no door of this operator's.
    Unknown,
}

impl NoDoor {
    pub fn text(&self, words: &Words) -> &'static str {
        let said = &words.problems;
        match self {
            NoDoor::NothingGiven => said.no_location,
            NoDoor::Unknown => said.not_a_location,
            NoDoor::Picture(error) => match error {
                PictureError::NoCode => said.no_code,
                PictureError::SeveralCodes => said.several_codes,
                PictureError::TooLarge(_) => said.too_large,
                PictureError::NotAPicture | PictureError::Damaged(_) => said.not_a_picture,
            },
        }
    }
}

impl App {
    /// The sealed location id that somebody gives, if it is one of this operator's.
    pub async fn door(&self, said: Said) -> Result<std::result::Result<String, NoDoor>> {
        let typed: String = said.fields.get("location").split_whitespace().collect();
        let text = match (typed.is_empty(), said.picture.is_empty()) {
            (false, _) => typed,
            (true, true) => return Ok(Err(NoDoor::NothingGiven)),
            (true, false) => {
                // It is never closed.
                let _turn = self.reading.acquire().await;
                let read = blocking::run(move || picture::read(&said.picture, NARROW)).await;
                match read.map_err(|_| Kind::Busy)? {
                    Ok(text) => text.trim().to_owned(),
                    Err(error) => return Ok(Err(NoDoor::Picture(error))),
                }
            }
        };
        Ok(match self.engine.is_door(&text) {
            true => Ok(text),
            false => Err(NoDoor::Unknown),
        })
    }
}
