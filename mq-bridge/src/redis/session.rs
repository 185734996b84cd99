//! Signs of life: those that a link gives, and those that others fail to give.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::config::RedisConfig;
use super::connection::Connection;
use super::error::Fault;
use super::link::Shared;
use super::script::{CLEAR, RENEW, WAITING};
use super::value::{list, number, text};

/// How many sources are asked for at once.
const SOURCES: usize = 500;
const MIN_LEASE: Duration = Duration::from_millis(300);

pub(super) fn lease_millis(config: &RedisConfig) -> u64 {
    u64::try_from(config.lease.max(MIN_LEASE).as_millis()).unwrap_or(u64::MAX >> 16)
}

/// Renews the lease, or with 0 ends it, and gives back what those hold whose lease is over.
pub(super) async fn renew(
    control: &Connection,
    prefix: &str,
    session: &str,
    lease_millis: u64,
) -> Result<(), Fault> {
    let mut call = RENEW.call(prefix);
    call.arg(session).arg(lease_millis);
    loop {
        match number(&control.run(&call).await?) {
            0 => return Ok(()),
            more if more > 0 => {}
            _ if lease_millis == 0 => return Ok(()),
            // The others have what it held.
            _ => return Err(control.noted(Fault::Lost("the lease of the node is over".into()))),
        }
    }
}

/// Gives signs of life on every connection until one is lost.
pub(super) async fn keep_alive(shared: Arc<Shared>, publishing: Connection, lease_millis: u64) {
    let mut beats = interval(Duration::from_millis(lease_millis / 3));
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        let renewed = renew(&shared.control, &shared.prefix, &shared.session, lease_millis);
        let alive = tokio::join!(renewed, publishing.ping(), shared.listening.ping());
        for outcome in [alive.0, alive.1, alive.2] {
            match outcome {
                Ok(()) => {}
                Err(Fault::Lost(_)) => return,
                Err(fault) => {
                    let error = fault.into_error();
                    tracing::warn!(%error, "the server refuses a sign of life");
                }
            }
        }
    }
}

/// Wakes consumers now and then whose source has messages that came without a notice, and clears
/// what is left of deleted sources.
pub(super) async fn poll(shared: Arc<Shared>, every: Duration) {
    let mut rounds = interval(every.max(Duration::from_millis(10)));
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let clear = CLEAR.call(&shared.prefix);
    loop {
        rounds.tick().await;
        while shared.control.run(&clear).await.is_ok_and(|more| number(&more) == 1) {}
        for sources in shared.consumers.sources().chunks(SOURCES) {
            let mut call = WAITING.call(&shared.prefix);
            call.arg(sources);
            match shared.control.run(&call).await {
                Ok(waiting) => {
                    for source in list(waiting).into_iter().map(text) {
                        if let Some(watched) = shared.consumers.get(&source) {
                            watched.wake();
                        }
                    }
                }
                Err(Fault::Lost(_)) => return,
                Err(_) => break,
            }
        }
    }
}
