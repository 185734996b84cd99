//! The table of what each broker can do, in docs/brokers.md, is what the conformance kit has shown.
//!
//! Each backend has a test that compares its column with what the backend declares; that this is so
//! the suites of the kit show. With `CAPABILITIES=write` the test proves it itself and writes the column.

#![allow(clippy::unwrap_used, clippy::panic)]

mod in_process;

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Mutex;

use in_process::{EmbeddedHarness, MemoryHarness};
use mq_bridge::Capability;
use mq_bridge::testkit::{Harness, prove};

/// The columns, from left to right.
const BACKENDS: [&str; 7] =
    ["memory", "embedded", "rabbitmq", "nats", "redis", "activemq", "rabbitmq-stomp"];
const BEGIN: &str = "<!-- capabilities -->\n";
const END: &str = "<!-- /capabilities -->\n";

/// The rows, and what they mean; the last two are no capabilities.
fn rows() -> Vec<(String, &'static str)> {
    let capabilities = Capability::ALL.into_iter().map(|one| (format!("`{one}`"), means(one)));
    let others = [
        ("largest message", "headers and body together, as the test runs it"),
        ("several nodes", "several broker objects over the same broker"),
    ];
    capabilities.chain(others.map(|(name, means)| (name.to_owned(), means))).collect()
}

fn means(capability: Capability) -> &'static str {
    match capability {
        Capability::Durable => {
            "what is confirmed survives the death of the broker and of the program"
        }
        Capability::DurableAck => "what is acknowledged stays so, whatever dies",
        Capability::Order => {
            "messages of one publisher to one destination come in the order of the calls"
        }
        Capability::DeliveryCount => "the count of a delivery is exact",
        Capability::DeadLetter => {
            "refused messages go to a queue of their own, and with `delivery-count` poisonous ones"
        }
        Capability::Priority => "urgent messages overtake",
        Capability::Expiry => "expired messages are not delivered",
        Capability::Takeover => "a new consumer can end the others",
        Capability::AtomicBatch => "a batch is published whole or not at all",
        Capability::Depth => "it tells how much waits, and who consumes",
        _ => panic!("say what `{capability}` means"),
    }
}

fn octets(count: usize) -> String {
    match count {
        _ if count.is_multiple_of(1 << 20) => format!("{} MiB", count >> 20),
        _ if count.is_multiple_of(1 << 10) => format!("{} KiB", count >> 10),
        _ => count.to_string(),
    }
}

