//! The kill test (P1, P2, P3): a writer and three devices under load, the server killed with SIGKILL, or asked to end
//! with SIGTERM, at random moments and started again on the same data.
//!
//! Afterwards the set of receipted messages equals the set that each device got; repeats are marked and are
//! true repeats; each conversation came in order.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::PATIENCE;
use common::load::{Got, Identity, Random, SetOnDrop, until};
use common::server::Server;
use common::wire::{Lost, Wire};

/// How often the server is killed.
const KILLS: usize = 24;
/// How often the server is asked to end.
const ENDS: usize = 8;
/// How many messages the writer has under way.
const WINDOW: usize = 24;

/// Sends until told to stop, then until everything is receipted; a message without a RECEIPT is sent again with
/// the same key. Gives what each key became.
fn write(
    address: SocketAddr,
    stop: &AtomicBool,
    receipted: &AtomicUsize,
) -> BTreeMap<String, Identity> {
    let mut done = BTreeMap::new();
    let mut under_way: VecDeque<usize> = VecDeque::new();
    let mut next = 0;
    while !(stop.load(Ordering::Relaxed) && under_way.is_empty()) {
        let session = write_session(address, stop, receipted, &mut done, &mut under_way, &mut next);
        if session.is_err() {
            thread::sleep(Duration::from_millis(20));
        }
    }
    done
}

