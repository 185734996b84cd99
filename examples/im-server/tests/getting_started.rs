//! Steps 4 and 5 of docs/getting-started.md, as they stand there.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use common::PATIENCE;
use common::server::Server;
use serde_json::Value;

const PAGE: &str = include_str!("../../../docs/getting-started.md");

/// The commands of a section of the page, a block each.
fn blocks(section: &str) -> Vec<String> {
    let start = PAGE.find(section).expect("the section is there");
    let text = &PAGE[start + section.len()..];
    let text = text.split("\n## ").next().expect("text");
    text.split("\n\n")
        .map(|block| block.trim_matches('\n'))
        .filter(|block| block.lines().next().is_some_and(|line| line.starts_with("    ")))
        .map(|block| {
            block.lines().map(|line| line.strip_prefix("    ").unwrap_or(line)).collect::<Vec<_>>()
        })
        .map(|lines| lines.join("\n"))
        .collect()
}

/// The file that a here-document of the page makes. (Blank lines stand in it: it spans blocks.)
fn here_document(file: &str) -> String {
    let start = format!("cat > {file} <<'END'\n");
    let (_, text) = PAGE.split_once(&start).expect("the here-document is there");
    let (text, _) = text.split_once("\n    END\n").expect("its end");
    text.lines().map(|line| line.strip_prefix("    ").unwrap_or(line).to_owned() + "\n").collect()
}

/// The page names the default addresses; the test's server has others.
fn for_server(text: &str, server: &Server) -> String {
    text.replace("127.0.0.1:8080", &server.http.to_string())
        .replace("(\"127.0.0.1\", 61613)", &format!("(\"127.0.0.1\", {})", server.stomp.port()))
}

/// The README shows the example that is compiled, not another one.
#[test]
fn the_program_in_the_readme_is_the_example() {
    let example = include_str!("../../../gateway-core/examples/embed.rs");
    let (_, main) = example.split_once("#[tokio::main]\n").expect("a main function");
    assert!(include_str!("../../../README.md").contains(main));
}

#[test]
#[ignore = "needs curl"]
fn step_5_curl_sends_to_a_person_and_to_a_group_and_reads_history() {
    let server = Server::start(&[]);
    let mut answers = Vec::new();
    for block in blocks("## 5. curl") {
        let script = for_server(&block, &server);
        let output = Command::new("bash").args(["-euc", &script]).output().expect("bash");
        assert!(output.status.success(), "{script}: {output:?}");
        let answer = String::from_utf8(output.stdout).expect("UTF-8");
        let answer: Value = serde_json::from_str(&answer)
            .unwrap_or_else(|error| panic!("{script}\nanswered {answer:?}: {error}"));
        answers.push(answer);
    }
    let [to_bob, group, to_group, with_bob, in_group, conversations] = &answers[..] else {
        panic!("the section has other commands now: {answers:?}");
    };
    assert_eq!(to_bob["conversation"], "direct:alice:bob");
    assert_eq!(group["name"], "ops");
    assert_eq!(to_group["conversation"], "group:ops");
    assert_eq!(with_bob["messages"][0]["body"], "hello from curl");
    assert_eq!(with_bob["messages"][0]["id"], to_bob["message_id"]);
    let in_group = in_group["messages"].as_array().expect("messages");
    assert_eq!(in_group.last().expect("a message")["body"], "hello all");
    assert_eq!(conversations["conversations"][0]["id"], "group:ops");
    assert_eq!(conversations["conversations"][1]["id"], "direct:alice:bob");
}

#[test]
#[ignore = "needs node, python and their libraries"]
fn step_4_node_reads_what_python_sends() {
    let server = Server::start(&[]);
    let folder = tempfile::tempdir().expect("temporary folder");
    let script = for_server(&here_document("bob.mjs"), &server);
    std::fs::write(folder.path().join("bob.mjs"), script).expect("write");
    let python = for_server(&here_document("/tmp/alice.py"), &server);
    #[cfg(unix)]
    std::os::unix::fs::symlink(
        tools("node/node_modules").canonicalize().expect(".ci/install installs it"),
        folder.path().join("node_modules"),
    )
    .expect("link");

    let node = || start(Command::new("node").arg("bob.mjs").current_dir(folder.path()));
    let alice = || {
        let run = Command::new(tools("python/bin/python")).args(["-c", &python]).output();
        let output = run.expect(".ci/install installs it");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };

    let (mut running, lines) = node();
    assert_eq!(alice().trim(), "stored as 1 of direct:alice:bob");
    assert_eq!(lines.recv_timeout(PATIENCE).expect("a line"), "alice 1 hello from Python");
    running.kill().expect("kill");
    running.wait().expect("wait");

    // It waits while the device is away.
    alice();
    let (mut running, lines) = node();
    loop {
        let line = lines.recv_timeout(PATIENCE).expect("a line");
        // The first one comes again if its acknowledgement was on its way when node was killed.
        assert!(line.ends_with("hello from Python"), "{line}");
        if line.starts_with("alice 2 ") {
            break;
        }
    }
    running.kill().expect("kill");
    running.wait().expect("wait");
}

fn start(command: &mut Command) -> (Child, mpsc::Receiver<String>) {
    let mut child = command.stdout(Stdio::piped()).spawn().expect("node");
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        output.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
    });
    (child, lines)
}

fn tools(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools").join(path)
}
