//! What those who run a node see and do over REST.
#![cfg(feature = "rest")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use common::*;
use gateway_core::{Gateway, JwtOptions, RestApi, TokenKey};
use serde_json::{Value, json};
use stomp_codec::server::AckMode;
use stomp_ws::client::ConnectOptions;
use tower::ServiceExt as _;

/// More than a client may leave unacknowledged.
const MANY: usize = 300;

struct Node {
    gateway: Gateway,
    router: Router,
}

impl Node {
    /// Run by alice.
    async fn new() -> Self {
        let gateway = populated(builder().open(true)).await;
        let tokens = JwtOptions::new(TokenKey::new([7; 32]).unwrap(), "t", "t").build();
        let router = RestApi::new(gateway.clone(), tokens).admins([user("alice")]).router();
        Self { gateway, router }
    }

    async fn call(
        &self,
        authorization: &str,
        method: &str,
        path: &str,
        body: &str,
    ) -> (StatusCode, Value) {
        let request = Request::builder().method(method).uri(format!("/api/v1{path}"));
        let request = request.header("authorization", authorization);
        let request = request.header("content-type", "application/json");
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn alice(&self, method: &str, path: &str) -> (StatusCode, Value) {
        self.call(ALICE, method, path, "").await
    }

    /// What alice gets, once it is so.
    async fn until(&self, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let found = async {
            loop {
                let (status, answer) = self.alice("GET", path).await;
                assert_eq!(status, StatusCode::OK, "{path}: {answer}");
                if is_so(&answer) {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), found).await.expect(path)
    }
}

/// With the password `right`.
const ALICE: &str = "Basic YWxpY2U6cmlnaHQ=";
const BOB: &str = "Basic Ym9iOnJpZ2h0";

const CALLS: [(&str, &str); 5] = [
    ("GET", "/admin/sessions"),
    ("GET", "/admin/destinations"),
    ("DELETE", "/admin/sessions/0"),
    ("DELETE", "/admin/users/bob/sessions"),
    ("POST", "/admin/drain"),
];

#[tokio::test]
async fn p8_only_administrators_and_keys_for_it_run_the_node() {
    let node = Node::new().await;
    let bob = connect(&node.gateway, "bob").await;
    let key = async |scope: &str| {
        let body = json!({"service": "watch", "scopes": [scope]}).to_string();
        let (status, made) = node.call(ALICE, "POST", "/keys", &body).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        format!("Bearer {}", made["key"].as_str().unwrap())
    };
    for (method, path) in CALLS {
        assert_eq!(node.call(BOB, method, path, "").await.0, StatusCode::FORBIDDEN, "{path}");
        for scope in ["read", "users", "webhooks"] {
            let (status, _) = node.call(&key(scope).await, method, path, "").await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{scope}: {path}");
        }
    }
    assert!(bob.is_connected());
    let operate = key("operate").await;
    let (status, found) = node.call(&operate, "GET", "/admin/sessions", "").await;
    assert_eq!((status, &found["sessions"][0]["user"]), (StatusCode::OK, &json!("bob")));
    assert_eq!(node.call(&operate, "GET", "/keys", "").await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn sessions_are_shown_in_pages_and_ended() {
    let node = Node::new().await;
    let phone = connect_device(&node.gateway, "bob", "phone").await;
    let laptop = connect_device(&node.gateway, "bob", "laptop").await;
    let carol = connect(&node.gateway, "carol").await;
    let (_, first) = node.alice("GET", "/admin/sessions?limit=2").await;
    let names = |page: &Value| {
        let sessions = page["sessions"].as_array().unwrap().iter();
        sessions.map(|one| format!("{} {}", one["user"], one["device"])).collect::<Vec<_>>()
    };
    assert_eq!(names(&first), [r#""bob" "phone""#, r#""bob" "laptop""#]);
    assert!(first["sessions"][0]["since"].as_u64() > Some(0));
    let next = first["next"].as_str().unwrap();
    let (_, second) = node.alice("GET", &format!("/admin/sessions?limit=2&cursor={next}")).await;
    assert_eq!((names(&second).len(), &second["next"]), (1, &Value::Null));
    let (_, of_carol) = node.alice("GET", "/admin/sessions?user=carol").await;
    assert_eq!(names(&of_carol), names(&second));
    for query in ["limit=0", "limit=201", "cursor=x", "user=a%2Fb"] {
        let (status, _) = node.alice("GET", &format!("/admin/sessions?{query}")).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{query}");
    }

    let id = first["sessions"][0]["id"].as_str().unwrap();
    let path = format!("/admin/sessions/{id}");
    assert_eq!(node.alice("DELETE", &path).await.0, StatusCode::NO_CONTENT);
    let error = phone.closed().await.error.unwrap();
    assert_eq!(error.message(), "ended by an administrator");
    assert_eq!(node.alice("DELETE", &path).await.0, StatusCode::NOT_FOUND);
    assert_eq!(node.alice("DELETE", "/admin/sessions/x").await.0, StatusCode::NOT_FOUND);
    assert!(laptop.is_connected());
    let (status, ended) = node.alice("DELETE", "/admin/users/bob/sessions").await;
    assert_eq!((status, ended), (StatusCode::OK, json!({"ended": 1})));
    laptop.closed().await;
    assert!(carol.is_connected());
    node.until("/admin/sessions", |page| names(page).len() == 1).await;
}

#[tokio::test]
async fn who_does_not_acknowledge_is_shown_as_slow_until_it_does() {
    let node = Node::new().await;
    let (bob, carol) = (connect(&node.gateway, "bob").await, connect(&node.gateway, "carol").await);
    let mut told = inbox(&bob).await;
    let topic = carol.subscribe("/topic/t").ack(AckMode::ClientIndividual);
    let (mut topic, _) = topic.confirmed().await.unwrap();
    assert_eq!(node.alice("GET", "/admin/sessions?slow=true").await.1["sessions"], json!([]));
    let sender = connect(&node.gateway, "alice").await;
    for _ in 0..MANY {
        send(&sender, "/user/bob", "x").await;
        send(&sender, "/topic/t", "x").await;
    }
    let slow = "/admin/sessions?slow=true";
    let page = node.until(slow, |page| page["sessions"].as_array().unwrap().len() == 2).await;
    // All of them, and that there is the group.
    let of_bob = &page["sessions"][0];
    assert_eq!((&of_bob["user"], &of_bob["depth"]), (&json!("bob"), &json!(MANY + 1)));
    assert_eq!(of_bob["unacked"], 256);
    for _ in 0..=MANY {
        take(&bob, &mut told).await;
    }
    for _ in 0..MANY {
        let message = topic.recv().await.unwrap();
        carol.ack(&message).confirmed().await.unwrap();
    }
    node.until(slow, |page| page["sessions"] == json!([])).await;
}

#[tokio::test]
async fn destinations_are_shown_while_somebody_listens_or_by_name() {
    let node = Node::new().await;
    let (alice, bob) = (connect(&node.gateway, "alice").await, connect(&node.gateway, "bob").await);
    let (queue, _) =
        bob.subscribe("/queue/q").ack(AckMode::ClientIndividual).confirmed().await.unwrap();
    let _topic = bob.subscribe("/topic/a.#").confirmed().await.unwrap();
    let durable = bob.subscribe("/topic/b").header("durable", "true").header("id", "d");
    let _durable = durable.confirmed().await.unwrap();
    let _timeline = bob.subscribe("/group/ops").confirmed().await.unwrap();
    send(&alice, "/queue/q", "x").await;
    for _ in 0..2 {
        send(&alice, "/topic/a.b", "x").await;
    }
    let wanted = |page: &Value| {
        page["destinations"][1]["unacked"] == 1 && page["destinations"][2]["taken"] == 2
    };
    let page = node.until("/admin/destinations", wanted).await;
    let shown = |name: &str, depth: u64, taken: u64| json!({"name": name, "depth": depth, "unacked": depth, "consumers": 1, "taken": taken});
    let all = [shown("durable.bob.d", 0, 0), shown("/queue/q", 1, 1), shown("/topic/a.#", 0, 2)];
    assert_eq!(page, json!({"destinations": all, "next": null}));
    let (_, first) = node.alice("GET", "/admin/destinations?limit=2").await;
    assert_eq!(first["destinations"], json!(all[..2]));
    let next = format!("/admin/destinations?limit=2&cursor={}", first["next"].as_str().unwrap());
    assert_eq!(node.alice("GET", &next).await.1["destinations"], json!(all[2..]));
    queue.unsubscribe(&[]).await.unwrap();
    node.until("/admin/destinations", |page| page["destinations"].as_array().unwrap().len() == 2)
        .await;
    let (_, named) = node.alice("GET", "/admin/destinations?name=/queue/q").await;
    let gone = json!([{"name": "/queue/q", "depth": 1, "unacked": 0, "consumers": 0, "taken": 0}]);
    assert_eq!(named, json!({"destinations": gone, "next": null}));
    let (status, _) = node.alice("GET", "/admin/destinations?name=/inbox").await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn a_node_is_drained_and_goes_on_answering() {
    let node = Node::new().await;
    let bob = connect(&node.gateway, "bob").await;
    assert_eq!(node.alice("POST", "/admin/drain").await.0, StatusCode::ACCEPTED);
    bob.closed().await;
    let late = ConnectOptions::new().credentials("bob", "right");
    assert!(try_connect(&node.gateway, late).await.is_err(), "a new session is taken");
    node.until("/admin/sessions", |page| page["sessions"] == json!([])).await;
}
