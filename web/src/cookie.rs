//! The one cookie that a session has (RFC 6265bis).

use axum::http::header::COOKIE;
use axum::http::{HeaderMap, HeaderValue};

use crate::token::Token;

/// How an application's cookie is called and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    name: String,
    is_secure: bool,
}

impl Cookie {
    /// Over TLS, browsers give it to this host alone and never over plain HTTP (`__Host-`).
    #[must_use]
    pub fn new(application: &str, is_secure: bool) -> Self {
        let prefix = if is_secure { "__Host-" } else { "" };
        Cookie {
            name: format!("{prefix}doorstep-{application}"),
            is_secure,
        }
    }

    /// The value that a browser sends.
    #[must_use]
    pub fn read<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let cookies = headers.get_all(COOKIE).into_iter();
        let mut pairs = cookies
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='));
        pairs.find_map(|(name, value)| (name == self.name).then_some(value))
    }

    /// `Set-Cookie`, for as long as the browser is open.
    #[must_use]
    pub fn set(&self, value: &Token) -> HeaderValue {
        self.header(value.as_str(), "")
    }

    /// `Set-Cookie` of a value that is no secret, such as a language, for so many seconds. It is of
    /// letters and digits.
    #[must_use]
    pub fn keep(&self, value: &str, seconds: u32) -> HeaderValue {
        self.header(value, &format!("; Max-Age={seconds}"))
    }

    /// `Set-Cookie` that removes it.
    #[must_use]
    pub fn clear(&self) -> HeaderValue {
        self.header("", "; Max-Age=0")
    }

    fn header(&self, value: &str, rest: &str) -> HeaderValue {
        let secure = if self.is_secure { "; Secure" } else { "" };
        let name = &self.name;
        let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict{secure}{rest}");
        // Names are ours and values are base64.
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_among_others() {
        let cookie = Cookie::new("console", false);
        for (sent, read) in [
            ("doorstep-console=abc", Some("abc")),
            ("a=b; doorstep-console=abc; c=d", Some("abc")),
            ("xdoorstep-console=abc", None),
            ("doorstep-console", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, HeaderValue::from_str(sent).unwrap());
            assert_eq!(cookie.read(&headers), read, "{sent}");
        }
    }

    #[test]
    fn no_script_and_no_other_site_has_it() {
        let value = Token::new().unwrap();
        let plain = Cookie::new("console", false).set(&value);
        let plain = plain.to_str().unwrap();
        assert!(plain.ends_with("; Path=/; HttpOnly; SameSite=Strict"));
        let secure = Cookie::new("console", true).set(&value);
        let secure = secure.to_str().unwrap();
        assert!(secure.starts_with("__Host-doorstep-console="));
        assert!(secure.contains("; Secure"));
    }
}