/// Compares a backend's column of the table with what it declares, or writes it with what it proves;
/// a backend in this process, for which that takes no time, proves it always.
async fn check<H: Harness, F: Future<Output = H>>(backend: &str, start: impl Fn() -> F) {
    let writing = env::var_os("CAPABILITIES").is_some_and(|value| value == "write");
    let mut harness = start().await;
    let capabilities = if writing || !harness.reconnects() {
        prove(&start).await.unwrap_or_else(|failure| panic!("{backend}: {failure}"))
    } else {
        harness.broker().capabilities()
    };
    let yes_or_no = |yes: bool| if yes { "yes" } else { "-" }.to_owned();
    let mut cells: Vec<String> =
        Capability::ALL.into_iter().map(|one| yes_or_no(capabilities.has(one))).collect();
    cells.push(octets(capabilities.max_message()));
    cells.push(yes_or_no(harness.another().await.is_some()));

    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/brokers.md");
    // One column at a time.
    static WRITING: Mutex<()> = Mutex::new(());
    let _one = WRITING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (table, after) = rest.split_once(END).unwrap();
    let mut columns = Columns::parse(table);
    columns.set(backend, cells);
    let (found, expected) = (table, columns.render());
    if writing {
        fs::write(&path, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
    } else {
        assert_eq!(found, expected, "docs/brokers.md: CAPABILITIES=write writes what was found");
    }
}

/// What the backends have in each row.
struct Columns(Vec<(String, Vec<String>)>);

impl Columns {
    fn parse(table: &str) -> Self {
        let mut lines = table.lines().filter(|line| line.starts_with('|') && !line.contains("---"));
        let cells = |line: &str| -> Vec<String> {
            line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
        };
        let heads = lines.next().map(cells).unwrap_or_default();
        let lines: Vec<_> = lines.map(cells).collect();
        // Between the first, which names the row, and the last, which says what it means.
        let backends = 1..heads.len().saturating_sub(1);
        Self(
            backends
                .map(|column| {
                    let cell = |line: &Vec<String>| line.get(column).cloned().unwrap_or_default();
                    (heads[column].clone(), lines.iter().map(cell).collect())
                })
                .collect(),
        )
    }

    fn set(&mut self, backend: &str, cells: Vec<String>) {
        match self.0.iter_mut().find(|(name, _)| name == backend) {
            Some(column) => column.1 = cells,
            None => self.0.push((backend.to_owned(), cells)),
        }
        let place = |name: &str| BACKENDS.iter().position(|one| *one == name);
        self.0.sort_by_key(|(name, _)| place(name));
    }

    fn render(&self) -> String {
        let names = self.0.iter().map(|(name, _)| format!(" {name} |")).collect::<String>();
        let mut table = format!("| capability |{names} means |\n");
        writeln!(table, "|---|{}---|", "---|".repeat(self.0.len())).unwrap();
        for (index, (name, means)) in rows().iter().enumerate() {
            let cell = |(_, cells): &(String, Vec<String>)| {
                format!(" {} |", cells.get(index).map_or("", String::as_str))
            };
            let cells = self.0.iter().map(cell).collect::<String>();
            writeln!(table, "| {name} |{cells} {means} |").unwrap();
        }
        table
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory() {
    check("memory", MemoryHarness::start).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded() {
    check("embedded", EmbeddedHarness::start).await;
}

#[cfg(all(feature = "redis", feature = "servers"))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server"]
async fn redis() {
    use mq_bridge::testkit::{ServerHarness, servers};
    use mq_bridge::{Redis, RedisConfig, RedisDurability};

    let start = || {
        ServerHarness::start(servers::Redis::start(), |server| {
            let config = RedisConfig::new(server.url());
            Redis::open(config.with_durability(RedisDurability::Required))
        })
    };
    check("redis", start).await;
}

#[cfg(all(feature = "rabbitmq", feature = "servers"))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn rabbitmq() {
    use mq_bridge::testkit::{ServerHarness, servers};
    use mq_bridge::{RabbitMq, RabbitMqConfig};

    let start = || {
        ServerHarness::start(servers::RabbitMq::start(), |server| {
            RabbitMq::open(RabbitMqConfig::new(server.amqp_url()))
        })
    };
    check("rabbitmq", start).await;
}

#[cfg(all(feature = "nats", feature = "servers"))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nats-server"]
async fn nats() {
    use mq_bridge::testkit::{ServerHarness, servers};
    use mq_bridge::{Nats, NatsConfig};

    let start = || {
        let server = servers::Nats::start(servers::NatsVersion::Current);
        ServerHarness::start(server, |server| Nats::open(NatsConfig::new(server.url())))
    };
    check("nats", start).await;
}

#[cfg(all(feature = "stomp", feature = "servers"))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn rabbitmq_stomp() {
    use mq_bridge::testkit::{ServerHarness, servers};
    use mq_bridge::{StompRelay, StompRelayConfig};

    let start = || {
        ServerHarness::start(servers::RabbitMq::start(), |server| {
            StompRelay::open(StompRelayConfig::new(server.stomp_url()))
        })
    };
    check("rabbitmq-stomp", start).await;
}

#[cfg(all(feature = "stomp", feature = "servers"))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs activemq"]
async fn activemq() {
    use mq_bridge::testkit::{ServerHarness, servers};
    use mq_bridge::{StompRelay, StompRelayConfig};

    let start = || {
        ServerHarness::start(servers::ActiveMq::start(), |server| {
            StompRelay::open(StompRelayConfig::new(format!("stomp://{}", server.stomp_nio_addr())))
        })
    };
    check("activemq", start).await;
}

#[test]
fn a_column_that_drifted_is_found() {
    let mut columns = Columns(Vec::new());
    let rows = rows().len();
    columns.set("nats", vec!["yes".to_owned(); rows]);
    columns.set("redis", vec!["-".to_owned(); rows]);
    let table = columns.render();
    let mut parsed = Columns::parse(&table);
    assert_eq!(parsed.render(), table);
    parsed.set("redis", vec!["yes".to_owned(); rows]);
    assert_ne!(parsed.render(), table);
}