fn write_session(
    address: SocketAddr,
    stop: &AtomicBool,
    receipted: &AtomicUsize,
    done: &mut BTreeMap<String, Identity>,
    under_way: &mut VecDeque<usize>,
    next: &mut usize,
) -> Result<(), Lost> {
    let mut wire = Wire::try_sign_in(address, "alice", "writer")?;
    for &number in under_way.iter() {
        send(&mut wire, number)?;
    }
    loop {
        while under_way.len() < WINDOW && !stop.load(Ordering::Relaxed) {
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
        assert_eq!(frame.command, "RECEIPT", "{frame:?}");
        let number: usize = frame.header("receipt-id").parse().expect("a number");
        let position = under_way.iter().position(|&waiting| waiting == number).expect("under way");
        under_way.remove(position);
        let earlier = done.insert(key(number), Identity::of(&frame));
        assert_eq!(earlier, None, "a second receipt for {number}");
        receipted.fetch_add(1, Ordering::Relaxed);
    }
}

/// Every third message goes to a person, the others to the group.
fn to_group(number: usize) -> bool {
    !number.is_multiple_of(3)
}

fn key(number: usize) -> String {
    format!("{}-{number:06}", if to_group(number) { "group" } else { "direct" })
}

fn send(wire: &mut Wire, number: usize) -> Result<(), Lost> {
    let destination = if to_group(number) { "/group/ops" } else { "/user/bob" };
    let (key, receipt) = (key(number), number.to_string());
    let headers = [("destination", destination), ("idempotency-key", &key), ("receipt", &receipt)];
    wire.try_frame("SEND", &headers, &format!("body of {key}"))
}

/// Reads its inbox until `wanted` says that it has everything. Acknowledges late, in another order, or not at
/// all before it loses its connection.
fn read(
    address: SocketAddr,
    user: &str,
    device: &str,
    mut random: Random,
    count: &AtomicUsize,
    finished: &AtomicBool,
) -> Got {
    let mut got = Got::default();
    while !finished.load(Ordering::Relaxed) {
        let session = read_session(address, user, device, &mut random, &mut got, count, finished);
        if session.is_err() {
            thread::sleep(Duration::from_millis(random.below(50)));
        }
    }
    got
}

fn read_session(
    address: SocketAddr,
    user: &str,
    device: &str,
    random: &mut Random,
    got: &mut Got,
    count: &AtomicUsize,
    finished: &AtomicBool,
) -> Result<(), Lost> {
    let mut wire = Wire::try_sign_in(address, user, device)?;
    let inbox = [("id", "inbox"), ("destination", "/inbox"), ("ack", "client-individual")];
    wire.try_frame("SUBSCRIBE", &inbox, "")?;
    let mut unacknowledged: Vec<String> = Vec::new();
    loop {
        let frame = wire.poll(Instant::now() + Duration::from_millis(100))?;
        match &frame {
            Some(frame) if frame.command == "ERROR" => return Err(Lost),
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
        if frame.is_none() && finished.load(Ordering::Relaxed) {
            // DISCONNECT with a receipt: the acknowledgements have arrived.
            wire.try_frame("DISCONNECT", &[("receipt", "bye")], "")?;
            while let Ok(Some(frame)) = wire.poll(Instant::now() + PATIENCE) {
                if frame.command == "RECEIPT" {
                    return Ok(());
                }
            }
            return Err(Lost);
        }
        if random.below(400) == 0 {
            return Err(Lost);
        }
    }
}

#[test]
fn p1_p2_p3_nothing_receipted_is_lost_when_the_server_is_killed() {
    survives(KILLS, Server::kill);
}

#[test]
fn p1_p2_p3_nothing_receipted_is_lost_when_the_server_is_asked_to_end() {
    survives(ENDS, |server| assert!(server.terminate().success()));
}

/// Ends the server so often, under load, and checks what became of each message.
fn survives(times: usize, end: impl Fn(&mut Server)) {
    let seed =
        std::env::var("KILL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
            std::time::UNIX_EPOCH.elapsed().expect("a clock").as_nanos() as u64 & 0xffff_ffff
        });
    println!("KILL_SEED={seed}");
    let mut random = Random::new(seed, 0);
    let mut server = Server::start(&[]);
    server.create_group("alice", "ops", &["bob", "carol"]);
    // The devices exist before the first message: each gets everything.
    let devices = [("bob", "phone"), ("bob", "laptop"), ("carol", "desk")];
    for (user, device) in devices {
        drop(Wire::inbox(&server, user, device));
    }

    let address = server.stomp;
    let (stop, finished) = (AtomicBool::new(false), AtomicBool::new(false));
    let receipted = AtomicUsize::new(0);
    let counts: [AtomicUsize; 3] = Default::default();
    let (sent, got) = thread::scope(|scope| {
        // A failed check in this thread or in another must end the others as well.
        let _end = SetOnDrop(&[&stop, &finished]);
        let writer = scope.spawn(|| write(address, &stop, &receipted));
        let readers: Vec<_> = devices
            .iter()
            .zip(&counts)
            .enumerate()
            .map(|(number, (&(user, device), count))| {
                let random = Random::new(seed, number as u64 + 1);
                let finished = &finished;
                scope.spawn(move || read(address, user, device, random, count, finished))
            })
            .collect();

        for time in 0..times {
            // Never kill an idle server: messages must be flowing.
            let before = receipted.load(Ordering::Relaxed);
            until("messages flow", || receipted.load(Ordering::Relaxed) > before + WINDOW);
            thread::sleep(Duration::from_millis(random.below(300)));
            end(&mut server);
            server.start_again();
            println!("end {time}: {} receipted", receipted.load(Ordering::Relaxed));
        }
        stop.store(true, Ordering::Relaxed);
        let sent = writer.join().expect("the writer");
        let direct = sent.keys().filter(|key| key.starts_with("direct")).count();
        let expected = [sent.len(), sent.len(), sent.len() - direct];
        until("every device has everything", || {
            readers.iter().any(thread::ScopedJoinHandle::is_finished)
                || counts
                    .iter()
                    .zip(expected)
                    .all(|(c, wanted)| c.load(Ordering::Relaxed) >= wanted)
        });
        finished.store(true, Ordering::Relaxed);
        let got: Vec<Got> =
            readers.into_iter().map(|reader| reader.join().expect("a device")).collect();
        (sent, got)
    });

    for ((user, device), got) in devices.iter().zip(&got) {
        let expected: BTreeSet<&String> =
            sent.keys().filter(|key| *user == "bob" || key.starts_with("group")).collect();
        let delivered: BTreeSet<&String> = got.messages.keys().collect();
        let lost: Vec<_> = expected.difference(&delivered).collect();
        let invented: Vec<_> = delivered.difference(&expected).collect();
        assert!(lost.is_empty() && invented.is_empty(), "{device}: -{lost:?} +{invented:?}");
        for (key, identity) in &got.messages {
            assert_eq!(identity, &sent[key], "{device}: {key} is not what its receipt said");
        }
        println!("{device}: {} messages, {} repeats", delivered.len(), got.repeats);
    }

    // What was acknowledged is gone for good: the next thing that each device sees is new.
    let mut alice = Wire::sign_in(&server, "alice", "writer");
    alice.send("/group/ops", "the end", &[]);
    for (user, device) in devices {
        assert_eq!(Wire::inbox(&server, user, device).message().text(), "the end", "{device}");
    }
}
