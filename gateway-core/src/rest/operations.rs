//! What those who run a gateway look at: whether it lives, whether it is ready, and what it has done.

use std::fmt::Write as _;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use mq_bridge::Health;

use crate::gateway::Gateway;

/// How long the store may take to say that it works
const PATIENCE: Duration = Duration::from_secs(5);

/// `/healthz`, `/readyz` and `/metrics` of a gateway: routes of an axum router.
///
/// - `/healthz` answers 200 as long as the process answers at all;
/// - `/readyz` answers 200 where broker and store work and the gateway holds its lease and is not stopping, else 503, with a line for each;
/// - `/metrics` tells numbers of this node, in the text format of Prometheus.
///
/// They tell nothing of users, and are for everybody who reaches the port.
pub fn operations(gateway: Gateway) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(gateway)
}

/// What is wrong with broker and store; `None` for what works.
async fn faults(gateway: &Gateway) -> (Option<String>, Option<String>) {
    let broker = match gateway.broker().health() {
        Health::Up => None,
        Health::Degraded { reason } | Health::Down { reason } => Some(reason.to_string()),
        _ => Some("in an unknown state".to_owned()),
    };
    let store = match tokio::time::timeout(PATIENCE, gateway.store().health()).await {
        Ok(outcome) => outcome.err().map(|error| error.to_string()),
        Err(_) => Some("no answer in time".to_owned()),
    };
    (broker, store)
}

async fn ready(State(gateway): State<Gateway>) -> impl IntoResponse {
    let (broker, store) = faults(&gateway).await;
    let stopping = gateway.inner.stop.is_cancelled();
    let works = |fault: &Option<String>| if fault.is_none() { "ok" } else { "failing" };
    for (part, fault) in [("broker", &broker), ("store", &store)] {
        if let Some(fault) = fault {
            // Where it is, and why it fails, is for the log.
            tracing::warn!(part, fault, "not ready");
        }
    }
    let leased = gateway.holds_lease();
    let is_ready = broker.is_none() && store.is_none() && leased && !stopping;
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let gateway = match (stopping, leased) {
        (true, _) => "stopping",
        (false, true) => "ok",
        (false, false) => "without a lease",
    };
    let text = format!("gateway {gateway}\nbroker {}\nstore {}\n", works(&broker), works(&store));
    (status, text)
}

async fn metrics(State(gateway): State<Gateway>) -> impl IntoResponse {
    let (broker_fault, store_fault) = faults(&gateway).await;
    let broker = gateway.broker().metrics();
    let up = |fault: Option<String>| u64::from(fault.is_none());
    let mut text = String::with_capacity(4096);
    for (name, kind, help, value) in [
        (
            "im_sessions",
            "gauge",
            "Sessions that are signed in",
            gateway.inner.sessions.count() as u64,
        ),
        (
            "im_dropped_total",
            "counter",
            "Live messages dropped for slow subscribers",
            gateway.dropped(),
        ),
        (
            "im_broker_up",
            "gauge",
            "Whether the broker takes and delivers messages",
            up(broker_fault),
        ),
        ("im_store_up", "gauge", "Whether the store reads and writes", up(store_fault)),
        ("im_broker_published_total", "counter", "Messages taken by the broker", broker.published),
        (
            "im_broker_publish_failures_total",
            "counter",
            "Publishes that failed after they were taken",
            broker.publish_failures,
        ),
        ("im_broker_delivered_total", "counter", "Deliveries, repeats included", broker.delivered),
        (
            "im_broker_redelivered_total",
            "counter",
            "Deliveries that were repeats",
            broker.redelivered,
        ),
        ("im_broker_acked_total", "counter", "Deliveries acknowledged", broker.acked),
        ("im_broker_expired_total", "counter", "Messages expired before delivery", broker.expired),
        (
            "im_broker_dead_lettered_total",
            "counter",
            "Messages dead-lettered",
            broker.dead_lettered,
        ),
        (
            "im_broker_dropped_total",
            "counter",
            "Messages dropped for slow subscribers",
            broker.dropped,
        ),
        (
            "im_broker_pending_bytes",
            "gauge",
            "Octets taken and not yet confirmed",
            broker.pending_bytes,
        ),
        ("im_broker_stored_bytes", "gauge", "Octets kept in this process", broker.stored_bytes),
    ] {
        // Writing to a String does not fail.
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}
