//! Two servers over one message queue: what is sent on one arrives on the other, and either may die.
//! So may the queue, for a while.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::server::Server;
use common::wire::Wire;
use mq_bridge::testkit::servers::{
    ActiveMq, Nats, NatsVersion, RabbitMq, Redis, ServerError, TestServer,
};
use tokio::runtime::Runtime;

/// A real broker and two servers over it.
struct Cluster {
    runtime: Runtime,
    broker: Box<dyn TestServer>,
    a: Server,
    b: Server,
}

impl Cluster {
    fn start<B: TestServer + 'static>(
        broker: impl Future<Output = Result<B, ServerError>>,
        url: impl Fn(&B) -> String,
    ) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let broker = runtime.block_on(broker).expect("the broker starts");
        let url = url(&broker);
        let node = || Server::start(&["--open", "--broker", &url]);
        Self { a: node(), b: node(), runtime, broker: Box::new(broker) }
    }
}

fn queue_consumer(server: &Server, user: &str) -> Wire {
    let mut wire = Wire::sign_in(server, user, "desk");
    wire.subscribe("work", "/queue/work", &[("ack", "client-individual"), ("prefetch-count", "1")]);
    wire
}

fn a_queue_is_shared(cluster: &mut Cluster) {
    let mut consumers = [queue_consumer(&cluster.a, "bob"), queue_consumer(&cluster.b, "carol")];
    let mut sender = Wire::sign_in(&cluster.a, "alice", "desk");
    for number in 0..10 {
        sender.send("/queue/work", &number.to_string(), &[]);
    }
    // Each has one unacknowledged; in turn they get the rest.
    let mut seen = Vec::new();
    for turn in 0..10 {
        let consumer = &mut consumers[turn % 2];
        let message = consumer.message();
        consumer.ack(&message);
        seen.push(message.text().to_owned());
    }
    seen.sort();
    let expected: Vec<String> = (0..10).map(|number| number.to_string()).collect();
    assert_eq!(seen, expected, "each message goes to one of them");
}

fn a_topic_reaches_the_other_node(cluster: &mut Cluster) {
    let mut here = Wire::sign_in(&cluster.a, "bob", "desk");
    let mut there = Wire::sign_in(&cluster.b, "carol", "desk");
    here.subscribe("news", "/topic/news.*", &[]);
    there.subscribe("news", "/topic/news.#", &[]);
    let mut sender = Wire::sign_in(&cluster.a, "alice", "desk");
    for number in 0..5 {
        sender.send("/topic/news.local", &number.to_string(), &[("x-mark", "kept")]);
    }
    for subscriber in [&mut here, &mut there] {
        for number in 0..5 {
            let message = subscriber.message();
            assert_eq!(message.text(), number.to_string());
            assert_eq!(message.header("destination"), "/topic/news.local");
            assert_eq!(message.header("x-mark"), "kept");
        }
    }
}

fn durable(server: &Server) -> Wire {
    let mut wire = Wire::sign_in(server, "bob", "desk");
    wire.subscribe("alerts", "/topic/alerts", &[("durable", "true"), ("ack", "client-individual")]);
    wire
}

fn a_durable_subscription_moves_to_the_other_node_when_its_own_dies(cluster: &mut Cluster) {
    let mut bob = durable(&cluster.a);
    let mut sender = Wire::sign_in(&cluster.b, "alice", "desk");
    sender.send("/topic/alerts", "read and acknowledged", &[]);
    sender.send("/topic/alerts", "read", &[]);
    let message = bob.message();
    bob.ack(&message);
    assert_eq!(bob.message().text(), "read");
    cluster.a.kill();
    sender.send("/topic/alerts", "sent while the node is dead", &[]);
    let mut bob = durable(&cluster.b);
    // What the dead node held may come after what is new: some brokers wait for its lease to end.
    let mut seen = Vec::new();
    for _ in 0..2 {
        let message = bob.message();
        bob.ack(&message);
        // What was sent after the death may be marked too: a broker that had not noticed yet gave it to the dead.
        if message.text() == "read" {
            assert_eq!(message.header("redelivered"), "true");
        }
        seen.push(message.text().to_owned());
    }
    seen.sort();
    assert_eq!(seen, ["read", "sent while the node is dead"]);
    // The node comes back and finds nothing left.
    cluster.a.start_again();
    drop(bob);
    let mut bob = durable(&cluster.a);
    sender.send("/topic/alerts", "to the node that is back", &[]);
    assert_eq!(bob.message().text(), "to the node that is back");
}

fn what_a_dead_node_held_goes_to_the_other(cluster: &mut Cluster) {
    let mut doomed = queue_consumer(&cluster.a, "bob");
    let mut sender = Wire::sign_in(&cluster.b, "alice", "desk");
    sender.send("/queue/work", "held by the dead", &[]);
    assert_eq!(doomed.message().text(), "held by the dead");
    let mut heir = queue_consumer(&cluster.b, "carol");
    cluster.a.kill();
    let again = heir.message();
    assert_eq!((again.text(), again.header("redelivered")), ("held by the dead", "true"));
    heir.ack(&again);
}

fn both_outlive_a_restart_of_the_broker(cluster: &mut Cluster) {
    let mut bob = durable(&cluster.b);
    let mut sender = Wire::sign_in(&cluster.a, "alice", "desk");
    sender.send("/topic/alerts", "before", &[]);
    let message = bob.message();
    assert_eq!(message.text(), "before");
    bob.ack(&message);
    let Cluster { runtime, broker, .. } = &mut *cluster;
    runtime.block_on(broker.kill()).expect("kill");
    runtime.block_on(broker.start()).expect("start");
    // The nodes find back by themselves; until then a sender is told to try again.
    while Wire::sign_in(&cluster.a, "alice", "desk")
        .try_call("SEND", &[("destination", "/topic/alerts")], "after")
        .is_err()
    {}
    loop {
        let message = bob.message();
        bob.ack(&message);
        if message.text() == "after" {
            break;
        }
    }
}

macro_rules! over {
    ($module:ident, $needs:literal, $start:expr, $url:expr) => {
        mod $module {
            use super::*;

            over!(@ $needs, $start, $url,
                a_queue_is_shared,
                a_topic_reaches_the_other_node,
                a_durable_subscription_moves_to_the_other_node_when_its_own_dies,
                what_a_dead_node_held_goes_to_the_other,
                both_outlive_a_restart_of_the_broker
            );
        }
    };
    (@ $needs:literal, $start:expr, $url:expr, $($case:ident),*) => {
        $(
            #[test]
            #[ignore = $needs]
            fn $case() {
                super::$case(&mut Cluster::start($start, $url));
            }
        )*
    };
}

over!(rabbitmq, "needs rabbitmq-server", RabbitMq::start(), RabbitMq::amqp_url);
over!(nats, "needs nats-server", Nats::start(NatsVersion::Debian), Nats::url);
over!(redis, "needs redis-server", Redis::start(), Redis::url);
over!(activemq, "needs activemq", ActiveMq::start(), |server: &ActiveMq| format!(
    "stomp://{}",
    server.stomp_addr()
));
