//! Webhooks of the whole server: what was receipted reaches the receiver, through `kill -9` of the server and while the
//! receiver is away.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use common::server::Server;
use common::{PATIENCE, http};
use serde_json::{Value, json};

/// An HTTP server that takes events, or says that it cannot.
struct Receiver {
    address: SocketAddr,
    works: Arc<AtomicBool>,
    asked: mpsc::Receiver<()>,
    taken: mpsc::Receiver<Value>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let works = Arc::new(AtomicBool::new(false));
        let (ask, asked) = mpsc::channel();
        let (take, taken) = mpsc::channel();
        let working = Arc::clone(&works);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (working, ask, take) = (Arc::clone(&working), ask.clone(), take.clone());
                thread::spawn(move || answer(stream.expect("a connection"), &working, &ask, &take));
            }
        });
        Self { address, works, asked, taken }
    }

    fn event(&self) -> Value {
        self.taken.recv_timeout(PATIENCE).expect("an event")
    }
}

fn answer(
    stream: TcpStream,
    works: &AtomicBool,
    ask: &mpsc::Sender<()>,
    take: &mpsc::Sender<Value>,
) {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        // A server that was killed leaves in the middle.
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let _ = ask.send(());
    let status = if works.load(Ordering::SeqCst) {
        let _ = take.send(serde_json::from_slice(&body).expect("JSON"));
        "204 No Content"
    } else {
        "503 Service Unavailable"
    };
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let _ = reader.into_inner().write_all(head.as_bytes());
}

/// P2, P3: what was answered with 201 is delivered, in order, by the process after the next.
#[test]
fn p2_events_survive_kill_9_and_a_receiver_that_is_away() {
    let mut server = Server::start(&["--admin", "alice", "--webhooks-private"]);
    let receiver = Receiver::start();
    let token = server.token("alice");
    let url = format!("http://{}/hook", receiver.address);
    let hook = json!({"url": url, "events": ["message"]});
    let (status, made) = server.api(&token, "POST", "/webhooks", Some(&hook));
    assert_eq!(status, 201, "{made}");
    assert!(made["secret"].as_str().is_some_and(|secret| secret.starts_with("whsec_")), "{made}");

    let send = |server: &Server, body: &str| {
        let message = json!({"to": "/user/bob", "body": body});
        assert_eq!(server.api(&token, "POST", "/messages", Some(&message)).0, 201);
    };
    for number in 0..10 {
        send(&server, &number.to_string());
    }
    receiver.asked.recv_timeout(PATIENCE).expect("a first attempt");
    server.kill();
    server.start_again();
    for number in 10..20 {
        send(&server, &number.to_string());
    }
    server.kill();
    receiver.works.store(true, Ordering::SeqCst);
    server.start_again();

    // A repeat is allowed: it names the same message again.
    let mut last = None;
    while last != Some(19) {
        let event = receiver.event();
        let body = event["data"]["body"].as_str().expect("a body").to_owned();
        let number: usize = body.parse().expect("a number");
        let next = last.map_or(0, |last| last + 1);
        assert!(number <= next, "{number} came before {next}");
        last = Some(number.max(last.unwrap_or(0)));
    }
    let id = made["id"].as_str().expect("an id");
    let path = format!("/webhooks/{id}");
    assert_eq!(server.api(&token, "GET", &path, None).1["dead"], 0);
    assert_eq!(server.api(&token, "DELETE", &path, None).0, 204);
    assert_eq!(server.api(&token, "GET", &path, None).0, 404);
    assert_eq!(server.api(&server.token("bob"), "GET", "/webhooks", None).0, 403);
}

#[test]
fn the_server_says_that_it_lives_is_ready_and_what_it_has_done() {
    let server = Server::start(&[]);
    let get = |path: &str| {
        let answer = http::request(server.http, "GET", path, &[], b"");
        (answer.status, String::from_utf8(answer.body).expect("UTF-8"))
    };
    assert_eq!(get("/healthz").0, 200);
    let (status, ready) = get("/readyz");
    assert_eq!((status, ready.as_str()), (200, "gateway ok\nbroker ok\nstore ok\n"));
    let (status, metrics) = get("/metrics");
    assert_eq!(status, 200);
    for line in
        ["im_sessions 0\n", "im_broker_up 1\n", "im_store_up 1\n", "# TYPE im_sessions gauge\n"]
    {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}
