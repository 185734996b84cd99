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
use crate::hub::DropReason;
use crate::metrics::{BOUNDS, COMMANDS, Histogram};

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
    let counts = &gateway.inner.metrics;
    let mut text = String::with_capacity(8192);
    for (name, kind, help, value) in [
        (
            "im_sessions",
            "gauge",
            "Sessions that are signed in",
            gateway.inner.sessions.count() as u64,
        ),
        ("im_connections", "gauge", "Connections, signed in or not", counts.connections.get()),
        (
            "im_expired_total",
            "counter",
            "Messages that had expired when they were about to be sent",
            counts.expired.get(),
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
    labelled(&mut text, &gateway);
    for (name, help, histogram) in [
        (
            "im_receipt_seconds",
            "From a SEND that wants a receipt to its RECEIPT",
            &counts.receipt_time,
        ),
        (
            "im_delivery_seconds",
            "From the timestamp of a message to its MESSAGE, for one of sixteen of each session",
            &counts.delivery_time,
        ),
        (
            "im_store_append_seconds",
            "The storing of a batch of messages, in one transaction",
            &counts.append_time,
        ),
        ("im_store_read_seconds", "The reading of a page of history", &counts.read_time),
        (
            "im_broker_confirm_seconds",
            "From the publishing of a batch of stored messages to its confirmation",
            &counts.confirm_time,
        ),
    ] {
        timed(&mut text, name, help, histogram);
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

/// The counters that have labels.
fn labelled(text: &mut String, gateway: &Gateway) {
    let (counts, drops) = (&gateway.inner.metrics, &gateway.inner.drops);
    let received = COMMANDS.iter().zip(&counts.received);
    let received =
        received.map(|(command, counter)| (format!("in\",command=\"{command}"), counter));
    let sent =
        [("MESSAGE", &counts.messages), ("RECEIPT", &counts.receipts), ("ERROR", &counts.errors)];
    let sent = sent.map(|(command, counter)| (format!("out\",command=\"{command}"), counter));
    let frames: Vec<_> = received.chain(sent).collect();
    let sign_ins = [("accepted", &counts.accepted), ("refused", &counts.refused)];
    let sign_ins = sign_ins.map(|(outcome, counter)| (outcome.to_owned(), counter));
    let dropped = DropReason::ALL.map(|reason| {
        let name = match reason {
            DropReason::Subscriber => "subscriber",
            DropReason::Node => "node",
            DropReason::Unacknowledged => "unacknowledged",
        };
        (name.to_owned(), drops.of(reason))
    });
    let connections = &gateway.inner.connections;
    let refused = [("total", &connections.over_total), ("address", &connections.over_address)];
    let refused = refused.map(|(limit, counter)| (limit.to_owned(), counter));
    for (name, help, label, counters) in [
        ("im_frames_total", "STOMP frames, but for heart-beats", "direction", frames.as_slice()),
        ("im_sign_ins_total", "CONNECTs", "outcome", &sign_ins),
        ("im_dropped_total", "Live messages dropped for slow subscribers", "reason", &dropped),
        ("im_connections_refused_total", "Connections there was no place for", "limit", &refused),
    ] {
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} counter\n");
        for (value, counter) in counters {
            let _ = writeln!(text, "{name}{{{label}=\"{value}\"}} {}", counter.get());
        }
    }
}

fn timed(text: &mut String, name: &str, help: &str, histogram: &Histogram) {
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} histogram\n");
    let mut count = 0;
    let bounds = BOUNDS.iter().map(|micros| Duration::from_micros(*micros).as_secs_f64());
    for (bound, observed) in bounds.chain([f64::INFINITY]).zip(histogram.buckets()) {
        count += observed;
        let bound = if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() };
        let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {count}");
    }
    let sum = histogram.sum().as_secs_f64();
    let _ = write!(text, "{name}_sum {sum}\n{name}_count {count}\n");
}
