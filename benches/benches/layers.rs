//! Each layer by itself: codec, session, router, brokers, stores, and a group of up to 10 000.
//!
//! `cargo bench -p benches --bench layers`; behind `--` comes a part of a name, to run only those.

#![allow(missing_docs, reason = "what criterion's macros make")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot run ends")]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use benches::{A_HEADERS, a_body, frame_64k, frame_a, frame_e};
use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures::future::join_all;
use gateway_core::{
    AuthError, Authenticator, ConversationId, Credentials, Destination, Gateway, GroupName,
    MemoryStore, MessageStore, NewMessage, Page, Principal, SendRequest, SqliteStore, UserName,
};
use mq_bridge::{
    Broker, Declaration, Embedded, EmbeddedConfig, Memory, Message, Publish, Source,
    SubscribeOptions,
};
use stomp_codec::server::{Accepted, Config, Event, Session};
use stomp_codec::{
    ChunkDecoder, Command, Frame, Limits, Mode, SharedMessage, Version, encode_parts,
};
use stomp_ws::client::{Client, ConnectOptions};
use stomp_ws::{Transport, TransportConfig};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    for (name, wire) in [("a", frame_a()), ("e", frame_e()), ("64k", frame_64k())] {
        group.throughput(Throughput::Bytes(wire.len() as u64));
        let wire = Bytes::from(wire);
        group.bench_function(BenchmarkId::new("decode", name), |bencher| {
            let mut decoder = ChunkDecoder::new(Mode::Lenient, Limits::DEFAULT);
            bencher.iter(|| {
                decoder.push(wire.clone());
                black_box(decoder.decode()).unwrap();
            });
        });
    }
    let (body, mut wire) = (a_body(), BytesMut::with_capacity(1024));
    group.throughput(Throughput::Elements(1));
    group.bench_function("encode/a", |bencher| {
        bencher.iter(|| {
            wire.clear();
            encode_parts(Command::Message, black_box(A_HEADERS), &body, Version::V1_2, &mut wire)
        });
    });
    group.finish();
}

/// One encoded message to 1000 sessions, each with a head of its own.
fn fan_out(criterion: &mut Criterion) {
    const RECEIVERS: usize = 1000;
    let now = Instant::now();
    let mut sessions: Vec<_> = (0..RECEIVERS)
        .map(|_| {
            let mut session = Session::<u64>::new(Config::default().window(usize::MAX), now);
            let connect = b"CONNECT\naccept-version:1.2\nhost:h\n\n\0";
            session.handle_bytes(now, Bytes::from_static(connect));
            session.poll_event();
            session.accept(now, Accepted::new("s"));
            session.poll_transmit();
            let subscribe = b"SUBSCRIBE\nid:0\ndestination:/q\n\n\0";
            session.handle_bytes(now, Bytes::from_static(subscribe));
            let Some(Event::Subscribe { id, .. }) = session.poll_event() else { unreachable!() };
            (session, id)
        })
        .collect();
    let mut group = criterion.benchmark_group("session");
    group.throughput(Throughput::Elements(RECEIVERS as u64));
    group.bench_function("one message to 1000", |bencher| {
        let mut tag = 0;
        bencher.iter(|| {
            let mut frame = Frame::new(Command::Message).with_body(a_body());
            for (name, value) in A_HEADERS {
                frame.push_header(name, value);
            }
            let message = SharedMessage::new(&frame).unwrap();
            tag += 1;
            for (session, id) in &mut sessions {
                black_box(&session.deliver(id, &message, tag, false));
                black_box(&session.poll_transmit());
            }
        });
    });
    group.finish();
}

/// A publish to one of so many topics, each with a durable subscription that is acknowledged.
fn router(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("router");
    for destinations in [1, 1000, 100_000] {
        let broker = Memory::default();
        let mut subscription = runtime.block_on(async {
            for number in 0..destinations {
                let (name, topic) = (format!("d{number}"), format!("t.{number}"));
                broker.declare(&Declaration::durable(name, [topic])).await.unwrap();
            }
            broker.subscribe(Source::durable("d0"), SubscribeOptions::new()).await.unwrap()
        });
        let id = BenchmarkId::new("publish, deliver, acknowledge", destinations);
        group.bench_function(id, |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    let message = Message::new(Bytes::from_static(b"hello"));
                    broker.publish(Publish::to_topic("t.0", message)).await.unwrap();
                    for delivery in subscription.recv().await.unwrap() {
                        subscription.acker().ack(&[delivery.tag]).await.unwrap();
                    }
                });
            });
        });
    }
    group.finish();
}

/// 256 publishes that wait together, as they do when many people send.
fn brokers(criterion: &mut Criterion) {
    const WINDOW: u64 = 256;
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = EmbeddedConfig::new(folder.path().join("broker.db"));
    let embedded = runtime.block_on(Embedded::open(config)).unwrap();
    let brokers: [(&str, Arc<dyn Broker>); 2] =
        [("memory", Arc::new(Memory::default())), ("embedded", Arc::new(embedded))];
    let mut group = criterion.benchmark_group("broker");
    group.throughput(Throughput::Elements(WINDOW)).sample_size(20);
    for (name, broker) in brokers {
        let mut subscription = runtime.block_on(async {
            broker.declare(&Declaration::queue("q")).await.unwrap();
            let options = SubscribeOptions::new().with_prefetch(1024, usize::MAX);
            broker.subscribe(Source::queue("q"), options).await.unwrap()
        });
        group.bench_function(BenchmarkId::new("publish, deliver, acknowledge", name), |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    let confirms: Vec<_> = (0..WINDOW)
                        .map(|_| Publish::to_queue("q", Message::new(vec![b'x'; 128])))
                        .map(|publish| broker.publish(publish))
                        .collect();
                    join_all(confirms).await;
                    let mut taken = 0;
                    while taken < WINDOW {
                        let batch = subscription.recv().await.unwrap();
                        let tags: Vec<_> = batch.iter().map(|delivery| delivery.tag).collect();
                        subscription.acker().ack(&tags).await.unwrap();
                        taken += tags.len() as u64;
                    }
                });
            });
        });
    }
    group.finish();
}

