//! Styles, the script and the icon: parts of the program.

use std::sync::LazyLock;

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

pub const STYLE: &str = "/assets/style.css";
/// Of the subscriber's pages, beside the common one.
pub const APP_STYLE: &str = "/assets/app.css";
pub const SCRIPT: &str = "/assets/live.js";
pub const ICON: &str = "/assets/icon.svg";

struct Asset {
    path: &'static str,
    kind: &'static str,
    text: &'static str,
}

static ASSETS: [Asset; 4] = [
    Asset {
        path: STYLE,
        kind: "text/css; charset=utf-8",
        text: include_str!("../assets/style.css"),
    },
    Asset {
        path: APP_STYLE,
        kind: "text/css; charset=utf-8",
        text: include_str!("../assets/app.css"),
    },
    Asset {
        path: SCRIPT,
        kind: "text/javascript; charset=utf-8",
        text: include_str!("../assets/live.js"),
    },
    Asset {
        path: ICON,
        kind: "image/svg+xml",
        text: include_str!("../assets/icon.svg"),
    },
];

/// A browser asks each time whether they are the same, so that those of a newer version are used at
/// once.
static TAGS: LazyLock<Vec<HeaderValue>> = LazyLock::new(|| {
    let tag = |asset: &Asset| {
        let digest = BASE64_URL_SAFE_NO_PAD.encode(&Sha256::digest(asset.text)[..12]);
        HeaderValue::try_from(format!("\"{digest}\"")).unwrap_or(HeaderValue::from_static("\"\""))
    };
    ASSETS.iter().map(tag).collect()
});

/// The routes of all assets.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let mut router = Router::new();
    for (asset, tag) in ASSETS.iter().zip(&*TAGS) {
        let answer = async move |headers: HeaderMap| serve(asset, tag, &headers);
        router = router.route(asset.path, get(answer));
    }
    router
}

fn serve(asset: &'static Asset, tag: &HeaderValue, headers: &HeaderMap) -> Response {
    let known = [
        (header::ETAG, tag.clone()),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    if headers.get(header::IF_NONE_MATCH) == Some(tag) {
        return (StatusCode::NOT_MODIFIED, known).into_response();
    }
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind))];
    (known, kind, asset.text).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::extract::Request;
    use tower::ServiceExt as _;

    use super::*;

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        for asset in &ASSETS {
            let addresses = asset
                .text
                .match_indices("://")
                .map(|(at, _)| &asset.text[..at]);
            for before in addresses {
                // The name of SVG, which nothing is loaded from.
                assert!(before.ends_with("xmlns=\"http"), "{}", asset.path);
            }
        }
    }

    #[tokio::test]
    async fn what_a_browser_has_is_not_sent_again() {
        let app: Router = router();
        let ask = |tag: Option<HeaderValue>| {
            let mut request = Request::get(STYLE);
            if let Some(tag) = tag {
                request = request.header(header::IF_NONE_MATCH, tag);
            }
            app.clone().oneshot(request.body(Body::empty()).unwrap())
        };
        let first = ask(None).await.unwrap();
        assert_eq!(first.status(), StatusCode::OK);
        let tag = first.headers()[header::ETAG].clone();
        let second = ask(Some(tag)).await.unwrap();
        assert_eq!(second.status(), StatusCode::NOT_MODIFIED);
    }
}
