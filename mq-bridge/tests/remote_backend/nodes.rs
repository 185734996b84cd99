//! What two nodes over one server do, whatever the server.

use mq_bridge::{
    Broker, Declaration, EndReason, Message, Publish, Source, SubscribeOptions, Target,
};

use super::proxy::{Proxy, Way};
use super::steps::{confirmed, consume, ended, send, send_topic, take, texts, until};

pub(crate) fn takeover() -> SubscribeOptions {
    SubscribeOptions::new().with_takeover(true)
}

pub(crate) async fn a_topic_reaches_both_nodes_and_each_subscriber_once(
    a: &dyn Broker,
    b: &dyn Broker,
) {
    let mut subscribers = Vec::new();
    for broker in [a, b] {
        for pattern in ["t.x", "t.*", "t.#", "#.x"] {
            let source = Source::topic(pattern);
            subscribers.push(broker.subscribe(source, SubscribeOptions::new()).await.unwrap());
        }
    }
    let targets: Vec<_> = ["t.x", "t.y", "t.z.x"].into_iter().map(Target::topic).collect();
    for text in ["first", "second"] {
        let publish = Publish::new(targets.clone(), Message::new(text));
        confirmed(a.publish(publish)).await.unwrap();
    }
    send_topic(b, "t.x", "last").await;
    for subscriber in &mut subscribers {
        let deliveries = take(subscriber, 3).await;
        assert_eq!(texts(&deliveries), ["first", "second", "last"]);
        assert!(deliveries.iter().all(|one| one.target == Target::topic("t.x")));
    }
}

/// `a` reaches the server through the proxy.
pub(crate) async fn who_was_cut_off_does_not_take_back_what_was_taken_over(
    a: &dyn Broker,
    b: &dyn Broker,
    proxy: &Proxy,
) {
    a.declare(&Declaration::durable("d", ["t"])).await.unwrap();
    a.declare(&Declaration::queue("q")).await.unwrap();
    let mut older = a.subscribe(Source::durable("d"), takeover()).await.unwrap();
    let mut competing = consume(a, Source::queue("q"), 10).await;
    proxy.set(Way::Cut);
    let mut newer = b.subscribe(Source::durable("d"), takeover()).await.unwrap();
    until("the older node knows", || async { !a.health().is_up() }).await;
    proxy.set(Way::Open);
    ended(&mut older).await;
    assert_eq!(older.end_reason(), Some(EndReason::TakenOver));
    send_topic(b, "t", "for the newer").await;
    assert_eq!(texts(&take(&mut newer, 1).await), ["for the newer"]);
    // What nobody took over goes on.
    send(b, "q", &["for the older"]).await;
    assert_eq!(texts(&take(&mut competing, 1).await), ["for the older"]);
}