fn user(number: usize) -> UserName {
    UserName::new(&format!("user{number}")).unwrap()
}

/// 64 messages of as many conversations in one call; and a page of one that has 100 000.
fn stores(criterion: &mut Criterion) {
    const BATCH: usize = 64;
    const LONG: usize = 100_000;
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let sqlite = SqliteStore::open(folder.path().join("store.db")).unwrap();
    let stores: [(&str, Arc<dyn MessageStore>); 2] =
        [("memory", Arc::new(MemoryStore::new())), ("sqlite", Arc::new(sqlite))];
    let message = |from: usize, to: usize| {
        let conversation = ConversationId::direct(&user(from), &user(to));
        NewMessage::new(conversation, user(from), vec![b'x'; 128])
    };
    let mut group = criterion.benchmark_group("store");
    group.sample_size(20);
    for (name, store) in stores {
        group.throughput(Throughput::Elements(BATCH as u64));
        group.bench_function(BenchmarkId::new("append 64", name), |bencher| {
            bencher.iter_batched(
                || (0..BATCH).map(|number| message(number, number + 1)).collect::<Vec<_>>(),
                |batch| runtime.block_on(store.append(batch)),
                BatchSize::SmallInput,
            );
        });
        for _ in 0..LONG / 1000 {
            let batch = (0..1000).map(|_| message(1000, 1001)).collect();
            runtime.block_on(store.append(batch));
        }
        let long = ConversationId::direct(&user(1000), &user(1001));
        group.throughput(Throughput::Elements(50));
        group.bench_function(BenchmarkId::new("page of 50 out of 100 000", name), |bencher| {
            bencher.iter(|| runtime.block_on(store.history(&long, Page::latest(50))).unwrap());
        });
    }
    group.finish();
}

/// Lets everybody in.
#[derive(Debug)]
struct Trusting;

#[async_trait]
impl Authenticator for Trusting {
    async fn authenticate(
        &self,
        credentials: &Credentials,
    ) -> Result<Option<Principal>, AuthError> {
        let name = credentials.login.as_deref().ok_or(AuthError::Failed)?;
        Ok(Some(Principal::new(UserName::new(name).map_err(|_| AuthError::Failed)?)))
    }
}

/// One message to a group, until every member has it: stored, through the broker, one session each.
fn group_members(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("group");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    for members in [2, 10, 100, 1000, 10_000] {
        let (gateway, received) = runtime.block_on(inhabited(members));
        let everybody = GroupName::new("everybody").unwrap();
        let to = Destination::parse(&format!("/group/{everybody}")).unwrap();
        group.throughput(Throughput::Elements(members as u64));
        group.bench_function(BenchmarkId::new("members", members), |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    let wanted = received.count.load(Relaxed) + members as u64;
                    received.wanted.store(wanted, Relaxed);
                    gateway.send(SendRequest::new(user(0), to.clone(), "hello")).await.unwrap();
                    while received.count.load(Relaxed) < wanted {
                        received.all.notified().await;
                    }
                });
            });
        });
        runtime.block_on(gateway.shutdown());
    }
    group.finish();
}

#[derive(Default)]
struct Received {
    count: AtomicU64,
    wanted: AtomicU64,
    all: Notify,
}

/// A gateway with one group, of which every member has a session.
async fn inhabited(members: usize) -> (Gateway, Arc<Received>) {
    let gateway = Gateway::builder().authenticator(Arc::new(Trusting)).build().unwrap();
    let people: Vec<_> = (0..members).map(user).collect();
    for person in &people {
        gateway.create_user(person, None).await.unwrap();
    }
    let name = GroupName::new("everybody").unwrap();
    gateway.directory().create_group(&name, &people[0], &people[1..]).await.unwrap();
    let received = Arc::<Received>::default();
    for person in &people {
        let (near, far) = tokio::io::duplex(4096);
        gateway.spawn(Transport::stream(far, TransportConfig::DEFAULT), None);
        let near = Transport::stream(near, TransportConfig::DEFAULT);
        let options = ConnectOptions::new().credentials(person.as_str(), "any");
        let client = Client::over(near, "bench", options).await.unwrap();
        let (mut inbox, _) = client.subscribe("/inbox").confirmed().await.unwrap();
        let received = Arc::clone(&received);
        tokio::spawn(async move {
            // It ends with the client.
            let _client = client;
            while let Ok(message) = inbox.recv().await {
                if message.header("seq").is_some()
                    && received.count.fetch_add(1, Relaxed) + 1 >= received.wanted.load(Relaxed)
                {
                    received.all.notify_one();
                }
            }
        });
    }
    (gateway, received)
}

criterion_group!(layers, codec, fan_out, router, brokers, stores, group_members);
criterion_main!(layers);
