//! The promises as a model: whatever people do, in whatever order, and whenever the gateway is killed in between, every
//! device gets what it should, in order and once, and markers and histories are what they should be.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use common::{Trusting, header, user};
use gateway_core::{
    ConversationId, Destination, Directory, Gateway, GroupName, MemoryDirectory, MemoryStore,
    MessageKind, MessageStore, Page, SendReceipt, SendRequest, Sent, UserName,
};
use mq_bridge::{Broker, Memory};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use stomp_codec::server::AckMode;
use stomp_codec::view::Message;
use stomp_ws::client::{Client, ConnectOptions, Subscription};
use stomp_ws::{Transport, TransportConfig};
use tokio::runtime::{Builder, Runtime};

const PATIENCE: Duration = Duration::from_secs(60);
const PEOPLE: [&str; 3] = ["alice", "bob", "carol"];
const DEVICES: [&str; 2] = ["phone", "desk"];
/// Alice's group; the others come and go.
const GROUP: &str = "ops";

#[derive(Clone, Debug)]
enum Step {
    /// To another person, or to the group.
    Send {
        from: usize,
        to: Option<usize>,
    },
    /// The gateway is killed while it is sent, after so many turns; then it is sent again.
    SendInto {
        from: usize,
        to: Option<usize>,
        turns: usize,
    },
    /// The author corrects what he said last.
    Edit {
        from: usize,
        to: Option<usize>,
    },
    Read {
        who: usize,
        of: Option<usize>,
        percent: u64,
    },
    Join {
        who: usize,
    },
    Leave {
        who: usize,
        kicked: bool,
    },
    Connect {
        who: usize,
        device: usize,
    },
    /// Takes some of what waits, and acknowledges it or not.
    Take {
        who: usize,
        device: usize,
        count: usize,
        ack: bool,
    },
    Disconnect {
        who: usize,
        device: usize,
    },
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let who = || 0..PEOPLE.len();
    let to = || prop::option::of(0..PEOPLE.len());
    let device = || 0..DEVICES.len();
    prop_oneof![
        8 => (who(), to()).prop_map(|(from, to)| Step::Send { from, to }),
        1 => (who(), to(), 0..40usize).prop_map(|(from, to, turns)| Step::SendInto { from, to, turns }),
        1 => (who(), to()).prop_map(|(from, to)| Step::Edit { from, to }),
        2 => (who(), to(), 0..=100u64).prop_map(|(who, of, percent)| Step::Read { who, of, percent }),
        1 => who().prop_map(|who| Step::Join { who }),
        1 => (who(), any::<bool>()).prop_map(|(who, kicked)| Step::Leave { who, kicked }),
        4 => (who(), device()).prop_map(|(who, device)| Step::Connect { who, device }),
        5 => (who(), device(), 1..6usize, any::<bool>())
            .prop_map(|(who, device, count, ack)| Step::Take { who, device, count, ack }),
        2 => (who(), device()).prop_map(|(who, device)| Step::Disconnect { who, device }),
        1 => Just(Step::Crash),
    ]
}

/// What is kept outside of the gateway.
#[derive(Clone)]
struct Kept {
    store: Arc<dyn MessageStore>,
    directory: Arc<dyn Directory>,
    broker: Arc<dyn Broker>,
}

/// A gateway in a runtime of its own, which is killed with all its tasks.
struct Running {
    gateway: Gateway,
    runtime: Runtime,
}

impl Running {
    fn start(kept: &Kept) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let _inside = runtime.enter();
        let gateway = Gateway::builder()
            .authenticator(Arc::new(Trusting))
            .broker(Arc::clone(&kept.broker))
            .store(Arc::clone(&kept.store))
            .directory(Arc::clone(&kept.directory))
            .build()
            .unwrap();
        drop(_inside);
        Self { gateway, runtime }
    }

    async fn kill(self) {
        let Self { gateway, runtime } = self;
        tokio::task::spawn_blocking(|| runtime.shutdown_timeout(PATIENCE)).await.unwrap();
        drop(gateway);
    }

    async fn connect(&self, who: &str, device: &str) -> (Client, Subscription) {
        let (near, far) = tokio::io::duplex(64 * 1024);
        {
            let _inside = self.runtime.enter();
            self.gateway.spawn(Transport::stream(far, TransportConfig::DEFAULT), None);
        }
        let options = ConnectOptions::new().credentials(who, "right").header("device", device);
        let near = Transport::stream(near, TransportConfig::DEFAULT);
        let client = Client::over(near, "test", options).await.unwrap();
        let inbox = client.subscribe("/inbox").ack(AckMode::ClientIndividual).confirmed();
        let inbox = inbox.await.unwrap().0;
        (client, inbox)
    }
}

