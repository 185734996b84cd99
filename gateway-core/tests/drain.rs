//! How a gateway ends.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::time::Duration;

use common::*;
use gateway_core::Drain;
use stomp_ws::client::ConnectOptions;
use tokio::time::Instant;

const SESSIONS: usize = 300;
/// With 100 in a second.
const WINDOW: Duration = Duration::from_secs(3);

/// Sessions end one by one, and each works until its moment comes; nothing that was receipted is lost.
#[tokio::test(start_paused = true)]
async fn sessions_end_at_moments_of_their_own_and_work_until_then() {
    let drain = Drain::new(100, Duration::from_secs(60));
    let gateway = populated(builder().drain(drain)).await;
    let mut clients = Vec::new();
    for _ in 0..SESSIONS {
        clients.push(connect(&gateway, "alice").await);
    }
    let began = Instant::now();
    let ending = tokio::spawn({
        let gateway = gateway.clone();
        async move { gateway.drain().await }
    });
    let sessions = clients.into_iter().map(|client| {
        tokio::spawn(async move {
            let mut receipted = 0;
            while client.send("/user/bob", "still here").confirmed().await.is_ok() {
                receipted += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            client.closed().await;
            (Instant::now() - began, receipted)
        })
    });
    let sessions: Vec<_> = sessions.collect();
    tokio::task::yield_now().await;
    let late = ConnectOptions::new().credentials("bob", "right");
    assert!(try_connect(&gateway, late).await.is_err(), "a new session is taken");

    let mut seconds = [0_usize; 3];
    let mut receipted = 0;
    for session in sessions {
        let (ended, count) = session.await.unwrap();
        receipted += count;
        let second = usize::try_from(ended.as_secs()).unwrap().min(2);
        seconds[second] += 1;
    }
    ending.await.unwrap();
    // By chance alone none of the three would get more than twice its share.
    assert!(seconds.iter().all(|&count| count < 2 * SESSIONS / 3), "{seconds:?}");
    assert!(receipted > SESSIONS, "sessions did not work while they waited");
    assert!(Instant::now() - began < 2 * WINDOW);

    let messages = gateway_core::ConversationId::direct(&user("alice"), &user("bob"));
    let position = gateway.store().position(&messages).await.unwrap();
    assert_eq!(position.last_seq, receipted as u64);
    gateway.shutdown().await;
}

/// However many there are, the last one ends in time; and without a rate all end at once.
#[tokio::test(start_paused = true)]
async fn the_end_is_bounded() {
    for drain in [Drain::new(1, WINDOW), Drain::new(0, Duration::from_secs(60))] {
        let gateway = populated(builder().drain(drain)).await;
        let mut clients = Vec::new();
        for _ in 0..50 {
            clients.push(connect(&gateway, "alice").await);
        }
        let began = Instant::now();
        tokio::time::timeout(2 * WINDOW, gateway.shutdown()).await.expect("in time");
        let took = Instant::now() - began;
        assert!(took < if drain.per_second == 0 { WINDOW / 10 } else { 2 * WINDOW }, "{took:?}");
    }
}
