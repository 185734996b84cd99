//! `im-server` as a child process on ports of its own, with a data folder of its own.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{PATIENCE, http};

/// The users that every test server has; `password` gives their passwords.
pub const USERS: [&str; 4] = ["alice", "bob", "carol", "mallory"];

/// The password of a user in [`USERS`].
pub fn password(user: &str) -> String {
    format!("{user}-secret")
}

/// A running server. It is killed, and its data removed, when the value is dropped.
pub struct Server {
    child: Child,
    arguments: Vec<String>,
    folder: tempfile::TempDir,
    /// Where the page, REST and the WebSocket endpoint are.
    pub http: SocketAddr,
    /// Where STOMP over TCP is.
    pub stomp: SocketAddr,
}

impl Server {
    /// Starts a server with [`USERS`] and these further arguments; returns when it is ready.
    pub fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut all: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        for user in USERS {
            all.extend(["--user".to_owned(), format!("{user}:{}", password(user))]);
        }
        let (child, http, stomp) = spawn(&all, folder.path(), free_address(), free_address());
        Self { child, arguments: all, folder, http, stomp }
    }

    /// Ends the server as a crash or a power cut would: SIGKILL, no chance to tidy up.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// Asks the server to end (SIGTERM) and waits for it.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status;
            }
            assert!(Instant::now() < deadline, "the server ignores SIGTERM");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a signal, by its name without SIG.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().expect("kill");
        assert!(sent.success(), "SIG{name} could not be sent");
    }

    /// Starts the server again after [`kill`](Self::kill) or [`terminate`](Self::terminate): same
    /// data, same addresses.
    pub fn start_again(&mut self) {
        (self.child, self.http, self.stomp) =
            spawn(&self.arguments, self.folder.path(), self.http, self.stomp);
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The address of the web chat.
    pub fn page_url(&self) -> String {
        format!("http://{}/", self.http)
    }

    /// The address of STOMP over WebSocket.
    pub fn ws_url(&self) -> String {
        format!("ws://{}/ws", self.http)
    }

    /// The address of STOMP over TCP.
    pub fn tcp_url(&self) -> String {
        format!("tcp://{}", self.stomp)
    }

    /// What the server logged, since the first start.
    pub fn log(&self) -> String {
        std::fs::read_to_string(log_path(self.folder.path())).unwrap_or_default()
    }

    /// A token of a user in [`USERS`].
    pub fn token(&self, user: &str) -> String {
        let body = json!({"name": user, "password": password(user)});
        let (status, answer) = self.api("", "POST", "/tokens", Some(&body));
        assert_eq!(status, 200, "{answer}");
        answer["token"].as_str().expect("a token").to_owned()
    }

    /// One REST call below `/api/v1`; an empty token signs in nobody. Gives status and JSON.
    pub fn api(&self, token: &str, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let authorization = format!("Bearer {token}");
        let mut headers = vec![("content-type", "application/json")];
        if !token.is_empty() {
            headers.push(("authorization", &authorization));
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let path = format!("/api/v1{path}");
        let answer = http::request(self.http, method, &path, &headers, body.as_bytes());
        (answer.status, answer.json())
    }

    /// Makes a group owned by `owner`.
    pub fn create_group(&self, owner: &str, name: &str, members: &[&str]) {
        let token = self.token(owner);
        let body = json!({"name": name, "members": members});
        let (status, answer) = self.api(&token, "POST", "/groups", Some(&body));
        assert_eq!(status, 201, "{answer}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default();
            eprintln!("--- end of the server's log ---\n{}", tail.join("\n"));
        }
    }
}

/// An address that nobody listens on, with a port outside of the range from which systems take those
/// of outgoing connections: a server that is started again must find its port free.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let start = u16::try_from(std::process::id() % 9973).expect("below 9973");
        let port = 20_000 + start.wrapping_mul(7).wrapping_add(step) % 10_000;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

fn log_path(folder: &Path) -> PathBuf {
    folder.join("server.log")
}

fn spawn(
    arguments: &[String],
    folder: &Path,
    http: SocketAddr,
    stomp: SocketAddr,
) -> (Child, SocketAddr, SocketAddr) {
    let log = File::options().create(true).append(true).open(log_path(folder)).expect("log file");
    let mut child = Command::new(env!("CARGO_BIN_EXE_im-server"))
        .args(["--http", &http.to_string(), "--stomp", &stomp.to_string(), "--data"])
        .arg(folder.join("data"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .expect("im-server starts");

    let output = BufReader::new(child.stdout.take().expect("piped"));
    let (lines, received) = mpsc::channel();
    thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                break;
            }
        }
    });
    let mut ready = Vec::new();
    while ready.len() < 5 {
        match received.recv_timeout(PATIENCE) {
            Ok(line) => ready.push(line),
            Err(_) => {
                let _ = child.kill();
                let log = std::fs::read_to_string(log_path(folder)).unwrap_or_default();
                panic!("the server did not get ready; it printed {ready:?} and logged\n{log}");
            }
        }
    }
    // With TLS it says so; where it is, is the same.
    for line in &mut ready {
        *line = line.replace("https:", "http:").replace("wss:", "ws:").replace(" with TLS", "");
    }
    assert_eq!(ready[0], "im-server ready");
    let field = |line: usize, start: &str, end: &str| {
        ready[line]
            .strip_prefix(start)
            .and_then(|rest| rest.strip_suffix(end))
            .and_then(|address| address.parse().ok())
            .unwrap_or_else(|| panic!("unexpected line {:?}", ready[line]))
    };
    let http = field(1, "  web chat   http://", "/");
    assert_eq!(field(2, "  websocket  ws://", "/ws"), http);
    let stomp = field(3, "  stomp      ", "");
    assert!(ready[4].starts_with("  data       "), "{:?}", ready[4]);
    (child, http, stomp)
}