/// A message as the model has it.
#[derive(Clone, Debug)]
struct Said {
    id: String,
    from: usize,
    counts: bool,
    kind: MessageKind,
}

#[derive(Default)]
struct Talk {
    said: Vec<Said>,
    read: BTreeMap<usize, usize>,
}

/// What a device is to get, and has got.
#[derive(Default)]
struct Device {
    wanted: BTreeSet<(String, u64)>,
    got: BTreeSet<(String, u64)>,
    last: BTreeMap<String, u64>,
    session: Option<(Client, Subscription)>,
    /// Where its session is.
    node: usize,
}

struct World {
    /// What each node has of what is kept.
    kept: Vec<Kept>,
    running: Vec<Option<Running>>,
    /// Whose turn it is.
    turn: usize,
    talks: BTreeMap<String, Talk>,
    members: BTreeSet<usize>,
    devices: BTreeMap<(usize, usize), Device>,
    sent: usize,
}

fn name(who: usize) -> UserName {
    user(PEOPLE[who])
}

fn group() -> GroupName {
    GroupName::new(GROUP).unwrap()
}

fn group_id() -> String {
    ConversationId::group(&group()).to_string()
}

impl World {
    async fn new(kept: Vec<Kept>) -> Self {
        let running: Vec<_> = kept.iter().map(|kept| Some(Running::start(kept))).collect();
        let first = &running[0].as_ref().unwrap().gateway;
        for person in PEOPLE {
            first.create_user(&user(person), None).await.unwrap();
        }
        first.create_user(&user("dave"), None).await.unwrap();
        first.create_group(&name(0), &group(), &[name(1), name(2)]).await.unwrap();
        let mut world = Self {
            kept,
            running,
            turn: 0,
            talks: BTreeMap::new(),
            members: (0..PEOPLE.len()).collect(),
            devices: BTreeMap::new(),
            sent: 0,
        };
        world.heard(&group_id(), 0, MessageKind::Member, String::new(), &[]);
        world
    }

    fn node(&self) -> &Running {
        self.running[self.turn].as_ref().unwrap()
    }

    fn gateway(&self) -> &Gateway {
        &self.node().gateway
    }

    /// The conversation's id and destination, if the person may speak there.
    fn place(&self, from: usize, to: Option<usize>) -> Option<(String, Destination, Vec<usize>)> {
        let Some(to) = to else {
            let people = self.members.iter().copied().collect();
            let destination = Destination::Group(group());
            return self.members.contains(&from).then(|| (group_id(), destination, people));
        };
        let id = ConversationId::direct(&name(from), &name(to)).to_string();
        (from != to).then(|| (id, Destination::User(name(to)), vec![from, to]))
    }

    /// Notes a message, for all who get it.
    fn heard(&mut self, id: &str, from: usize, kind: MessageKind, key: String, people: &[usize]) {
        let talk = self.talks.entry(id.to_owned()).or_default();
        talk.said.push(Said { id: key, from, counts: kind == MessageKind::Message, kind });
        let seq = talk.said.len();
        talk.read.insert(from, seq);
        for ((who, _), device) in &mut self.devices {
            if people.contains(who) {
                device.wanted.insert((id.to_owned(), seq as u64));
            }
        }
    }

