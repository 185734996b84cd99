//! Against receivers that fail, hang, redirect, break off and come back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::destination::Destination;
use crate::http_client::Reach;
use crate::names::{GroupName, UserName};
use crate::send::SendRequest;

/// After so long what is waited for is not coming.
const PATIENCE: Duration = Duration::from_secs(30);

fn user(name: &str) -> UserName {
    UserName::new(name).unwrap()
}

/// A receiver, and what it took.
struct Receiver {
    url: String,
    taken: mpsc::UnboundedReceiver<(HeaderMap, Value, Bytes)>,
    calls: Arc<AtomicUsize>,
}

impl Receiver {
    /// Answers each call as `answer` says, which is told its number, and notes those that get a success.
    async fn start(
        answer: impl Fn(usize, &Value) -> Response + Clone + Send + Sync + 'static,
    ) -> Self {
        let (noted, taken) = mpsc::unbounded_channel();
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let router = Router::new().route(
            "/hook",
            post(move |headers: HeaderMap, body: Bytes| async move {
                let number = counted.fetch_add(1, Ordering::SeqCst) + 1;
                let event: Value = serde_json::from_slice(&body).unwrap();
                let response = answer(number, &event);
                if response.status() == StatusCode::GATEWAY_TIMEOUT {
                    std::future::pending::<()>().await;
                }
                if response.status().is_success() {
                    noted.send((headers, event, body)).unwrap();
                }
                response
            }),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, taken, calls }
    }

    async fn event(&mut self) -> (HeaderMap, Value, Bytes) {
        timeout(PATIENCE, self.taken.recv()).await.expect("an event").unwrap()
    }

    async fn bodies(&mut self, count: usize) -> Vec<String> {
        let mut bodies = Vec::new();
        for _ in 0..count {
            bodies.push(self.event().await.1["data"]["body"].as_str().unwrap().to_owned());
        }
        bodies
    }
}

fn options(reach: Reach) -> WebhookOptions {
    let client = HttpClient::new(reach).unwrap().with_timeout(Duration::from_millis(500));
    let mut options = WebhookOptions::new(client);
    options.first_backoff = Duration::from_millis(5);
    options.last_backoff = Duration::from_millis(20);
    options.attempts = 4;
    options
}

/// With alice, bob and carol; the group `ops` is of alice and bob.
async fn gateway() -> Gateway {
    let gateway = Gateway::builder().build().unwrap();
    for name in ["alice", "bob", "carol"] {
        gateway.create_user(&user(name), None).await.unwrap();
    }
    let ops = GroupName::new("ops").unwrap();
    gateway.create_group(&user("alice"), &ops, &[user("bob")]).await.unwrap();
    gateway
}

async fn send(gateway: &Gateway, to: &str, body: &str) {
    let to = Destination::parse(to).unwrap();
    gateway.send(SendRequest::new(user("alice"), to, body.to_owned())).await.unwrap();
}

async fn subscribed(webhooks: &Webhooks, url: &str, events: &[EventKind]) -> (Webhook, Secret) {
    webhooks.create(NewWebhook::new(url.parse().unwrap(), events.to_vec())).await.unwrap()
}

