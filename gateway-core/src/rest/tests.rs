//! What REST answers, without a socket: requests go straight into the router.

mod attachments;
mod cookie;
mod export;
mod messaging;
mod once;
mod presence;
mod search;

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header, request};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::auth::{
    AttemptLimiter, AuthenticatorChain, JwtOptions, PasswordAuthenticator, TokenKey,
};
use crate::builder::GatewayBuilder;
use crate::clock::Clock;
use crate::directory::{Directory, MemoryDirectory};
use crate::names::UserName;

struct Api {
    rest: RestApi,
    router: Router,
    tokens: JwtAuthenticator,
}

impl Api {
    /// With alice, bob and mallory.
    async fn new() -> Self {
        Self::with(|gateway| gateway).await
    }

    async fn with(more: impl FnOnce(GatewayBuilder) -> GatewayBuilder) -> Self {
        let hasher = PasswordHasher::insecure_for_tests();
        let key = TokenKey::new([7; 32]).expect("long enough");
        let tokens = JwtOptions::new(key, "test", "test").build();
        let directory: Arc<dyn Directory> = Arc::new(MemoryDirectory::new());
        let limiter = Arc::new(AttemptLimiter::new(Clock::system()));
        let passwords = PasswordAuthenticator::new(Arc::clone(&directory), hasher.clone(), limiter);
        let authenticator = AuthenticatorChain::new().then(tokens.clone()).then(passwords);
        let builder =
            Gateway::builder().directory(directory).authenticator(Arc::new(authenticator));
        let gateway = more(builder).build().expect("a gateway");
        let rest = RestApi::new(gateway, tokens.clone())
            .sign_up(hasher)
            .admins([UserName::new("root").expect("a name")])
            .rate_limits(RateLimit::new(1000, 1), RateLimit::new(1000, 1));
        let router = rest.clone().router();
        let api = Self { rest, router, tokens };
        for name in ["alice", "bob", "mallory", "root"] {
            let account = json!({ "name": name, "password": "secret" });
            let (status, _, body) = api.call("", "POST", "/users", Some(account)).await;
            assert_eq!((status, body), (StatusCode::CREATED, json!({ "user": name })));
        }
        api
    }

    /// The beginning of a request of this user; of nobody for an empty name.
    fn authorized(&self, user: &str) -> request::Builder {
        if user.is_empty() {
            return Request::builder();
        }
        let issued = self.tokens.issue(&UserName::new(user).expect("a name")).expect("a token");
        let bearer = format!("Bearer {}", issued.token.expose());
        Request::builder().header(header::AUTHORIZATION, bearer)
    }

    /// One call as this user; nobody for an empty name.
    async fn call(
        &self,
        user: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, HeaderMap, Value) {
        let mut request = self.authorized(user).method(method).uri(format!("/api/v1{path}"));
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        self.raw(request.body(Body::from(body)).expect("a request")).await
    }

    /// One call with a key, in the name of somebody.
    async fn with_key(
        &self,
        key: &str,
        act_as: Option<&str>,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, HeaderMap, Value) {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header(header::AUTHORIZATION, format!("Bearer {key}"))
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(user) = act_as {
            request = request.header("act-as", user);
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        self.raw(request.body(Body::from(body)).expect("a request")).await
    }

    /// A new key, and its name.
    async fn key(&self, scopes: &[&str]) -> (String, String) {
        let body = json!({"service": "billing", "scopes": scopes, "label": "test"});
        let (status, _, made) = self.call("root", "POST", "/keys", Some(body)).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        let text = |field: &str| made[field].as_str().expect(field).to_owned();
        (text("key"), text("id"))
    }

    async fn raw(&self, request: Request<Body>) -> (StatusCode, HeaderMap, Value) {
        let response = self.router.clone().oneshot(request).await.expect("infallible");
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("a body");
        let json = if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&body).expect("JSON")
        };
        (parts.status, parts.headers, json)
    }

    async fn send(&self, user: &str, body: Value) -> (StatusCode, Value) {
        let (status, _, answer) = self.call(user, "POST", "/messages", Some(body)).await;
        (status, answer)
    }
}