    fn request(
        &mut self,
        from: usize,
        destination: Destination,
        kind: MessageKind,
        of: Option<&str>,
    ) -> SendRequest {
        self.sent += 1;
        let key = format!("key {}", self.sent);
        let mut request = SendRequest::new(name(from), destination, key.clone())
            .with_idempotency_key(&key)
            .unwrap()
            .with_kind(kind.as_str(), None)
            .unwrap();
        if let Some(of) = of {
            request = request.with_header("in-reply-to", of).unwrap();
        }
        request
    }

    /// Sends until there is a receipt, which must say what the model says.
    async fn send(&mut self, request: SendRequest, id: &str, people: &[usize], kind: MessageKind) {
        let from = PEOPLE.iter().position(|person| user(person) == request.from).unwrap();
        let Ok(Sent::Stored(SendReceipt { seq, message_id, conversation, .. })) =
            self.gateway().send(request).await
        else {
            panic!("not sent");
        };
        self.heard(id, from, kind, message_id.to_string(), people);
        assert_eq!((conversation.as_str(), seq), (id, self.talks[id].said.len() as u64));
    }

    async fn crash(&mut self) {
        let turn = self.turn;
        self.running[turn].take().unwrap().kill().await;
        for device in self.devices.values_mut().filter(|device| device.node == turn) {
            device.session = None;
        }
        self.running[turn] = Some(Running::start(&self.kept[turn]));
    }

    async fn connect(&mut self, who: usize, device: usize) {
        if self.devices.get(&(who, device)).is_some_and(|device| device.session.is_some()) {
            return;
        }
        if !self.devices.contains_key(&(who, device)) {
            // A new device starts with what its user has not read.
            let mut new = Device::default();
            for (id, talk) in &self.talks {
                let mine = match ConversationId::new(id).unwrap().peer_of(&name(who)) {
                    Some(_) => true,
                    None => *id == group_id() && self.members.contains(&who),
                };
                let read = talk.read.get(&who).copied().unwrap_or(0);
                let unread = talk.said.iter().enumerate().skip(read).filter(|(_, s)| s.from != who);
                if mine {
                    new.wanted.extend(unread.map(|(at, _)| (id.clone(), at as u64 + 1)));
                }
            }
            self.devices.insert((who, device), new);
        }
        let session = self.node().connect(PEOPLE[who], DEVICES[device]).await;
        let device = self.devices.get_mut(&(who, device)).unwrap();
        (device.session, device.node) = (Some(session), self.turn);
    }

    /// The nodes take turns.
    fn next_node(&mut self) {
        self.turn = (self.turn + 1) % self.running.len();
    }

