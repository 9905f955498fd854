//! The door's code, from what a browser has sent.

use std::collections::HashMap;

use axum::body::Bytes;
use axum::extract::Multipart;
use axum::extract::multipart::MultipartError;
use doorstep_app::picture::{self, NARROW, PictureError};
use doorstep_app::words::Problems;
use doorstep_daemon::blocking;
use doorstep_web::form::Fields;

/// Largest form with a picture: phones' have up to some 12 MB.
pub const MAX_LEN: usize = 24 * 1024 * 1024;
/// Largest field that is text.
const MAX_TEXT_LEN: usize = 4096;
/// Longest code: what fits a QR code comes near it.
const MAX_CODE_LEN: usize = 3000;

pub struct Sent {
    pub fields: Fields,
    /// Empty: none was chosen.
    pub picture: Bytes,
}

/// All of a form.
pub async fn receive(mut form: Multipart) -> Result<Sent, MultipartError> {
    let mut fields = HashMap::new();
    let mut picture = Bytes::new();
    while let Some(field) = form.next_field().await? {
        let name = field.name().unwrap_or_default().to_owned();
        let bytes = field.bytes().await?;
        if name == "picture" {
            picture = bytes;
        } else if bytes.len() <= MAX_TEXT_LEN {
            fields.insert(name, String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    Ok(Sent {
        fields: fields.into(),
        picture,
    })
}

/// The code; or what is wrong, for whoever has sent it.
pub async fn find(
    problems: &'static Problems,
    last: Option<&str>,
    text: &str,
    picture: Bytes,
) -> Result<String, &'static str> {
    if let Some(last) = last.filter(|last| !last.is_empty()) {
        return Ok(last.to_owned());
    }
    let text = match picture.is_empty() {
        false => read(problems, picture).await?,
        true => text.to_owned(),
    };
    // As it is typed from a sticker, or wrapped by a messenger.
    let code: String = text.split_whitespace().collect();
    if code.is_empty() {
        return Err(problems.no_location);
    }
    let is_code = code.len() <= MAX_CODE_LEN && code.bytes().all(|byte| byte.is_ascii_graphic());
    // What else it must be, the operator's server knows.
    if is_code {
        Ok(code)
    } else {
        Err(problems.not_a_location)
    }
}

async fn read(problems: &'static Problems, picture: Bytes) -> Result<String, &'static str> {
    let read = blocking::run(move || picture::read(&picture, NARROW)).await;
    read.map_err(|_| problems.failed)?
        .map_err(|error| match error {
            PictureError::TooLarge(_) => problems.too_large,
            PictureError::NotAPicture | PictureError::Damaged(_) => problems.not_a_picture,
            PictureError::NoCode => problems.no_code,
            PictureError::SeveralCodes => problems.several_codes,
        })
}

#[cfg(test)]
mod tests {
    use doorstep_app::words::ENGLISH;

    use super::*;

    #[tokio::test]
    async fn the_code_is_taken_from_what_was_given() {
        let problems = &ENGLISH.problems;
        let long = "A".repeat(MAX_CODE_LEN + 1);
        for (last, text, found) in [
            (None, " d1.AB\n CD\t", Ok("d1.ABCD")),
            (None, "", Err(problems.no_location)),
            (None, " \n", Err(problems.no_location)),
            (None, "d1.ä", Err(problems.not_a_location)),
            (None, &long, Err(problems.not_a_location)),
            (Some("d1.last"), "d1.other", Ok("d1.last")),
            (Some(""), "d1.other", Ok("d1.other")),
        ] {
            let code = find(problems, last, text, Bytes::new()).await;
            assert_eq!(code.as_deref().map_err(|text| *text), found, "{text:?}");
        }
        let picture = Bytes::from_static(b"\xff\xd8 no picture");
        let code = find(problems, None, "d1.x", picture).await;
        assert_eq!(code, Err(problems.not_a_picture));
    }
}
