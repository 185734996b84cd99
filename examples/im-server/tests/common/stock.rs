//! Stock STOMP libraries in child processes; `tests/clients/README.md` describes their drivers.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use super::PATIENCE;
use super::server::{Server, password};

/// A library and the way it connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// @stomp/stompjs in Node, over WebSocket.
    JavaScript,
    /// stomp.py over WebSocket.
    PythonWs,
    /// stomp.py over TCP.
    PythonTcp,
}

/// One event of a driver.
#[derive(Debug, Clone)]
pub struct Event {
    pub event: String,
    pub headers: Value,
    pub body: String,
}

impl Event {
    /// The value of a header; the test fails where it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.find(name).unwrap_or_else(|| panic!("no header {name} in {self:?}"))
    }

    /// The value of a header.
    pub fn find(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(Value::as_str)
    }
}

/// A stock client.
pub struct Stock {
    child: Child,
    input: Option<ChildStdin>,
    events: mpsc::Receiver<Event>,
    aside: VecDeque<Event>,
    receipts: u64,
}

impl Stock {
    /// Starts a client that is not connected yet.
    pub fn start(library: Library) -> Self {
        let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
        let mut command = match library {
            Library::JavaScript => {
                let mut node = Command::new("node");
                node.arg(clients.join("stompjs.mjs")).arg(tools("node"));
                node
            }
            Library::PythonWs | Library::PythonTcp => {
                let mut python = Command::new(tools("python/bin/python"));
                python.arg(clients.join("stomp_py.py"));
                python
            }
        };
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}; .ci/install installs it"));
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, events) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let Ok(mut line) = serde_json::from_str::<Value>(&line) else {
                    eprintln!("stock client: {line}");
                    continue;
                };
                let event = Event {
                    event: line["event"].as_str().unwrap_or_default().to_owned(),
                    body: line["body"].as_str().unwrap_or_default().to_owned(),
                    headers: line["headers"].take(),
                };
                if sender.send(event).is_err() {
                    break;
                }
            }
        });
        let input = child.stdin.take();
        Self { child, input, events, aside: VecDeque::new(), receipts: 0 }
    }

    /// Starts a client and signs in a user of the test server.
    pub fn sign_in(
        library: Library,
        version: &str,
        server: &Server,
        user: &str,
        device: &str,
    ) -> Self {
        Self::sign_in_with(library, version, server, user, device, &json!({}))
    }

    /// [`sign_in`](Self::sign_in) with further fields of the `connect` command.
    pub fn sign_in_with(
        library: Library,
        version: &str,
        server: &Server,
        user: &str,
        device: &str,
        fields: &Value,
    ) -> Self {
        let mut client = Self::start(library);
        let mut connect = json!({
            "op": "connect",
            "url": match library {
                Library::PythonTcp => server.tcp_url(),
                _ => server.ws_url(),
            },
            "version": version,
            "login": user,
            "passcode": password(user),
            "headers": {"device": device},
        });
        for (name, value) in fields.as_object().expect("an object") {
            connect[name] = value.clone();
        }
        client.command(&connect);
        let connected = client.wait("connected", |_| true);
        // STOMP 1.0 knows no version header; naming the version there is allowed.
        if version != "1.0" {
            assert_eq!(connected.header("version"), version);
        }
        client
    }

    /// Gives the driver a command.
    pub fn command(&mut self, command: &Value) {
        let input = self.input.as_mut().expect("connected");
        input.write_all(format!("{command}\n").as_bytes()).expect("the driver reads");
    }

    /// SEND with a receipt; returns the RECEIPT.
    pub fn send(&mut self, destination: &str, body: &str, headers: Value) -> Event {
        let receipt = self.next_receipt();
        let mut headers = headers;
        headers["receipt"] = json!(receipt);
        self.command(
            &json!({"op": "send", "destination": destination, "body": body, "headers": headers}),
        );
        self.receipt(&receipt)
    }

    /// SUBSCRIBE with a receipt; returns when it is live.
    pub fn subscribe(&mut self, id: &str, destination: &str, ack: &str, headers: Value) -> Event {
        let receipt = self.next_receipt();
        let mut headers = headers;
        headers["receipt"] = json!(receipt);
        self.command(&json!({
            "op": "subscribe", "id": id, "destination": destination, "ack": ack, "headers": headers,
        }));
        self.receipt(&receipt)
    }

    /// ACK with a receipt; returns when the server confirmed it.
    pub fn ack(&mut self, message: &Event) {
        self.acknowledge("ack", message);
    }

    /// NACK with a receipt; returns when the server confirmed it.
    pub fn nack(&mut self, message: &Event) {
        self.acknowledge("nack", message);
    }

    fn acknowledge(&mut self, verb: &str, message: &Event) {
        let receipt = self.next_receipt();
        let headers = json!({"receipt": receipt});
        self.command(&json!({"op": verb, "message": message.headers, "headers": headers}));
        self.receipt(&receipt);
    }

    /// The next MESSAGE.
    pub fn message(&mut self) -> Event {
        self.wait("message", |_| true)
    }

    /// The RECEIPT of this name.
    pub fn receipt(&mut self, name: &str) -> Event {
        self.wait("receipt", |event| event.find("receipt-id") == Some(name))
    }

    /// The next event of this kind that is wanted; others are kept for later.
    pub fn wait(&mut self, kind: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        let fits = |event: &Event| event.event == kind && wanted(event);
        if let Some(position) = self.aside.iter().position(fits) {
            return self.aside.remove(position).expect("just found");
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) if fits(&event) => return event,
                Ok(event) if event.event == "error" => panic!("unexpected ERROR: {event:?}"),
                Ok(event) => self.aside.push_back(event),
                Err(error) => panic!("no {kind} ({error}); aside: {:?}", self.aside),
            }
        }
    }

    /// Ends the client's process without a word to the server.
    pub fn vanish(mut self) {
        self.child.kill().expect("kill");
    }

    /// DISCONNECTs and waits for the end.
    pub fn disconnect(mut self) {
        self.command(&json!({"op": "disconnect"}));
        self.wait("closed", |_| true);
    }

    fn next_receipt(&mut self) -> String {
        self.receipts += 1;
        format!("r{}", self.receipts)
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tools(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools").join(path)
}
