//! A page that was written for Spring's broker, and the service behind it: docs/migrate-from-spring.md.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use common::server::{Server, password};
use common::wire::Wire;

/// The rules of the page.
fn rules() -> Vec<&'static str> {
    let page = include_str!("../../../docs/migrate-from-spring.md");
    let (_, rest) = page.split_once("allow = [").expect("rules");
    let (rules, _) = rest.split_once("\n]").expect("their end");
    let rules = rules.lines().filter_map(|line| line.trim().strip_prefix('"')?.strip_suffix("\","));
    rules.collect()
}

#[test]
#[ignore = "needs node and @stomp/stompjs"]
fn a_client_of_user_destinations_is_moved_over_unchanged() {
    let mut arguments = Vec::new();
    for rule in rules() {
        arguments.extend(["--allow", rule]);
    }
    assert_eq!(arguments.len(), 10, "{arguments:?}");
    let users = ["pricing", "orders"].map(|name| format!("{name}:{}", password(name)));
    for user in &users {
        arguments.extend(["--user", user]);
    }
    let server = Server::start(&arguments);
    let mut orders = Wire::sign_in(&server, "orders", "service");
    orders.subscribe("o", "/queue/orders", &[("ack", "client-individual")]);

    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut page = Command::new("node")
        .arg(root.join("tests/clients/spring.mjs"))
        .arg(root.join("../../.tools/node"))
        .args([&server.ws_url(), "alice", &password("alice")])
        .stdout(Stdio::piped())
        .spawn()
        .expect("node; .ci/install installs it");
    let mut lines = BufReader::new(page.stdout.take().expect("piped")).lines();
    let mut line = || lines.next().expect("a line").expect("UTF-8");
    assert_eq!(line(), "ready");

    let order = orders.message_of("o");
    assert_eq!((order.header("from"), order.text()), ("alice", "{\"item\":\"tea\"}"));
    let mut pricing = Wire::sign_in(&server, "pricing", "service");
    pricing.send("/topic/prices", "42", &[]);
    assert_eq!(line(), "price 42");
    let to = format!("/user/{}/queue/replies", order.header("from"));
    orders.send(&to, "{\"state\":\"shipped\"}", &[]);
    orders.ack(&order);
    assert_eq!(line(), "reply shipped");
    assert!(page.wait().expect("ends").success());
}
