//! The W3C trace context of a message: with it to everybody, and in the spans of what is done for it.
#![cfg(feature = "rest")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::fmt;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::{Request, StatusCode};
use common::*;
use gateway_core::{Draft, Interceptor, JwtOptions, RefusedError, RestApi, TokenKey};
use stomp_codec::view::Message;
use stomp_ws::client::Client;
use tower::ServiceExt as _;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn trace(message: &Message) -> [Option<String>; 2] {
    ["traceparent", "tracestate"].map(|name| message.header(name).map(|value| value.to_string()))
}

async fn send_traced(client: &Client, to: &str, parent: &str, state: &str) {
    let send = client.send(to, "x").header("tracestate", state).header("traceparent", parent);
    send.confirmed().await.unwrap();
}

#[tokio::test]
async fn a_trace_context_travels_and_what_is_none_is_left_out() {
    let gateway = populated(builder().open(true)).await;
    let (alice, bob) = (connect(&gateway, "alice").await, connect(&gateway, "bob").await);
    let mut inbox = inbox(&bob).await;
    take(&bob, &mut inbox).await;
    let (mut topic, _) = bob.subscribe("/topic/t").confirmed().await.unwrap();
    let sound = [Some(PARENT.to_owned()), Some("rojo=1".to_owned())];
    for (parent, state, expected) in [
        (PARENT, "rojo=1", sound.clone()),
        (PARENT, "no state", [sound[0].clone(), None]),
        ("00-0-0-00", "rojo=1", [None, None]),
    ] {
        send_traced(&alice, "/topic/t", parent, state).await;
        assert_eq!(trace(&topic.recv().await.unwrap()), expected, "{parent} {state}");
        send_traced(&alice, "/user/bob", parent, state).await;
        assert_eq!(trace(&take(&bob, &mut inbox).await), expected, "{parent} {state}");
    }

    let tokens = JwtOptions::new(TokenKey::new([7; 32]).unwrap(), "t", "t").build();
    let rest = RestApi::new(gateway.clone(), tokens).router();
    let request = Request::post("/api/v1/messages")
        .header("authorization", "Basic YWxpY2U6cmlnaHQ=")
        .header("content-type", "application/json")
        .header("traceparent", PARENT)
        .header("tracestate", "rojo=1");
    let request = request.body(Body::from(r#"{"to":"/user/bob","body":"x"}"#)).unwrap();
    assert_eq!(rest.oneshot(request).await.unwrap().status(), StatusCode::CREATED);
    assert_eq!(trace(&take(&bob, &mut inbox).await), sound);
}

/// Notes in which trace it is asked.
#[derive(Debug)]
struct Asked;

#[async_trait::async_trait]
impl Interceptor for Asked {
    async fn intercept(&self, _: &mut Draft<'_>) -> Result<(), RefusedError> {
        tracing::info!("asked");
        Ok(())
    }
}

/// The spans that there are, and those in which an event happened; enough of a subscriber for one thread.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    made: Vec<String>,
    entered: Vec<u64>,
    asked_in: Vec<String>,
}

impl Visit for State {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let name = field.name();
        self.made.last_mut().unwrap().push_str(&format!(" {name}={value:?}"));
    }
}

impl Subscriber for Spans {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("gateway_core") || metadata.target() == "trace"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut state = self.0.lock().unwrap();
        state.made.push(span.metadata().name().to_owned());
        span.record(&mut *state);
        Id::from_u64(state.made.len() as u64)
    }

    fn event(&self, event: &Event<'_>) {
        let mut state = self.0.lock().unwrap();
        if event.metadata().target() == "trace" {
            let span = state.entered.last().map(|id| state.made[*id as usize - 1].clone());
            state.asked_in.push(span.unwrap_or_default());
        }
    }

    fn enter(&self, span: &Id) {
        self.0.lock().unwrap().entered.push(span.into_u64());
    }

    fn exit(&self, _: &Id) {
        self.0.lock().unwrap().entered.pop();
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}
}

#[tokio::test]
async fn what_is_done_for_a_traced_message_is_in_its_span() {
    let spans = Spans::default();
    let _guard = tracing::subscriber::set_default(spans.clone());
    let gateway = populated(builder().open(true).interceptor(Arc::new(Asked))).await;
    let alice = connect(&gateway, "alice").await;
    let before = spans.0.lock().unwrap().asked_in.len();
    send_traced(&alice, "/user/bob", PARENT, "").await;
    send(&alice, "/user/bob", "not traced").await;
    let asked = spans.0.lock().unwrap().asked_in.split_off(before);
    let span = format!("send trace_id={TRACE:?} parent_id={:?}", "00f067aa0ba902b7");
    assert_eq!(asked, [span, String::new()]);
}
