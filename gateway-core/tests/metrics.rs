//! The numbers that a gateway tells.
#![cfg(feature = "rest")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::BTreeMap;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use common::*;
use gateway_core::{ConversationId, Gateway, Page, operations};
use stomp_ws::client::ConnectOptions;
use tower::ServiceExt as _;

/// The samples of `/metrics`, by name and labels; and the text.
async fn metrics(gateway: &Gateway) -> (BTreeMap<String, f64>, String) {
    let request = Request::get("/metrics").body(Body::empty()).unwrap();
    let answer = operations(gateway.clone()).oneshot(request).await.unwrap();
    let text = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    let samples = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}")))
    });
    (samples.collect(), text)
}

#[tokio::test]
async fn what_happens_is_counted_and_timed() {
    let gateway = populated(builder().open(true)).await;
    let (alice, bob) = (connect(&gateway, "alice").await, connect(&gateway, "bob").await);
    let options = ConnectOptions::new().credentials("carol", "wrong");
    assert!(try_connect(&gateway, options).await.is_err());
    let mut inbox = inbox(&bob).await;
    for _ in 0..3 {
        send(&alice, "/user/bob", "hello").await;
        take(&bob, &mut inbox).await;
    }
    let (mut topic, _) = bob.subscribe("/topic/x").confirmed().await.unwrap();
    send(&alice, "/topic/x", "live").await;
    topic.recv().await.unwrap();
    let page = Page::latest(10);
    let id = ConversationId::direct(&user("alice"), &user("bob"));
    gateway.history(&user("bob"), &id, page).await.unwrap();

    // What was counted last is told when the session waits again.
    let seen = async {
        loop {
            let (samples, _) = metrics(&gateway).await;
            if samples["im_frames_total{direction=\"out\",command=\"MESSAGE\"}"] >= 5.0
                && samples["im_connections"] <= 2.0
            {
                return samples;
            }
            tokio::task::yield_now().await;
        }
    };
    let samples = tokio::time::timeout(std::time::Duration::from_secs(30), seen).await.unwrap();
    for (name, value) in [
        ("im_sessions", 2.0),
        ("im_connections", 2.0),
        ("im_broker_up", 1.0),
        ("im_store_up", 1.0),
        ("im_sign_ins_total{outcome=\"accepted\"}", 2.0),
        ("im_sign_ins_total{outcome=\"refused\"}", 1.0),
        ("im_frames_total{direction=\"in\",command=\"CONNECT\"}", 3.0),
        ("im_frames_total{direction=\"in\",command=\"SEND\"}", 4.0),
        ("im_frames_total{direction=\"in\",command=\"SUBSCRIBE\"}", 2.0),
        ("im_frames_total{direction=\"in\",command=\"ACK\"}", 3.0),
        ("im_frames_total{direction=\"out\",command=\"ERROR\"}", 1.0),
        // Of four SENDs, two SUBSCRIBEs, three ACKs; the news of a new group is a MESSAGE as well.
        ("im_frames_total{direction=\"out\",command=\"RECEIPT\"}", 9.0),
        ("im_frames_total{direction=\"out\",command=\"MESSAGE\"}", 5.0),
        ("im_dropped_total{reason=\"subscriber\"}", 0.0),
        ("im_receipt_seconds_count", 4.0),
        ("im_receipt_seconds_bucket{le=\"+Inf\"}", 4.0),
        // The first of the session; the others are not timed.
        ("im_delivery_seconds_count", 1.0),
        // The news of the group, and three messages that waited for one another.
        ("im_store_append_seconds_count", 4.0),
        ("im_broker_confirm_seconds_count", 4.0),
        ("im_store_read_seconds_count", 1.0),
        ("im_connections_refused_total{limit=\"total\"}", 0.0),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name} in {samples:#?}");
    }
    let buckets = samples.iter().filter(|(name, _)| name.starts_with("im_receipt_seconds_bucket"));
    assert_eq!(buckets.count(), 15);
}

/// A number that nobody explains helps nobody.
#[tokio::test]
async fn every_metric_is_in_the_documentation() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operate.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let (_, text) = metrics(&gateway().await).await;
    let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let missing: Vec<_> = names.filter(|name| !docs.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/operate.md does not tell of {missing:?}");
}