    async fn step(&mut self, step: Step) {
        self.next_node();
        let several = self.running.len() > 1;
        match step {
            Step::Send { from, to } => {
                let Some((id, destination, people)) = self.place(from, to) else { return };
                let request = self.request(from, destination, MessageKind::Message, None);
                self.send(request, &id, &people, MessageKind::Message).await;
            }
            Step::SendInto { from, to, turns } => {
                let Some((id, destination, people)) = self.place(from, to) else { return };
                let request = self.request(from, destination, MessageKind::Message, None);
                let (gateway, first) = (self.gateway().clone(), request.clone());
                let runtime = &self.node().runtime;
                drop(runtime.spawn(async move { drop(gateway.send(first).await) }));
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                self.crash().await;
                self.next_node();
                // P4: whether or not the first one counted, there is one.
                self.send(request, &id, &people, MessageKind::Message).await;
            }
            Step::Edit { from, to } => {
                let Some((id, destination, people)) = self.place(from, to) else { return };
                let said = self.talks.get(&id).map(|talk| talk.said.as_slice()).unwrap_or_default();
                let mine = |said: &&Said| said.from == from && said.kind == MessageKind::Message;
                let Some(of) = said.iter().rfind(mine).map(|said| said.id.clone()) else { return };
                let request = self.request(from, destination, MessageKind::Edit, Some(&of));
                self.send(request, &id, &people, MessageKind::Edit).await;
            }
            Step::Read { who, of, percent } => {
                let Some((id, destination, _)) = self.place(who, of) else { return };
                let Some(talk) = self.talks.get_mut(&id) else { return };
                let up_to = talk.said.len() as u64 * percent / 100;
                let read = talk.read.entry(who).or_default();
                *read = (*read).max(usize::try_from(up_to).unwrap());
                let request = SendRequest::new(name(who), destination, "")
                    .with_kind("read", Some(&up_to.to_string()))
                    .unwrap();
                self.gateway().send(request).await.unwrap();
            }
            Step::Join { who } => {
                self.gateway().add_member(&name(0), &group(), &name(who)).await.unwrap();
                if self.members.insert(who) {
                    let talk = self.talks.get_mut(&group_id()).unwrap();
                    let said = talk.said.len();
                    let read = talk.read.entry(who).or_default();
                    *read = (*read).max(said);
                    let people: Vec<usize> = self.members.iter().copied().collect();
                    self.heard(&group_id(), 0, MessageKind::Member, String::new(), &people);
                }
            }
            Step::Leave { who, kicked } => {
                if who == 0 || !self.members.contains(&who) {
                    return;
                }
                let people: Vec<usize> = self.members.iter().copied().collect();
                let actor = if kicked { 0 } else { who };
                self.gateway().remove_member(&name(actor), &group(), &name(who)).await.unwrap();
                self.members.remove(&who);
                self.heard(&group_id(), actor, MessageKind::Member, String::new(), &people);
            }
            Step::Connect { who, device } => self.connect(who, device).await,
            Step::Take { who, device, count, ack } => {
                let Some(device) = self.devices.get_mut(&(who, device)) else { return };
                for _ in 0..count {
                    if device.got.len() == device.wanted.len() || device.session.is_none() {
                        break;
                    }
                    device.take(ack, several).await;
                }
            }
            Step::Disconnect { who, device } => {
                let device = self.devices.get_mut(&(who, device));
                if let Some((client, inbox)) = device.and_then(|device| device.session.take()) {
                    client.disconnect().await;
                    drop(inbox);
                }
            }
            Step::Crash => self.crash().await,
        }
    }

    /// Everything is as the model says.
    async fn check(&mut self) {
        for who in 0..PEOPLE.len() {
            self.next_node();
            let listed = self.gateway().conversations(&name(who), None, 100).await.unwrap();
            for summary in listed {
                let talk = self.talks.entry(summary.conversation.to_string()).or_default();
                let read = talk.read.get(&who).copied().unwrap_or(0);
                let unread = talk.said.iter().skip(read).filter(|said| said.counts).count() as u64;
                let found = (summary.last_seq, summary.unread);
                assert_eq!(found, (talk.said.len() as u64, unread), "{who}: {summary:?}");
            }
        }
        for (id, talk) in &self.talks {
            let id = ConversationId::new(id).unwrap();
            let stored = self.kept[0].store.history(&id, Page::after(0, 10_000)).await.unwrap();
            let stored: Vec<_> =
                stored.iter().map(|one| (one.seq, one.sender.clone(), one.kind)).collect();
            let said = talk.said.iter().enumerate();
            let said: Vec<_> =
                said.map(|(at, said)| (at as u64 + 1, name(said.from), said.kind)).collect();
            assert_eq!(stored, said, "{id}");
        }
        // The last thing that each device gets.
        let devices: Vec<(usize, usize)> = self.devices.keys().copied().collect();
        for (who, device) in &devices {
            self.next_node();
            self.connect(*who, *device).await;
        }
        for person in PEOPLE {
            let end = SendRequest::new(user("dave"), Destination::User(user(person)), "the end");
            self.gateway().send(end).await.unwrap();
        }
        let several = self.running.len() > 1;
        for device in self.devices.values_mut() {
            while !device.take(true, several).await {}
            assert_eq!(device.got, device.wanted);
        }
    }
}

