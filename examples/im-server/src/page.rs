//! The web chat and the page of those who run the node, embedded in the binary.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use rust_embed::RustEmbed;

/// The files of `ui/`. Part of the binary in debug builds, too: a test may run from any folder.
#[derive(RustEmbed)]
#[folder = "ui/"]
struct Files;

/// Nothing but the server's own files and its own endpoints. `'self'` in `connect-src` covers
/// `ws:` and `wss:` to the same host and port in current browsers.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; connect-src 'self'; img-src 'self' \
    blob: data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Serves `/`, `/admin` and the files that these pages load; a fallback for a router.
pub(crate) fn files() -> MethodRouter {
    get(|uri: Uri, headers: HeaderMap| async move {
        let path = match uri.path().trim_start_matches('/') {
            "" => "index.html",
            "admin" => "admin.html",
            path => path,
        };
        serve(path, &headers)
    })
}

fn serve(path: &str, request: &HeaderMap) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let Some(file) = Files::get(path) else {
        return (StatusCode::NOT_FOUND, headers, "not found\n").into_response();
    };
    let etag = entity_tag(&file.metadata.sha256_hash());
    let policy = HeaderValue::from_static(CONTENT_SECURITY_POLICY);
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // A new server version must never run with an old module: ask each time, answer 304.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    let unchanged = holds_tag(request, &etag);
    if let Ok(etag) = HeaderValue::try_from(etag) {
        headers.insert(header::ETAG, etag);
    }
    if unchanged {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(path)));
    (headers, Body::from(file.data)).into_response()
}

/// A strong validator of the content: its hash, cut to 128 bits.
fn entity_tag(hash: &[u8; 32]) -> String {
    let hex: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

fn holds_tag(request: &HeaderMap, etag: &str) -> bool {
    request
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .any(|tag| tag.trim().trim_start_matches("W/") == etag)
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("json") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_served_once_and_then_revalidated() {
        let first = serve("index.html", &HeaderMap::new());
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(first.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(first.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert!(first.headers().contains_key(header::CONTENT_SECURITY_POLICY));

        let mut request = HeaderMap::new();
        request.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        let again = serve("index.html", &request);
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);

        request.insert(header::IF_NONE_MATCH, HeaderValue::from_static("\"other\""));
        assert_eq!(serve("index.html", &request).status(), StatusCode::OK);
    }

    #[test]
    fn every_embedded_file_has_a_content_type_of_its_own() {
        for path in Files::iter() {
            assert_ne!(content_type(&path), "application/octet-stream", "{path}");
        }
    }

    #[test]
    fn nothing_outside_the_embedded_files_is_served() {
        for path in ["../Cargo.toml", "/etc/passwd", "no-such-file", "", "js/../index.html"] {
            assert_eq!(serve(path, &HeaderMap::new()).status(), StatusCode::NOT_FOUND, "{path}");
        }
    }
}
