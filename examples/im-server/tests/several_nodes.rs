//! Servers over one database and one message queue serve the same people: whatever is done on one is seen on the others,
//! in order and once, while nodes come, go and are killed.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::PATIENCE;
use common::http::request;
use common::load::{Got, Identity, Random, SetOnDrop, until};
use common::server::Server;
use common::wire::{Lost, Wire};
use mq_bridge::testkit::servers::{
    Nats, NatsVersion, Postgres, RabbitMq, Redis, ServerError, TestServer,
};
use serde_json::json;
use tokio::runtime::Runtime;

/// Real servers for everything that the nodes share.
struct Shared {
    _runtime: Runtime,
    _broker: Box<dyn TestServer>,
    _database: Postgres,
    arguments: Vec<String>,
}

impl Shared {
    fn start<B: TestServer + 'static>(
        broker: impl Future<Output = Result<B, ServerError>>,
        url: impl Fn(&B) -> String,
    ) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let broker = runtime.block_on(broker).expect("the broker starts");
        let database = runtime.block_on(Postgres::start()).expect("the database starts");
        let arguments = ["--broker".to_owned(), url(&broker), "--store".to_owned(), database.url()];
        let arguments = arguments.to_vec();
        Self { _runtime: runtime, _broker: Box::new(broker), _database: database, arguments }
    }

    fn node(&self) -> Server {
        Server::start(&self.arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

fn members(server: &Server, method: &str, user: &str) {
    let token = server.token("alice");
    let path = format!("/groups/ops/members/{user}");
    let (status, answer) = server.api(&token, method, &path, None);
    assert_eq!(status, 204, "{answer}");
}

fn unread(server: &Server, user: &str) -> u64 {
    let (_, answer) = server.api(&server.token(user), "GET", "/conversations", None);
    answer["conversations"][0]["unread"].as_u64().expect("a number")
}

fn what_is_done_on_one_node_is_seen_on_the_other(shared: &Shared) {
    let (a, b) = (shared.node(), shared.node());
    a.create_group("alice", "ops", &["bob"]);
    let mut bob = Wire::inbox(&b, "bob", "phone");
    let mut laptop = Wire::inbox(&a, "bob", "laptop");
    let mut alice = Wire::inbox(&a, "alice", "desk");
    for device in [&mut bob, &mut laptop] {
        let created = device.message();
        assert_eq!(created.header("kind"), "member");
        device.ack(&created);
    }

    // P4: the key counts once, wherever it is used again.
    let key = [("idempotency-key", "same")];
    let first = alice.send("/group/ops", "hello", &key);
    let mut elsewhere = Wire::sign_in(&b, "alice", "other");
    let again = elsewhere.send("/group/ops", "hello", &key);
    assert_eq!(again.header("message-id"), first.header("message-id"));
    assert_eq!((again.header("duplicate"), again.seq()), ("true", first.seq()));
    for device in [&mut bob, &mut laptop] {
        let message = device.message();
        assert_eq!((message.text(), message.seq()), ("hello", first.seq()));
        device.ack(&message);
    }
    assert_eq!((unread(&a, "bob"), unread(&b, "bob")), (1, 1));

    // Signals.
    let up_to = first.seq().to_string();
    bob.send("/group/ops", "", &[("kind", "read"), ("up-to", &up_to)]);
    let read = alice.message();
    assert_eq!((read.header("kind"), read.header("up-to")), ("read", up_to.as_str()));
    assert_eq!(laptop.message().header("kind"), "read", "to his own devices too");
    assert_eq!((unread(&a, "bob"), unread(&b, "bob")), (0, 0));
    bob.send("/group/ops", "", &[("kind", "typing")]);
    assert_eq!(alice.message().header("kind"), "typing");

    // A live timeline, and its end when its reader is removed on the other node.
    bob.subscribe("ops", "/group/ops", &[]);
    alice.send("/group/ops", "live", &[]);
    assert_eq!(bob.message_of("ops").text(), "live");
    assert_eq!(bob.message_of("inbox").text(), "live");
    members(&a, "DELETE", "bob");
    assert_eq!(bob.message_of("ops").header("kind"), "member");
    assert_eq!(bob.message_of("inbox").header("kind"), "member");
    // P8: what is sent afterwards, on whichever node, is not for who was removed.
    elsewhere.send("/group/ops", "secret", &[]);
    alice.send("/group/ops", "secret", &[]);
    assert_eq!(alice.message().header("kind"), "member");
    let late: Vec<_> = bob.try_messages().iter().map(|frame| frame.text().to_owned()).collect();
    assert!(!late.iter().any(|text| text == "secret"), "{late:?}");
    let error = Wire::sign_in(&b, "bob", "phone").try_call(
        "SEND",
        &[("destination", "/user/alice")],
        "direct messages go on",
    );
    assert!(error.is_ok());

    // A newer session of the device takes over from the one on the other node.
    let mut newer = Wire::inbox(&a, "bob", "phone");
    let error = bob.error_and_close();
    assert_eq!(error.header("message"), "device taken over");
    elsewhere.send("/user/bob", "to the newer session", &[]);
    while newer.message().text() != "to the newer session" {}
}

fn presence(wire: &mut Wire) -> String {
    wire.message_of("presence").header("presence").to_owned()
}

fn people_are_there_while_any_node_has_a_session(shared: &Shared) {
    let (mut a, b) = (shared.node(), shared.node());
    let mut alice = Wire::sign_in(&b, "alice", "desk");
    alice.send("/user/bob", "now we share a conversation", &[]);
    alice.subscribe("presence", "/presence/bob", &[]);
    assert_eq!(presence(&mut alice), "offline");
    let mut here = Wire::sign_in(&b, "bob", "laptop");
    assert_eq!(presence(&mut alice), "online");
    let mut there = Wire::sign_in(&a, "bob", "phone");
    // Away is who is so on both.
    for session in [&mut there, &mut here] {
        session.send("/session/presence", "away", &[]);
    }
    assert_eq!(presence(&mut alice), "away");
    let token = a.token("alice");
    let (_, bob) = a.api(&token, "GET", "/presence/bob", None);
    assert_eq!(bob["presence"], json!("away"), "{bob}");
    there.send("/session/presence", "online", &[]);
    assert_eq!(presence(&mut alice), "online");
    // On both; one is not enough to be gone.
    drop(here);
    let mut watcher = Wire::sign_in(&a, "alice", "phone");
    watcher.subscribe("presence", "/presence/bob", &[]);
    assert_eq!(presence(&mut watcher), "online");
    let mut third = Wire::sign_in(&b, "alice", "pad");
    third.subscribe("presence", "/presence/bob", &[]);
    assert_eq!(presence(&mut third), "online", "seen from the node that he is not on");
    let token = b.token("alice");
    let (_, list) = b.api(&token, "GET", "/conversations", None);
    let members = list["conversations"][0]["members"].as_array().expect("members").clone();
    assert!(members.iter().all(|member| member["online"] == json!(true)), "{members:?}");
    // The node dies with its sessions: so do they, once its lease is over.
    a.kill();
    drop(there);
    assert_eq!(presence(&mut alice), "offline");
    assert_eq!(presence(&mut third), "offline");
    a.start_again();
    let _back = Wire::sign_in(&a, "bob", "phone");
    assert_eq!(presence(&mut alice), "online");
}

fn who_drains_hands_over_at_once(shared: &Shared) {
    let (mut a, b) = (shared.node(), shared.node());
    let mut bob = Wire::inbox(&b, "bob", "phone");
    let mut alice = Wire::sign_in(&a, "alice", "desk");
    for number in 0..20 {
        alice.send("/user/bob", &number.to_string(), &[]);
    }
    let status = a.terminate();
    assert!(status.success(), "{status}");
    let mut alice = Wire::sign_in(&b, "alice", "desk");
    alice.send("/user/bob", "last", &[]);
    let mut texts = Vec::new();
    while texts.last().is_none_or(|text| text != "last") {
        let message = bob.message();
        bob.ack(&message);
        texts.push(message.text().to_owned());
    }
    let expected = (0..20).map(|number: u32| number.to_string()).chain(["last".to_owned()]);
    assert!(texts.iter().cloned().eq(expected), "{texts:?}");
}

/// It finds that its lease is over, publishes nothing of before, and joins the others again.
fn a_node_that_stood_still_joins_again(shared: &Shared) {
    let (a, b) = (shared.node(), shared.node());
    let mut bob = Wire::inbox(&b, "bob", "phone");
    let mut alice = Wire::sign_in(&a, "alice", "desk");
    alice.send("/user/bob", "before", &[]);
    bob.subscribe("presence", "/presence/alice", &[]);
    assert_eq!(presence(&mut bob), "online");
    a.signal("STOP");
    assert_eq!(presence(&mut bob), "offline");
    let mut elsewhere = Wire::sign_in(&b, "alice", "pad");
    assert_eq!(presence(&mut bob), "online");
    elsewhere.send("/user/bob", "meanwhile", &[]);
    drop(elsewhere);
    assert_eq!(presence(&mut bob), "offline");
    a.signal("CONT");
    until("it has a lease again", || request(a.http, "GET", "/readyz", &[], b"").status == 200);
    // Her session was there all the time: it is told again.
    assert_eq!(presence(&mut bob), "online");
    let headers = [("destination", "/user/bob"), ("idempotency-key", "after")];
    while alice.try_call("SEND", &headers, "after").is_err() {
        alice = Wire::sign_in(&a, "alice", "desk");
    }
    let mut texts: Vec<String> = Vec::new();
    while texts.last().is_none_or(|text| text != "after") {
        let message = bob.message_of("inbox");
        bob.ack(&message);
        let text = message.text().to_owned();
        // Stopped before it had taken it out of the outbox: then the other node has sent it again, and says so.
        if !(texts.contains(&text) && message.find("redelivered") == Some("true")) {
            texts.push(text);
        }
    }
    assert_eq!(texts, ["before", "meanwhile", "after"]);
}

/// How many messages a writer has under way.
const WINDOW: usize = 16;

/// What all threads under load share.
struct Load {
    nodes: Vec<SocketAddr>,
    stop: AtomicBool,
    finished: AtomicBool,
    receipted: AtomicUsize,
}

/// Sends until told to stop, then until everything is receipted: on one node until that is lost, then on the next, with
/// the same keys. Gives what each key became.
fn write(load: &Load, user: &str, start: usize) -> BTreeMap<String, Identity> {
    let mut done = BTreeMap::new();
    let mut under_way: VecDeque<usize> = VecDeque::new();
    let mut next = 0;
    for turn in start.. {
        if load.stop.load(Ordering::Relaxed) && under_way.is_empty() {
            break;
        }
        let address = load.nodes[turn % load.nodes.len()];
        if write_session(load, address, user, &mut done, &mut under_way, &mut next).is_err() {
            thread::sleep(Duration::from_millis(20));
        }
    }
    done
}

fn write_session(
    load: &Load,
    address: SocketAddr,
    user: &str,
    done: &mut BTreeMap<String, Identity>,
    under_way: &mut VecDeque<usize>,
    next: &mut usize,
) -> Result<(), Lost> {
    let mut wire = Wire::try_sign_in(address, user, "writer")?;
    let key = |number: usize| format!("{user}-{number:06}");
    let send = |wire: &mut Wire, number: usize| {
        let (key, receipt) = (key(number), number.to_string());
        let headers =
            [("destination", "/group/ops"), ("idempotency-key", &key), ("receipt", &receipt)];
        wire.try_frame("SEND", &headers, &format!("body of {key}"))
    };
    for &number in under_way.iter() {
        send(&mut wire, number)?;
    }
    loop {
        while under_way.len() < WINDOW && !load.stop.load(Ordering::Relaxed) {
            send(&mut wire, *next)?;
            under_way.push_back(*next);
            *next += 1;
        }
        if under_way.is_empty() {
            return Ok(());
        }
        let frame = wire.poll(Instant::now() + PATIENCE)?.expect("a receipt in time");
        if frame.command == "ERROR" {
            assert_eq!(frame.find("retry"), Some("true"), "{frame:?}");
            return Err(Lost);
        }
        let number: usize = frame.header("receipt-id").parse().expect("a number");
        let position = under_way.iter().position(|&waiting| waiting == number).expect("under way");
        under_way.remove(position);
        let earlier = done.insert(key(number), Identity::of(&frame));
        assert_eq!(earlier, None, "a second receipt for {number}");
        load.receipted.fetch_add(1, Ordering::Relaxed);
    }
}

/// Reads its inbox, on one node after the other, until everything is there.
fn read(load: &Load, user: &str, device: &str, random: &mut Random, count: &AtomicUsize) -> Got {
    let mut got = Got::default();
    let nodes = load.nodes.len() as u64;
    while !load.finished.load(Ordering::Relaxed) {
        let node = usize::try_from(random.below(nodes)).expect("small");
        let address = load.nodes[node];
        if read_session(load, address, user, device, random, count, &mut got).is_err() {
            thread::sleep(Duration::from_millis(random.below(50)));
        }
    }
    got
}

fn read_session(
    load: &Load,
    address: SocketAddr,
    user: &str,
    device: &str,
    random: &mut Random,
    count: &AtomicUsize,
    got: &mut Got,
) -> Result<(), Lost> {
    let mut wire = Wire::try_sign_in(address, user, device)?;
    let inbox = [("id", "inbox"), ("destination", "/inbox"), ("ack", "client-individual")];
    wire.try_frame("SUBSCRIBE", &inbox, "")?;
    let mut unacknowledged: Vec<String> = Vec::new();
    loop {
        let frame = wire.poll(Instant::now() + Duration::from_millis(100))?;
        match &frame {
            Some(frame) if frame.command == "ERROR" => {
                // A busy node may come to the SUBSCRIBE that this device left there only now.
                let left_behind = frame.header("message") == "device taken over";
                assert!(left_behind || frame.find("retry") == Some("true"), "{frame:?}");
                return Err(Lost);
            }
            Some(frame) if frame.command == "MESSAGE" => {
                if frame.header("kind") == "message" {
                    got.take(device, frame);
                    count.store(got.messages.len(), Ordering::Relaxed);
                }
                unacknowledged.push(frame.header("ack").to_owned());
            }
            Some(other) => panic!("{other:?}"),
            None => {}
        }
        if unacknowledged.len() > 16 || frame.is_none() {
            while !unacknowledged.is_empty() {
                let chosen = random.below(unacknowledged.len() as u64);
                let ack = unacknowledged.swap_remove(usize::try_from(chosen).expect("small"));
                wire.try_frame("ACK", &[("id", &ack)], "")?;
            }
        }
        if load.finished.load(Ordering::Relaxed) || random.below(1000) == 0 {
            return Err(Lost);
        }
    }
}

/// P1 to P4: writers on all nodes in one group, devices that come back on other nodes, new devices in the middle of it;
/// nodes killed or ended at random and started again. Every device has what was receipted, in order, and repeats are marked.
fn nothing_is_lost_or_disordered_while_nodes_die(shared: &Shared, count: usize, deaths: usize) {
    let seed =
        std::env::var("KILL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
            std::time::UNIX_EPOCH.elapsed().expect("a clock").as_nanos() as u64 & 0xffff_ffff
        });
    println!("KILL_SEED={seed}");
    let mut random = Random::new(seed, 0);
    let mut nodes: Vec<Server> = (0..count).map(|_| shared.node()).collect();
    nodes[0].create_group("alice", "ops", &["bob", "carol", "mallory"]);
    let mut devices: Vec<(&str, String)> = [("bob", "phone"), ("carol", "desk"), ("alice", "pad")]
        .map(|(user, device)| (user, device.to_owned()))
        .to_vec();
    for (number, (user, device)) in devices.iter().enumerate() {
        drop(Wire::inbox(&nodes[number % count], user, device));
    }
    // Bob reads nothing: what is new of his gets all of it.
    devices.extend((0..deaths).map(|number| ("bob", format!("new-{number}"))));
    let load = Load {
        nodes: nodes.iter().map(|node| node.stomp).collect(),
        stop: AtomicBool::new(false),
        finished: AtomicBool::new(false),
        receipted: AtomicUsize::new(0),
    };
    let counts: Vec<AtomicUsize> = devices.iter().map(|_| AtomicUsize::new(0)).collect();
    let (sent, got) = thread::scope(|scope| {
        let load = &load;
        // A failed check in this thread or in another must end the others as well.
        let _end = SetOnDrop(&[&load.stop, &load.finished]);
        let writers: Vec<_> = ["alice", "carol", "mallory"]
            .into_iter()
            .enumerate()
            .map(|(number, user)| scope.spawn(move || write(load, user, number)))
            .collect();
        let mut readers = Vec::new();
        let reader = |number: usize| {
            let ((user, device), count) = (&devices[number], &counts[number]);
            let mut random = Random::new(seed, number as u64 + 1);
            scope.spawn(move || read(load, user, device, &mut random, count))
        };
        readers.extend((0..3).map(reader));
        for death in 0..deaths {
            let before = load.receipted.load(Ordering::Relaxed);
            until("messages flow", || load.receipted.load(Ordering::Relaxed) > before + 3 * WINDOW);
            readers.push(reader(3 + death));
            thread::sleep(Duration::from_millis(random.below(300)));
            let victim = usize::try_from(random.below(count as u64)).expect("small");
            match death % 3 {
                // Back at once, under its name; or later, when others may have taken over; or after a drain.
                0 => nodes[victim].kill(),
                1 => {
                    nodes[victim].kill();
                    let before = load.receipted.load(Ordering::Relaxed);
                    until("the others go on", || {
                        load.receipted.load(Ordering::Relaxed) > before + 3 * WINDOW
                    });
                }
                _ => assert!(nodes[victim].terminate().success()),
            }
            nodes[victim].start_again();
            println!("death {death}: {} receipted", load.receipted.load(Ordering::Relaxed));
        }
        load.stop.store(true, Ordering::Relaxed);
        let mut sent = BTreeMap::new();
        for writer in writers {
            sent.extend(writer.join().expect("a writer"));
        }
        until("every device has everything", || {
            readers.iter().any(thread::ScopedJoinHandle::is_finished)
                || counts.iter().all(|count| count.load(Ordering::Relaxed) >= sent.len())
        });
        load.finished.store(true, Ordering::Relaxed);
        let got: Vec<Got> =
            readers.into_iter().map(|reader| reader.join().expect("a device")).collect();
        (sent, got)
    });

    let seqs: BTreeSet<u64> = sent.values().map(|identity| identity.seq).collect();
    assert_eq!(seqs.len(), sent.len(), "every message has its own number");
    for ((_, device), got) in devices.iter().zip(&got) {
        let expected: BTreeSet<&String> = sent.keys().collect();
        let delivered: BTreeSet<&String> = got.messages.keys().collect();
        let lost: Vec<_> = expected.difference(&delivered).collect();
        let invented: Vec<_> = delivered.difference(&expected).collect();
        assert!(lost.is_empty() && invented.is_empty(), "{device}: -{lost:?} +{invented:?}");
        for (key, identity) in &got.messages {
            assert_eq!(identity, &sent[key], "{device}: {key} is not what its receipt said");
        }
        println!("{device}: {} messages, {} repeats", delivered.len(), got.repeats);
    }
}

macro_rules! over {
    ($module:ident, $needs:literal, $start:expr, $url:expr, $($case:ident $arguments:tt),*) => {
        mod $module {
            use super::*;

            $(
                #[test]
                #[ignore = $needs]
                fn $case() {
                    let shared = Shared::start($start, $url);
                    over!(@ shared, $case, $arguments);
                }
            )*
        }
    };
    (@ $shared:ident, $case:ident, ($($argument:expr),*)) => {
        super::$case(&$shared, $($argument),*)
    };
}

over!(
    redis,
    "needs redis-server and postgresql",
    Redis::start(),
    Redis::url,
    what_is_done_on_one_node_is_seen_on_the_other(),
    people_are_there_while_any_node_has_a_session(),
    who_drains_hands_over_at_once(),
    a_node_that_stood_still_joins_again(),
    nothing_is_lost_or_disordered_while_nodes_die(3, 9)
);
over!(
    nats,
    "needs nats-server and postgresql",
    Nats::start(NatsVersion::Debian),
    Nats::url,
    what_is_done_on_one_node_is_seen_on_the_other(),
    nothing_is_lost_or_disordered_while_nodes_die(2, 3)
);
over!(
    rabbitmq,
    "needs rabbitmq-server and postgresql",
    RabbitMq::start(),
    RabbitMq::amqp_url,
    what_is_done_on_one_node_is_seen_on_the_other()
);
