//! Old messages are forgotten by rules, and whoever comes back is told.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::{builder, connect, populated, send, user};
use gateway_core::{Clock, ConversationId, MemoryStore, Page, Retention, RetentionRules};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// P6: a resume from before what is left says so, with the first `seq` that it can give.
#[tokio::test]
async fn p6_a_resume_from_what_is_forgotten_says_so() {
    let clock = Clock::manual(1_767_225_600_000);
    let rules = RetentionRules::new()
        .rule("group:*", Retention::max_messages(3))
        .rule("direct:*", Retention::max_age(30 * DAY));
    let store = std::sync::Arc::new(MemoryStore::new().with_clock(clock.clone()));
    let builder = builder().store(store).clock(clock.clone()).retention(rules);
    let gateway = populated(builder).await;
    let alice = connect(&gateway, "alice").await;
    for number in 0..9 {
        send(&alice, "/group/ops", &number.to_string()).await;
        send(&alice, "/user/bob", &number.to_string()).await;
        clock.advance(5 * DAY);
    }
    // The group has a message about its making, too. Of nine, sent 45 to 5 days ago, six are 30 days old at most.
    assert_eq!(gateway.enforce_retention().await.unwrap(), 7 + 3);
    assert_eq!(gateway.enforce_retention().await.unwrap(), 0, "there is no more to do");
    let direct = ConversationId::new("direct:alice:bob").unwrap();
    let left = gateway.history(&user("bob"), &direct, Page::after(0, 99)).await.unwrap();
    assert_eq!((left.messages.len(), left.position.first_seq), (6, 4));

    let bob = connect(&gateway, "bob").await;
    let resume = async |after: &str| {
        let subscribe = bob.subscribe("/group/ops").header("after-seq", after);
        let (mut timeline, receipt) = subscribe.confirmed().await.unwrap();
        let first = timeline.recv().await.unwrap();
        let header = |name| receipt.header(name).map(|value| value.into_owned());
        let seq = first.header("seq").unwrap().into_owned();
        (header("recovered").unwrap(), header("first-seq"), seq)
    };
    assert_eq!(resume("2").await, ("false".to_owned(), Some("8".to_owned()), "8".to_owned()));
    assert_eq!(resume("7").await, ("true".to_owned(), None, "8".to_owned()));
    gateway.shutdown().await;
}