/// Waits until as many as this are dead letters.
async fn dead(webhooks: &Webhooks, id: &str, count: u64) {
    let found = timeout(PATIENCE, async {
        loop {
            let (_, stats) = webhooks.get(id).await.unwrap().unwrap();
            if stats.dead == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    found.await.expect("dead letters");
}

#[tokio::test]
async fn what_happens_is_told_signed_and_only_what_was_asked_for() {
    let gateway = gateway().await;
    let webhooks = Webhooks::start(gateway.clone(), options(Reach::Everywhere));
    let mut receiver = Receiver::start(|_, _| StatusCode::NO_CONTENT.into_response()).await;
    let (_, secret) = subscribed(&webhooks, &receiver.url, &[EventKind::Message]).await;
    let carol = user("carol");
    gateway.add_member(&user("alice"), &GroupName::new("ops").unwrap(), &carol).await.unwrap();
    send(&gateway, "/group/ops", "hello").await;

    let (headers, event, body) = receiver.event().await;
    assert_eq!(event["type"], "message");
    assert_eq!(event["data"]["conversation"], "group:ops");
    assert_eq!(
        (&event["data"]["from"], &event["data"]["body"]),
        (&"alice".into(), &"hello".into())
    );
    assert!(!event.to_string().contains("im.device"), "{event}");
    let text = |name: &str| headers[name].to_str().unwrap();
    let seconds = text("webhook-timestamp").parse().unwrap();
    let signed = sign::headers(secret.expose(), text("webhook-id"), seconds, &body).unwrap();
    assert_eq!(headers["webhook-signature"], signed["webhook-signature"]);
}

#[tokio::test]
async fn the_trace_of_a_message_goes_on_in_the_call_and_what_is_none_does_not() {
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let gateway = gateway().await;
    let mut receiver = Receiver::start(|_, _| StatusCode::NO_CONTENT.into_response()).await;
    let webhooks = Webhooks::start(gateway.clone(), options(Reach::Everywhere));
    subscribed(&webhooks, &receiver.url, &[EventKind::Message]).await;
    for (parent, state, expected) in [
        (PARENT, "rojo=1", [Some(PARENT), Some("rojo=1")]),
        (PARENT, "no state", [Some(PARENT), None]),
        ("00-0-0-00", "rojo=1", [None, None]),
    ] {
        let to = Destination::parse("/user/bob").unwrap();
        let request = SendRequest::new(user("alice"), to, "x").with_header("tracestate", state);
        let request = request.unwrap().with_header("traceparent", parent).unwrap();
        gateway.send(request).await.unwrap();
        let (headers, event, _) = receiver.event().await;
        let named = ["traceparent", "tracestate"];
        let called = named.map(|name| headers.get(name).map(|value| value.to_str().unwrap()));
        let told = named.map(|name| event["data"]["headers"][name].as_str());
        assert_eq!((called, told), (expected, expected), "{parent} {state}");
    }
}

/// P3: a failure holds back its own conversation, and nothing overtakes in it.
#[tokio::test]
async fn p3_events_of_a_conversation_stay_in_order_through_failures() {
    let gateway = gateway().await;
    let webhooks = Webhooks::start(gateway.clone(), options(Reach::Everywhere));
    let mut receiver = Receiver::start(|number, _| match number % 3 {
        0 => StatusCode::NO_CONTENT.into_response(),
        1 => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        // Which it is not told: it hangs.
        _ if number == 2 => StatusCode::GATEWAY_TIMEOUT.into_response(),
        _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    })
    .await;
    subscribed(&webhooks, &receiver.url, &[EventKind::Message]).await;
    for body in ["1", "2", "3", "4"] {
        send(&gateway, "/user/bob", body).await;
    }
    assert_eq!(receiver.bodies(4).await, ["1", "2", "3", "4"]);
}

#[tokio::test]
async fn what_cannot_be_delivered_is_kept_aside_and_tried_again_when_asked() {
    let gateway = gateway().await;
    let webhooks = Webhooks::start(gateway.clone(), options(Reach::Everywhere));
    // Poison stays poison until it has been tried as often as there are attempts.
    let mut receiver = Receiver::start(|number, event| {
        if event["data"]["body"] == "poison" && number <= 4 {
            StatusCode::BAD_REQUEST.into_response()
        } else {
            StatusCode::OK.into_response()
        }
    })
    .await;
    let (webhook, _) = subscribed(&webhooks, &receiver.url, &[EventKind::Message]).await;
    send(&gateway, "/user/bob", "poison").await;
    send(&gateway, "/user/bob", "good").await;
    assert_eq!(receiver.bodies(1).await, ["good"]);
    dead(&webhooks, &webhook.id, 1).await;
    assert_eq!(webhooks.redeliver(&webhook.id).await.unwrap(), Some(1));
    assert_eq!(receiver.bodies(1).await, ["poison"]);
    dead(&webhooks, &webhook.id, 0).await;
}

/// V-27: a receiver cannot lead the server to where only the server can go.
#[tokio::test]
async fn no_private_address_is_called_directly_or_by_a_redirection() {
    let gateway = gateway().await;
    let inside = Receiver::start(|_, _| StatusCode::OK.into_response()).await;
    let webhooks = Webhooks::start(gateway.clone(), options(Reach::Public));
    let (webhook, _) = subscribed(&webhooks, &inside.url, &[EventKind::Message]).await;
    send(&gateway, "/user/bob", "secret").await;
    dead(&webhooks, &webhook.id, 1).await;
    assert_eq!(inside.calls.load(Ordering::SeqCst), 0);

    let gateway = self::gateway().await;
    let everywhere = Webhooks::start(gateway.clone(), options(Reach::Everywhere));
    let target = inside.url.clone();
    let redirecting = Receiver::start(move |_, _| {
        (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, target.clone())]).into_response()
    })
    .await;
    let (webhook, _) = subscribed(&everywhere, &redirecting.url, &[EventKind::Message]).await;
    send(&gateway, "/user/bob", "secret").await;
    dead(&everywhere, &webhook.id, 1).await;
    assert!(redirecting.calls.load(Ordering::SeqCst) >= 4);
    assert_eq!(inside.calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn people_who_are_away_are_named() {
    let gateway = gateway().await;
    let webhooks = Webhooks::start(gateway.clone(), options(Reach::Everywhere));
    let mut receiver = Receiver::start(|_, _| StatusCode::OK.into_response()).await;
    subscribed(&webhooks, &receiver.url, &[EventKind::Offline]).await;
    gateway.inner.enter(&user("bob"));
    send(&gateway, "/user/bob", "are you there?").await;
    send(&gateway, "/user/carol", "and you?").await;
    let (_, event, _) = receiver.event().await;
    assert_eq!(event["type"], "offline");
    assert_eq!(event["data"]["users"], serde_json::json!(["carol"]));
}

#[tokio::test]
async fn p2_what_waits_is_delivered_by_the_next_process_and_removed_webhooks_leave_nothing() {
    let broker: Arc<dyn mq_bridge::Broker> = Arc::new(mq_bridge::Memory::default());
    let registry: Arc<dyn crate::registry::Registry> =
        Arc::new(crate::registry::MemoryRegistry::new());
    let start = || {
        Gateway::builder()
            .broker(Arc::clone(&broker))
            .registry(Arc::clone(&registry))
            .build()
            .unwrap()
    };
    let first = start();
    for name in ["alice", "bob"] {
        first.create_user(&user(name), None).await.unwrap();
    }
    let mut receiver = Receiver::start(|number, _| match number {
        1..=2 => StatusCode::BAD_GATEWAY.into_response(),
        _ => StatusCode::OK.into_response(),
    })
    .await;
    let mut patient = options(Reach::Everywhere);
    patient.first_backoff = Duration::from_secs(3600);
    let webhooks = Webhooks::start(first.clone(), patient);
    let (webhook, _) = subscribed(&webhooks, &receiver.url, &[EventKind::Message]).await;
    send(&first, "/user/bob", "kept").await;
    timeout(PATIENCE, async {
        while receiver.calls.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("a first attempt");
    // The process ends between two attempts: its tasks are cut off, the broker stays.
    first.inner.stop.cancel();

    let second = start();
    let webhooks = Webhooks::start(second, options(Reach::Everywhere));
    assert_eq!(receiver.bodies(1).await, ["kept"]);
    assert!(webhooks.remove(&webhook.id).await.unwrap());
    assert!(webhooks.get(&webhook.id).await.unwrap().is_none());
    let source = Source::durable(subscription(&webhook.id));
    assert!(matches!(broker.stats(&source).await, Err(BrokerError::NotDeclared { .. })));
    assert!(!webhooks.remove(&webhook.id).await.unwrap());
}

/// P4: who did not hear the answer hears it again.
#[tokio::test]
async fn p4_a_repeat_gets_the_webhook_that_was_made() {
    let webhooks = Webhooks::start(gateway().await, options(Reach::Everywhere));
    let url = "http://127.0.0.1:9/hook";
    let create = async |key: &str, events: &[EventKind], label: &str| {
        let mut new = NewWebhook::new(url.parse().unwrap(), events.to_vec());
        (new.label, new.idempotency_key) = (label.to_owned(), Some(key.to_owned()));
        webhooks.create(new).await
    };
    let first = create("k", &[EventKind::Message], "").await.unwrap();
    assert_eq!(create("k", &[EventKind::Message], "").await.unwrap(), first);
    for (events, label) in [(&[EventKind::Edit][..], ""), (&[EventKind::Message], "x")] {
        let other = create("k", events, label).await;
        assert!(matches!(other, Err(WebhookError::Exists)), "{other:?}");
    }
    assert_ne!(create("other", &[EventKind::Message], "").await.unwrap(), first);
    assert_eq!(webhooks.list("", 9).await.unwrap().len(), 2);
}
