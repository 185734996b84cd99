//! A browser that is signed in by a cookie, and pages of strangers that know it.

use super::*;

/// With a cookie `im` for pages of this server, which is `chat.example`.
async fn api() -> Api {
    let mut api = Api::new().await;
    let cookie = SessionCookie::new("im", stomp_ws::OriginPolicy::same_origin()).expect("a cookie");
    api.router = api.rest.clone().cookie(cookie).router();
    api
}

struct Browser<'a> {
    api: &'a Api,
    cookie: String,
}

impl Browser<'_> {
    async fn call(
        &self,
        method: &str,
        path: &str,
        origin: Option<&str>,
        body: Option<Value>,
    ) -> (StatusCode, HeaderMap, Value) {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header(header::HOST, "chat.example")
            .header(header::COOKIE, &self.cookie);
        if let Some(origin) = origin {
            request = request.header(header::ORIGIN, origin);
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        self.api.raw(request.body(Body::from(body)).expect("a request")).await
    }
}

const OWN: Option<&str> = Some("https://chat.example");

#[tokio::test]
async fn a_cookie_is_set_signs_in_and_is_taken_back() {
    let api = api().await;
    let mut browser = Browser { api: &api, cookie: String::new() };
    let account = json!({"name": "alice", "password": "secret", "cookie": true});
    let (status, headers, body) = browser.call("POST", "/tokens", OWN, Some(account.clone())).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert!(body["token"].is_null() && body["user"] == "alice", "{body}");
    let set = headers[header::SET_COOKIE].to_str().expect("text").to_owned();
    let (pair, attributes) = set.split_once("; ").expect("attributes");
    let lasts = attributes.strip_prefix("Path=/; Max-Age=").and_then(|rest| rest.split_once(';'));
    let (lasts, flags) = lasts.expect("how long it lasts");
    // A week, whose last second has begun.
    assert!(["604799", "604800"].contains(&lasts), "{lasts}");
    assert_eq!(flags, " HttpOnly; Secure; SameSite=Strict");
    browser.cookie = format!("theme=dark; {pair}");
    let (status, _, me) = browser.call("GET", "/me", None, None).await;
    assert_eq!((status, &me["user"]), (StatusCode::OK, &json!("alice")));
    let message = json!({"to": "/user/bob", "body": "hello"});
    let (status, _, body) = browser.call("POST", "/messages", OWN, Some(message)).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    let (status, headers, _) = browser.call("DELETE", "/tokens", OWN, None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let set = headers[header::SET_COOKIE].to_str().expect("text");
    assert!(set.starts_with("im=; ") && set.contains("Max-Age=0"), "{set}");
    // Where there is no cookie, none is promised.
    let plain = Api::new().await;
    let (status, _, _) = plain.call("", "POST", "/tokens", Some(account)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
}

/// V-26: a page of somebody else makes the browser call, and the browser adds the cookie.
#[tokio::test]
async fn what_a_strangers_page_makes_a_browser_do_is_refused() {
    let api = api().await;
    let token = api.tokens.issue(&UserName::new("alice").expect("a name")).expect("a token").token;
    let browser = Browser { api: &api, cookie: format!("im={}", token.expose()) };
    let message = json!({"to": "/user/bob", "body": "hello"});
    let account = json!({"name": "mallory", "password": "secret", "cookie": true});
    for origin in [
        Some("https://evil.example"),
        Some("null"),
        Some("https://chat.example.evil.example"),
        Some("https://evil.example/https://chat.example"),
        Some("https://chat.example:8443"),
        // A page that does not say where it comes from changes nothing.
        None,
    ] {
        for (method, path, body) in [
            ("POST", "/messages", Some(message.clone())),
            ("PUT", "/blocks/bob", None),
            ("DELETE", "/devices/alice", None),
            ("DELETE", "/tokens", None),
            ("POST", "/tokens", Some(account.clone())),
        ] {
            let (status, headers, _) = browser.call(method, path, origin, body).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path} {origin:?}");
            assert!(!headers.contains_key(header::SET_COOKIE));
        }
        let read = browser.call("GET", "/me", origin, None).await.0;
        let wanted = if origin.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
        assert_eq!(read, wanted, "{origin:?}");
    }
    let (_, _, history) = api.call("alice", "GET", "/conversations", None).await;
    assert_eq!(history["conversations"], json!([]), "something was sent");
}

#[tokio::test]
async fn a_cookie_is_no_key_and_nothing_in_the_address_signs_in() {
    let api = api().await;
    let (key, _) = api.key(&["read"]).await;
    let browser = Browser { api: &api, cookie: format!("im={key}") };
    assert_eq!(browser.call("GET", "/me", OWN, None).await.0, StatusCode::UNAUTHORIZED);
    let token = api.tokens.issue(&UserName::new("alice").expect("a name")).expect("a token").token;
    let browser = Browser { api: &api, cookie: String::new() };
    for query in ["token", "access_token", "im", "Authorization"] {
        let path = format!("/me?{query}={}", token.expose());
        assert_eq!(browser.call("GET", &path, OWN, None).await.0, StatusCode::UNAUTHORIZED);
    }
    for (name, origins, error) in [
        ("", stomp_ws::OriginPolicy::default(), InvalidCookie::Name),
        ("a b", stomp_ws::OriginPolicy::default(), InvalidCookie::Name),
        ("im", stomp_ws::OriginPolicy::any(), InvalidCookie::AnyOrigin),
    ] {
        assert_eq!(SessionCookie::new(name, origins).expect_err("a fault"), error);
    }
}
