//! Whether a form was sent by a page of ours, as the browser says.

use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Uri};

/// What browsers say of the site that a request comes from (W3C Fetch Metadata).
const FETCH_SITE: &str = "sec-fetch-site";

/// Whether a browser has sent this for a page of this very origin. A client that says nothing about
/// that is no browser, or an old one; what it sends needs a session's token all the same.
#[must_use]
pub fn is_own(headers: &HeaderMap, uri: &Uri) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    if let Some(site) = headers.get(FETCH_SITE)
        && site != "same-origin"
    {
        return false;
    }
    let Some(origin) = text(ORIGIN) else {
        return true;
    };
    // In HTTP/2 the host stands in the request's own line.
    let host = uri.authority().map(|authority| authority.as_str());
    let Some(host) = host.or_else(|| text(HOST)) else {
        return false;
    };
    let origin = origin
        .strip_prefix("https://")
        .or_else(|| origin.strip_prefix("http://"));
    origin.is_some_and(|origin| origin.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    type Sent = &'static [(&'static str, &'static str)];

    #[test]
    fn another_origin_is_told_apart() {
        let cases: [(Sent, &str, bool); 9] = [
            (&[("host", "a:1")], "/", true),
            (&[("host", "a:1"), ("origin", "https://a:1")], "/", true),
            (&[("host", "a:1"), ("origin", "http://a:1")], "/", true),
            (&[("host", "a:1"), ("origin", "http://a:2")], "/", false),
            (&[("host", "a:1"), ("origin", "null")], "/", false),
            (&[("origin", "http://a:1")], "http://a:1/x", true),
            (&[("origin", "http://a:1")], "/", false),
            (
                &[("host", "a"), ("sec-fetch-site", "cross-site")],
                "/",
                false,
            ),
            (
                &[("host", "a"), ("sec-fetch-site", "same-site")],
                "/",
                false,
            ),
        ];
        for (sent, uri, own) in cases {
            let headers: HeaderMap = sent
                .iter()
                .map(|(name, value)| {
                    (
                        HeaderName::try_from(*name).unwrap(),
                        HeaderValue::from_str(value).unwrap(),
                    )
                })
                .collect();
            assert_eq!(
                is_own(&headers, &uri.parse().unwrap()),
                own,
                "{sent:?} {uri}"
            );
        }
    }
}
