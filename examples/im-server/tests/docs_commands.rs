//! The curl commands of docs/api.md and docs/operate.md do what they say, as they stand there.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::process::Command;

use common::server::Server;
use serde_json::Value;

const API: &str = include_str!("../../../docs/api.md");
const OPERATE: &str = include_str!("../../../docs/operate.md");

/// The indented commands of a section that call REST; one may go on in further lines.
fn calls(page: &str, section: &str) -> Vec<String> {
    let (_, text) = page.split_once(section).expect("the section is there");
    let text = text.split("\n## ").next().expect("text");
    let lines = text.lines().filter_map(|line| line.strip_prefix("    "));
    let lines: Vec<_> = lines.collect();
    let commands = lines.join("\n").replace("\\\n", " ");
    let calls = commands.lines().filter(|line| line.starts_with("curl ") && line.contains("/api/"));
    calls.map(str::to_owned).collect()
}

fn run(server: &Server, command: &str, key: &str) -> Value {
    let script = command.replace("127.0.0.1:8080", &server.http.to_string());
    // An answer that refuses is a failure here.
    let script = script.replacen("curl ", "curl -sS --fail-with-body ", 1);
    let output = Command::new("bash").args(["-euc", &script]).env("KEY", key).output();
    let output = output.expect("bash");
    assert!(output.status.success(), "{script}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{script}: {error}"))
}

#[test]
#[ignore = "needs curl"]
fn a_business_system_gets_a_key_sends_and_makes_a_webhook() {
    let server = Server::start(&["--user", "root:SECRET", "--admin", "root"]);
    let [make_key, send] = &calls(API, "## A key\n")[..] else { panic!("other commands") };
    let made = run(&server, make_key, "");
    let key = made["key"].as_str().expect("a key");
    let sent = run(&server, send, key);
    assert_eq!(
        (&sent["conversation"], &sent["duplicate"]),
        (&"direct:billing:bob".into(), &false.into())
    );
    assert_eq!(run(&server, send, key)["duplicate"], true);
    let [make_webhook] = &calls(API, "## Webhooks\n")[..] else { panic!("other commands") };
    let secret = &run(&server, make_webhook, "")["secret"];
    assert!(secret.as_str().is_some_and(|secret| secret.starts_with("whsec_")), "{secret}");
}

#[test]
#[ignore = "needs curl"]
fn an_administrator_looks_who_is_connected() {
    let server = Server::start(&["--user", "root:SECRET", "--admin", "root"]);
    let calls = calls(OPERATE, "## Who is connected\n");
    let answers: Vec<_> = calls.iter().map(|call| run(&server, call, "")).collect();
    let [sessions, slow, destinations, ended, key] = &answers[..] else { panic!("other commands") };
    assert_eq!(key["scopes"], serde_json::json!(["operate"]));
    for (page, list) in [(sessions, "sessions"), (slow, "sessions"), (destinations, "destinations")]
    {
        assert!(page[list].is_array(), "{page}");
    }
    assert_eq!(ended["ended"], 0);
}