#[tokio::test]
async fn a_message_is_receipted_and_in_both_histories() {
    let api = Api::new().await;
    let message = json!({"to": "/user/bob", "body": "hi", "in_reply_to": "m0", "mentions": "bob"});
    let (status, receipt) = api.send("alice", message).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(receipt["conversation"], "direct:alice:bob");
    assert_eq!((&receipt["seq"], &receipt["duplicate"]), (&json!(1), &json!(false)));
    for user in ["alice", "bob"] {
        let path = "/conversations/direct%3Aalice%3Abob/messages";
        let (status, _, page) = api.call(user, "GET", path, None).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!((&page["first_seq"], &page["last_seq"]), (&json!(1), &json!(1)));
        let message = &page["messages"][0];
        assert_eq!(message["id"], receipt["message_id"]);
        assert_eq!(message["timestamp"], receipt["timestamp"]);
        assert_eq!((&message["from"], &message["body"]), (&json!("alice"), &json!("hi")));
        assert_eq!(
            (&message["kind"], &message["body_encoding"]),
            (&json!("message"), &json!("utf8"))
        );
        assert_eq!(message["content_type"], "text/plain");
        assert_eq!(message["headers"], json!({"in-reply-to": "m0", "mentions": "bob"}));
    }
}

#[tokio::test]
async fn p4_the_key_may_stand_in_the_body_or_in_the_header() {
    let api = Api::new().await;
    let in_body = json!({"to": "/user/bob", "body": "hi", "idempotency_key": "k"});
    let (_, first) = api.send("alice", in_body).await;
    let token = api.tokens.issue(&UserName::new("alice").expect("a name")).expect("a token");
    let with_header = |body: &str| {
        Request::post("/api/v1/messages")
            .header(header::AUTHORIZATION, format!("Bearer {}", token.token.expose()))
            .header(header::CONTENT_TYPE, "application/json")
            .header("idempotency-key", "k")
            .body(Body::from(body.to_owned()))
            .expect("a request")
    };
    let (status, _, second) = api.raw(with_header(r#"{"to":"/user/bob","body":"hi"}"#)).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(second["message_id"], first["message_id"]);
    assert_eq!((&second["seq"], &second["duplicate"]), (&first["seq"], &json!(true)));
    let contradiction = r#"{"to":"/user/bob","body":"hi","idempotency_key":"other"}"#;
    let (status, _, _) = api.raw(with_header(contradiction)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn history_comes_in_pages() {
    let api = Api::new().await;
    for number in 1..=10 {
        api.send("alice", json!({"to": "/user/bob", "body": number.to_string()})).await;
    }
    for (query, expected) in [
        ("", (1..=10).collect::<Vec<u64>>()),
        ("?limit=3", vec![8, 9, 10]),
        ("?limit=3&before=8", vec![5, 6, 7]),
        ("?limit=3&after=0", vec![1, 2, 3]),
        ("?limit=3&after=9", vec![10]),
        ("?after=10", vec![]),
    ] {
        let path = format!("/conversations/direct:alice:bob/messages{query}");
        let (_, _, page) = api.call("bob", "GET", &path, None).await;
        let messages = page["messages"].as_array().expect("messages");
        let seqs: Vec<u64> =
            messages.iter().filter_map(|message| message["seq"].as_u64()).collect();
        assert_eq!(seqs, expected, "{query}");
        assert_eq!(page["last_seq"], 10);
        assert!(page["epoch"].as_str().is_some_and(|epoch| !epoch.is_empty()));
    }
    for query in ["?limit=0", "?limit=201", "?limit=x", "?after=-1"] {
        let path = format!("/conversations/direct:alice:bob/messages{query}");
        let (status, _, problem) = api.call("bob", "GET", &path, None).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{query}");
        assert_eq!(problem["status"], 422);
    }
}

#[tokio::test]
async fn the_list_of_conversations_says_what_is_unread_and_who_is_there() {
    let api = Api::new().await;
    let group = json!({"name": "ops", "members": ["bob"]});
    let (status, _, made) = api.call("alice", "POST", "/groups", Some(group)).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(made["members"][0], json!({"user": "alice", "role": "owner", "muted_until": null}));
    api.send("alice", json!({"to": "/user/bob", "body": "one"})).await;
    api.send("alice", json!({"to": "/user/bob", "body": "two"})).await;

    let (_, _, list) = api.call("bob", "GET", "/conversations", None).await;
    let list = list["conversations"].as_array().expect("a list");
    assert_eq!(list.len(), 2);
    let direct = &list[0];
    assert_eq!((&direct["id"], &direct["kind"]), (&json!("direct:alice:bob"), &json!("direct")));
    assert_eq!(
        (&direct["destination"], &direct["title"]),
        (&json!("/user/alice"), &json!("alice"))
    );
    assert_eq!((&direct["unread"], &direct["last_seq"]), (&json!(2), &json!(2)));
    assert_eq!(direct["last_message"]["body"], "two");
    let alice = json!({"user": "alice", "role": "member", "read": 2, "delivered": 2, "online": false, "away": false});
    assert_eq!(direct["members"][0], alice);
    assert_eq!(
        (&list[1]["id"], &list[1]["destination"]),
        (&json!("group:ops"), &json!("/group/ops"))
    );
}

/// P8: who is no member cannot tell whether a conversation or group exists.
#[tokio::test]
async fn p8_a_stranger_cannot_tell_what_exists() {
    let api = Api::new().await;
    api.call("alice", "POST", "/groups", Some(json!({"name": "ops", "members": ["bob"]}))).await;
    api.send("alice", json!({"to": "/user/bob", "body": "secret"})).await;
    for (exists, does_not) in [
        ("/conversations/group:ops/messages", "/conversations/group:none/messages"),
        ("/conversations/direct:alice:bob/messages", "/conversations/direct:alice:carl/messages"),
        ("/groups/ops", "/groups/none"),
    ] {
        let (status, _, one) = api.call("mallory", "GET", exists, None).await;
        let (_, _, other) = api.call("mallory", "GET", does_not, None).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{exists}");
        assert_eq!(one, other, "{exists}");
    }
    for (method, member) in [("PUT", "mallory"), ("DELETE", "bob")] {
        let (status, _, one) =
            api.call("mallory", method, &format!("/groups/ops/members/{member}"), None).await;
        let (_, _, other) =
            api.call("mallory", method, &format!("/groups/none/members/{member}"), None).await;
        assert_eq!((status, one), (StatusCode::NOT_FOUND, other));
    }
}

#[tokio::test]
async fn members_are_managed_by_who_may() {
    let api = Api::new().await;
    api.call("alice", "POST", "/groups", Some(json!({"name": "ops", "members": ["bob"]}))).await;
    let status = |user, method, member: &str| {
        let path = format!("/groups/ops/members/{member}");
        let api = &api;
        async move { api.call(user, method, &path, None).await.0 }
    };
    assert_eq!(status("bob", "PUT", "mallory").await, StatusCode::FORBIDDEN);
    assert_eq!(status("alice", "PUT", "nobody").await, StatusCode::NOT_FOUND);
    assert_eq!(status("alice", "PUT", "mallory").await, StatusCode::NO_CONTENT);
    assert_eq!(status("alice", "PUT", "mallory").await, StatusCode::NO_CONTENT, "again");
    assert_eq!(status("mallory", "DELETE", "bob").await, StatusCode::FORBIDDEN);
    assert_eq!(status("mallory", "DELETE", "mallory").await, StatusCode::NO_CONTENT, "leaving");
    assert_eq!(status("mallory", "DELETE", "mallory").await, StatusCode::NOT_FOUND);
    let (_, _, history) = api.call("bob", "GET", "/conversations/group:ops/messages", None).await;
    let last = history["messages"].as_array().and_then(|messages| messages.last()).expect("one");
    assert_eq!((&last["kind"], &last["from"]), (&json!("member"), &json!("mallory")));
    let body: Value = serde_json::from_str(last["body"].as_str().expect("text")).expect("JSON");
    assert_eq!(body, json!({"action": "left", "user": "mallory"}));
}

#[tokio::test]
async fn signing_up_and_in() {
    let api = Api::new().await;
    let account = |password| Some(json!({"name": "dora", "password": password}));
    assert_eq!(api.call("", "POST", "/users", account("sesame")).await.0, StatusCode::CREATED);
    assert_eq!(api.call("", "POST", "/users", account("other")).await.0, StatusCode::CONFLICT);
    let (status, headers, _) = api.call("", "POST", "/tokens", account("other")).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(headers[header::WWW_AUTHENTICATE], "Bearer");
    let (status, _, issued) = api.call("", "POST", "/tokens", account("sesame")).await;
    assert_eq!((status, &issued["user"]), (StatusCode::OK, &json!("dora")));
    let (status, _, me) = api.call("dora", "GET", "/me", None).await;
    assert_eq!((status, me), (StatusCode::OK, json!({"user": "dora", "signup": true})));
    // Whoever has a token cannot renew it for ever.
    let token = issued["token"].as_str().expect("a token").to_owned();
    let renewal = Some(json!({"name": "dora", "password": token}));
    assert_eq!(api.call("", "POST", "/tokens", renewal).await.0, StatusCode::UNAUTHORIZED);

    let basic = Request::get("/api/v1/me").header(header::AUTHORIZATION, "Basic ZG9yYTpzZXNhbWU=");
    let (status, _, me) = api.raw(basic.body(Body::empty()).expect("a request")).await;
    assert_eq!((status, &me["user"]), (StatusCode::OK, &json!("dora")));
    let (_, _, found) = api.call("dora", "GET", "/users?q=d", None).await;
    assert_eq!(found, json!({"users": ["dora"], "next": null}));
}

/// P9: whatever is wrong, the answer is a problem document that says what.
#[tokio::test]
async fn p9_every_refusal_is_a_problem_document() {
    let api = Api::new().await;
    let long_key = "k".repeat(129);
    for (status, user, method, path, body) in [
        (401, "", "GET", "/conversations", None),
        (403, "alice", "POST", "/messages", Some(json!({"to": "/topic/news", "body": ""}))),
        (403, "alice", "POST", "/messages", Some(json!({"to": "/user/nobody", "body": ""}))),
        (404, "alice", "GET", "/nothing", None),
        (404, "alice", "GET", "/conversations/nonsense/messages", None),
        (405, "alice", "PATCH", "/me", None),
        (409, "alice", "POST", "/users", Some(json!({"name": "bob", "password": "x"}))),
        (422, "alice", "POST", "/messages", Some(json!({"to": "bob", "body": ""}))),
        (422, "alice", "POST", "/messages", Some(json!({"body": ""}))),
        (
            422,
            "alice",
            "POST",
            "/messages",
            Some(json!({"to": "/user/bob", "body": "", "kind": "x"})),
        ),
        (
            422,
            "alice",
            "POST",
            "/messages",
            Some(json!({"to": "/user/bob", "body": "", "idempotency_key": long_key})),
        ),
        (422, "alice", "POST", "/groups", Some(json!({"name": "ops", "members": ["nobody"]}))),
        (422, "alice", "POST", "/groups", Some(json!({"name": "a/b"}))),
        (422, "", "POST", "/users", Some(json!({"name": "topic", "password": "x"}))),
        (422, "", "POST", "/users", Some(json!({"name": "dora", "password": ""}))),
    ] {
        let (got, headers, problem) = api.call(user, method, path, body).await;
        assert_eq!(got.as_u16(), status, "{method} {path}: {problem}");
        assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json", "{path}");
        assert_eq!(problem["status"], status, "{path}");
        for part in ["title", "detail"] {
            assert!(problem[part].as_str().is_some_and(|text| !text.is_empty()), "{part}: {path}");
        }
    }
}

/// P9: so is the answer to what never reaches a call.
#[tokio::test]
async fn p9_what_belongs_to_no_call_gets_a_problem_document_too() {
    let api = Api::new().await;
    let token = api.tokens.issue(&UserName::new("alice").expect("a name")).expect("a token");
    let bearer = format!("Bearer {}", token.token.expose());
    let large = format!("{{\"name\": \"{}\"}}", "x".repeat(MAX_JSON));
    for (status, method, uri, content_type, body) in [
        (404, "GET", "/api/v2/users", "", ""),
        (404, "GET", "/api", "", ""),
        (404, "GET", "/api/v1/users/%FF/nothing", "", ""),
        (404, "GET", "/api/v1/conversations/%FF/messages", "", ""),
        (405, "DELETE", "/api/openapi.json", "", ""),
        (400, "POST", "/api/v1/groups", "application/json", "{\"name\": "),
        (415, "POST", "/api/v1/groups", "text/plain", "{}"),
        (413, "POST", "/api/v1/groups", "application/json", &large),
        (422, "GET", "/api/v1/conversations/group:ops/messages?limit=many", "", ""),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(header::AUTHORIZATION, &bearer)
            .header(header::CONTENT_TYPE, content_type)
            .body(Body::from(body.to_owned()))
            .expect("a request");
        let (got, headers, problem) = api.raw(request).await;
        assert_eq!(got.as_u16(), status, "{method} {uri}: {problem}");
        assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json", "{uri}");
        assert_eq!(problem["status"], status, "{uri}");
    }
}

#[tokio::test]
async fn the_description_is_served_with_a_page_that_shows_it() {
    let api = Api::new().await;
    let get = |uri: &str| Request::get(uri).body(Body::empty()).expect("a request");
    let (status, _, described) = api.raw(get("/api/openapi.json")).await;
    assert_eq!(status, StatusCode::OK);
    let checked: Value = serde_json::from_str(&RestApi::openapi()).expect("JSON");
    assert_eq!(described, checked);
    for (uri, content_type) in [
        ("/api/docs", "text/html"),
        ("/api/docs.js", "text/javascript"),
        ("/api/docs.css", "text/css"),
    ] {
        let response = api.router.clone().oneshot(get(uri)).await.expect("infallible");
        assert_eq!(response.status(), StatusCode::OK, "{uri}");
        let headers = response.headers();
        assert!(
            headers[header::CONTENT_TYPE].to_str().is_ok_and(|is| is.starts_with(content_type))
        );
        assert!(headers.contains_key(header::CONTENT_SECURITY_POLICY), "{uri}");
    }
}

/// P8, V-27: a key is good for what its scopes say and for nothing else.
#[tokio::test]
async fn p8_a_key_is_good_for_its_scopes_alone() {
    let api = Api::new().await;
    let message = Some(json!({"to": "/user/bob", "body": "your bill"}));
    let (send, _) = api.key(&["send"]).await;
    let (read, _) = api.key(&["read"]).await;
    let (groups, _) = api.key(&["groups"]).await;
    let (admin, _) = api.key(&["admin"]).await;
    let group = Some(json!({"name": "ops"}));
    let user = Some(json!({}));
    for (call, body, allowed) in [
        (("POST", "/messages"), message.clone(), [true, false, false, true]),
        (("GET", "/conversations"), None, [false, true, false, true]),
        (("GET", "/me"), None, [false, true, false, true]),
        (("POST", "/groups"), group, [false, false, true, true]),
        (("PUT", "/users/dora"), user, [false, false, false, true]),
        (("GET", "/keys"), None, [false, false, false, true]),
    ] {
        for (key, allowed) in [&send, &read, &groups, &admin].into_iter().zip(allowed) {
            let (status, _, answer) = api.with_key(key, None, call.0, call.1, body.clone()).await;
            assert_eq!(status != StatusCode::FORBIDDEN, allowed, "{call:?}: {answer}");
        }
    }
    let (_, _, history) =
        api.call("bob", "GET", "/conversations/direct:billing:bob/messages", None).await;
    assert_eq!(history["messages"][0]["from"], "billing");

    // Whose key it is, it cannot choose.
    for key in [&send, &admin] {
        let (status, ..) =
            api.with_key(key, Some("alice"), "POST", "/messages", message.clone()).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
    }
    let (status, ..) = api.call("mallory", "GET", "/keys", None).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "a user who is no administrator");
}

#[tokio::test]
async fn a_service_acts_as_a_user_where_its_key_says_so() {
    let api = Api::new().await;
    let (key, _) = api.key(&["send", "as"]).await;
    let message = Some(json!({"to": "/user/bob", "body": "I am away"}));
    let sent = api.with_key(&key, Some("alice"), "POST", "/messages", message.clone()).await;
    assert_eq!(
        (sent.0, &sent.2["conversation"]),
        (StatusCode::CREATED, &json!("direct:alice:bob"))
    );
    let (status, ..) = api.with_key(&key, Some("nobody"), "POST", "/messages", message).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    // It acts within what the user may, and within its scopes.
    let call = api.with_key(&key, Some("alice"), "GET", "/conversations", None).await;
    assert_eq!(call.0, StatusCode::FORBIDDEN);
    let into = Some(json!({"to": "/group/secret", "body": ""}));
    let call = api.with_key(&key, Some("alice"), "POST", "/messages", into).await;
    assert_eq!(call.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn keys_are_listed_in_pages_and_revoked() {
    let api = Api::new().await;
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(api.key(&["read"]).await);
    }
    let (_, _, first) = api.call("root", "GET", "/keys?limit=2", None).await;
    let cursor = first["next"].as_str().expect("a further page");
    let (_, _, second) =
        api.call("root", "GET", &format!("/keys?limit=2&cursor={cursor}"), None).await;
    assert_eq!(second["next"], Value::Null);
    let pages = [&first, &second].map(|page| page["keys"].as_array().expect("keys").clone());
    let ids: Vec<_> = pages.iter().flatten().map(|key| key["id"].clone()).collect();
    assert_eq!(ids, made.iter().map(|(_, id)| json!(id)).collect::<Vec<_>>());
    assert!(!first.to_string().contains("imk_"), "the list shows no secret");

    let (key, id) = &made[0];
    assert_eq!(api.with_key(key, None, "GET", "/me", None).await.0, StatusCode::OK);
    let revoke = format!("/keys/{id}");
    assert_eq!(api.call("root", "DELETE", &revoke, None).await.0, StatusCode::NO_CONTENT);
    assert_eq!(api.with_key(key, None, "GET", "/me", None).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(api.call("root", "DELETE", &revoke, None).await.0, StatusCode::NOT_FOUND);
    assert_eq!(api.call("root", "DELETE", "/keys/%00", None).await.0, StatusCode::NOT_FOUND);
    let (status, ..) = api.call("root", "GET", "/keys?cursor=%00", None).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn an_administrator_makes_users_and_sets_passwords() {
    let api = Api::new().await;
    let with = |password: &str| Some(json!({"password": password}));
    let put = |body| api.call("root", "PUT", "/users/dora", body);
    assert_eq!(put(Some(json!({}))).await.0, StatusCode::CREATED);
    assert_eq!(put(with("sesame")).await.0, StatusCode::OK);
    assert_eq!(put(Some(json!({}))).await.0, StatusCode::OK);
    let account = json!({"name": "dora", "password": "sesame"});
    assert_eq!(api.call("", "POST", "/tokens", Some(account)).await.0, StatusCode::OK);
    let (status, ..) = api.call("mallory", "PUT", "/users/alice", with("mine")).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
}

/// P7: who calls too often is told when to come again, and is the only one to be.
#[tokio::test]
async fn p7_who_calls_too_often_waits() {
    let api = Api::new().await;
    let (_, headers, _) = api.call("alice", "GET", "/me", None).await;
    assert_eq!(headers["ratelimit-limit"], "1000");
    assert_eq!(headers["ratelimit-remaining"], "999");
    for _ in 0..999 {
        api.call("alice", "GET", "/me", None).await;
    }
    let (status, headers, problem) = api.call("alice", "GET", "/me", None).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{problem}");
    assert_eq!(
        (&headers["retry-after"], &headers["ratelimit-remaining"]),
        (&"1".parse().expect("a value"), &"0".parse().expect("a value"))
    );
    assert_eq!(api.call("bob", "GET", "/me", None).await.0, StatusCode::OK);
}