impl Device {
    /// Takes the next message; tells whether it was the last of all.
    async fn take(&mut self, ack: bool, several: bool) -> bool {
        let (client, inbox) = self.session.as_mut().unwrap();
        let message: Message = loop {
            let message = tokio::time::timeout(PATIENCE, inbox.recv()).await;
            let message = message.expect("a message in time").expect("a live session");
            if message.header("seq").is_some() {
                break message;
            }
        };
        if ack {
            client.ack(&message).confirmed().await.unwrap();
        }
        if header(&message, "from") == "dave" {
            return true;
        }
        let id = header(&message, "conversation");
        let seq: u64 = header(&message, "seq").parse().unwrap();
        let redelivered = header(&message, "redelivered") == "true";
        if !self.wanted.contains(&(id.clone(), seq)) {
            // A node publishes again what another one has published and not taken out of the outbox when it was killed:
            // that may be older than the device.
            assert!(redelivered && several, "{id} {seq} is not for this device: {message:?}");
            return false;
        }
        if !self.got.insert((id.clone(), seq)) {
            assert!(redelivered, "{id} {seq} came twice, unmarked");
            return false;
        }
        let last = self.last.insert(id.clone(), seq).unwrap_or(0);
        assert!(seq > last, "{id}: {seq} after {last}");
        false
    }
}

/// Tries so many stories, and makes a short one of the first that fails.
fn stories(cases: u32, mut kept: impl FnMut(&Runtime) -> Vec<Kept>) {
    let config =
        Config { cases, failure_persistence: None, max_shrink_iters: 100, ..Config::default() };
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let kept = std::cell::RefCell::new(&mut kept);
    TestRunner::new(config)
        .run(&prop::collection::vec(step(), 1..60), |steps| {
            let kept = (kept.borrow_mut())(&runtime);
            runtime.block_on(async {
                let mut world = World::new(kept).await;
                for step in steps {
                    world.step(step).await;
                }
                world.check().await;
                for running in &mut world.running {
                    running.take().unwrap().kill().await;
                }
            });
            Ok(())
        })
        .unwrap();
}

fn broker() -> Arc<dyn Broker> {
    Arc::new(Memory::default())
}

#[test]
fn the_promises_hold_in_memory() {
    stories(64, |_| {
        let (store, directory) = (Arc::new(MemoryStore::new()), Arc::new(MemoryDirectory::new()));
        vec![Kept { store, directory, broker: broker() }]
    });
}

#[cfg(feature = "sqlite")]
#[test]
fn the_promises_hold_over_sqlite() {
    let mut folders = Vec::new();
    stories(16, |_| {
        let folder = tempfile::TempDir::new().unwrap();
        let store = gateway_core::SqliteStore::open(folder.path().join("store.db")).unwrap();
        let store = Arc::new(store);
        folders.push(folder);
        vec![Kept { store: store.clone(), directory: store, broker: broker() }]
    });
}

#[cfg(feature = "postgres")]
#[test]
#[ignore = "needs postgresql"]
fn the_promises_hold_over_postgresql() {
    over_postgresql(8, &["only"]);
}

#[cfg(feature = "postgres")]
#[test]
#[ignore = "needs postgresql"]
fn the_promises_hold_over_several_nodes() {
    over_postgresql(12, &["one", "two", "three"]);
}

/// One gateway for each name, over one database and one broker.
#[cfg(feature = "postgres")]
fn over_postgresql(cases: u32, nodes: &[&str]) {
    use gateway_core::PostgresOptions;
    use mq_bridge::testkit::servers::Postgres;

    let mut server = None;
    let mut databases = 0;
    stories(cases, |runtime| {
        let server = server.get_or_insert_with(|| runtime.block_on(Postgres::start()).unwrap());
        databases += 1;
        let name = format!("story_{databases}");
        let url = server.url();
        runtime.block_on(async {
            let (client, connection) =
                tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
            let connection = tokio::spawn(connection);
            client.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
            drop(client);
            connection.await.unwrap().unwrap();
            let url = format!("{}/{name}", url.rsplit_once('/').unwrap().0);
            let broker = broker();
            let mut all = Vec::new();
            for node in nodes {
                let store = PostgresOptions::new(url.as_str()).with_node(*node).with_connections(2);
                let store = Arc::new(store.open().await.unwrap());
                let (directory, broker) = (Arc::clone(&store), Arc::clone(&broker));
                all.push(Kept { store, directory, broker });
            }
            all
        })
    });
}
