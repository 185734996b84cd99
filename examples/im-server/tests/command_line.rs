//! The program itself: flags, environment, start-up failures that say what to do, and how it ends.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::net::TcpListener;
use std::process::{Command, Output};

use common::http;
use common::server::{Server, password};
use common::websocket::{TEXT, WebSocket};
use common::wire::{Wire, encode};

fn im_server() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_im-server"));
    for name in ["HTTP", "STOMP", "DATA", "BROKER", "STORE", "USER", "OPEN", "NO_SIGNUP", "LOG"] {
        command.env_remove(format!("IM_{name}"));
    }
    command
}

/// Runs it where it must fail; gives what it says.
fn failure(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("runs");
    let said = String::from_utf8_lossy(&stderr).into_owned();
    assert!(!status.success(), "it started: {said}");
    assert!(stdout.is_empty(), "{}", String::from_utf8_lossy(&stdout));
    said
}

#[test]
fn a_start_that_fails_says_what_to_do() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let free = ["--http", "127.0.0.1:0", "--stomp", "127.0.0.1:0", "--data"];
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address").to_string();

    let said = failure(im_server().args(free).arg(folder.path()).args(["--http", &taken]));
    assert!(said.contains("--http"), "a flag given twice: {said}");
    for flag in ["--http", "--stomp"] {
        let other = if flag == "--http" { "--stomp" } else { "--http" };
        let arguments = [flag, taken.as_str(), other, "127.0.0.1:0", "--data"];
        let said = failure(im_server().args(arguments).arg(folder.path()));
        assert!(said.contains(&taken) && said.contains(flag), "{said}");
    }

    let file = folder.path().join("file");
    std::fs::write(&file, "in the way").expect("write");
    let said = failure(im_server().args(free).arg(&file));
    assert!(said.contains("--data") && said.contains("file"), "{said}");

    let said = failure(im_server().args(["--broker", "kafka://guest:hunter2@localhost"]));
    assert!(said.contains("kafka://") && said.contains("embedded"), "{said}");
    assert!(!said.contains("hunter2"), "a password is shown: {said}");
    let said = failure(im_server().args(["--store", "mysql://root:hunter2@localhost/im"]));
    assert!(said.contains("mysql://") && said.contains("sqlite"), "{said}");
    assert!(!said.contains("hunter2"), "a password is shown: {said}");
    let nobody = "postgres://im:hunter2@127.0.0.1:1/chat";
    let said = failure(im_server().args(free).arg(folder.path()).args(["--store", nobody]));
    assert!(said.contains("chat at 127.0.0.1:1"), "{said}");
    assert!(!said.contains("hunter2"), "a password is shown: {said}");
    let said = failure(im_server().args(["--user", "alice"]));
    assert!(said.contains("NAME:PASSWORD"), "{said}");
    let said = failure(im_server().args(free).arg(folder.path()).args(["--user", "a b:secret"]));
    assert!(said.contains("--user") && !said.contains("secret"), "{said}");
    let said =
        failure(im_server().args(free).arg(folder.path()).args(["--allow-origin", "chat.example"]));
    assert!(said.contains("--allow-origin"), "{said}");
    let said = failure(im_server().args(["--http", "8080"]));
    assert!(said.contains("--http"), "{said}");
    let said = failure(im_server().env("IM_BROKER", "carrier-pigeon"));
    assert!(said.contains("--broker"), "{said}");
}

#[test]
fn a_data_folder_serves_one_server_at_a_time() {
    let server = Server::start(&[]);
    let data = server.data();
    let arguments = ["--http", "127.0.0.1:0", "--stomp", "127.0.0.1:0", "--data"];
    let said = failure(im_server().args(arguments).arg(&data));
    assert!(said.contains("in use") && said.contains("--data"), "{said}");
    // The first one has not noticed.
    Wire::inbox(&server, "alice", "desk");
}

#[cfg(unix)]
#[test]
fn what_is_kept_is_closed_to_other_users_of_the_machine() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::start(&[]);
    let mode = |path: &std::path::Path| {
        std::fs::metadata(path).expect("metadata").permissions().mode() & 0o777
    };
    assert_eq!(mode(&server.data()), 0o700);
    for entry in std::fs::read_dir(server.data()).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.to_string_lossy().contains("key") {
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }
}

#[test]
fn help_names_every_flag_with_its_variable_and_default() {
    let output = im_server().arg("--help").env("IM_USER", "alice:hunter2").output().expect("runs");
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).expect("UTF-8");
    for word in [
        "--http",
        "IM_HTTP",
        "127.0.0.1:8080",
        "--stomp",
        "IM_STOMP",
        "127.0.0.1:61613",
        "--data",
        "IM_DATA",
        "im-data",
        "--broker",
        "IM_BROKER",
        "embedded",
        "--store",
        "IM_STORE",
        "sqlite",
        "--user",
        "IM_USER",
        "--open",
        "IM_OPEN",
        "--no-signup",
        "--allow-origin",
        "IM_LOG",
    ] {
        assert!(help.contains(word), "--help does not say {word}:\n{help}");
    }
    assert!(!help.contains("hunter2"), "--help shows a password");
}

#[test]
fn sigterm_closes_sessions_as_going_away_and_ends_with_success() {
    let mut server = Server::start(&[]);
    let mut socket = WebSocket::open(server.http, &[]).expect("switching protocols");
    let passcode = password("alice");
    let headers = [("accept-version", "1.2"), ("login", "alice"), ("passcode", passcode.as_str())];
    socket.send(TEXT, &encode("CONNECT", &headers, b""));
    socket.read().expect("CONNECTED");
    let mut wire = Wire::sign_in(&server, "bob", "desk");
    assert!(server.terminate().success());
    assert_eq!(socket.closing().1, 1001);
    wire.closed();

    // What was promised before is there afterwards.
    server.start_again();
    let mut alice = Wire::sign_in(&server, "alice", "desk");
    alice.send("/user/bob", "before the end", &[]);
    assert!(server.terminate().success());
    server.start_again();
    assert_eq!(Wire::inbox(&server, "bob", "desk").message().text(), "before the end");
}

#[test]
fn sign_up_can_be_turned_off() {
    let body = serde_json::json!({"name": "dave", "password": "long enough"});
    let server = Server::start(&["--no-signup"]);
    assert_eq!(server.api("", "POST", "/users", Some(&body)).0, 403);
    let server = Server::start(&[]);
    assert_eq!(server.api("", "POST", "/users", Some(&body)).0, 201);
    let body = serde_json::json!({"name": "dave", "password": "long enough"});
    assert_eq!(server.api("", "POST", "/tokens", Some(&body)).0, 200);
}

#[test]
fn memory_alone_serves_as_well() {
    let server = Server::start(&["--broker", "memory", "--store", "memory"]);
    let mut bob = Wire::inbox(&server, "bob", "phone");
    let mut alice = Wire::sign_in(&server, "alice", "desk");
    alice.send("/user/bob", "hello", &[]);
    assert_eq!(bob.message().text(), "hello");
}

#[test]
fn a_token_stays_valid_when_the_server_starts_again() {
    let mut server = Server::start(&[]);
    let token = server.token("alice");
    server.kill();
    server.start_again();
    let (status, answer) = server.api(&token, "GET", "/me", None);
    assert_eq!((status, &answer["user"]), (200, &serde_json::json!("alice")));

    // It signs in over STOMP as well, for its own user only.
    let mut wire = Wire::open(server.stomp);
    wire.frame("CONNECT", &[("accept-version", "1.2"), ("passcode", &token)], "");
    wire.frame("SUBSCRIBE", &[("id", "1"), ("destination", "/inbox"), ("receipt", "r")], "");
    wire.receipt("r");
    let mut wire = Wire::open(server.stomp);
    wire.frame("CONNECT", &[("accept-version", "1.2"), ("login", "bob"), ("passcode", &token)], "");
    assert_eq!(wire.error_and_close().header("message"), "authentication failed");
    // It is no password: whoever has it cannot renew it.
    let renew = serde_json::json!({"name": "alice", "password": token});
    assert_eq!(server.api("", "POST", "/tokens", Some(&renew)).0, 401);
}

#[test]
fn the_page_comes_whole_and_with_a_policy_against_foreign_scripts() {
    let server = Server::start(&[]);
    let page = http::request(server.http, "GET", "/", &[], b"");
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.contains("default-src 'self'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    let html = String::from_utf8(page.body).expect("UTF-8");
    // Every file that the page names is there, and none is another server's.
    for attribute in ["src=\"", "href=\""] {
        for part in html.split(attribute).skip(1) {
            let path = part.split('"').next().expect("a value");
            if path.starts_with('#') {
                continue;
            }
            assert!(!path.contains("//"), "{path} is loaded from elsewhere");
            let path = format!("/{}", path.trim_start_matches("./").trim_start_matches('/'));
            let file = http::request(server.http, "GET", &path, &[], b"");
            assert_eq!(file.status, 200, "{path}");
            let etag = file.header("etag").expect("an ETag").to_owned();
            let headers = [("if-none-match", etag.as_str())];
            let again = http::request(server.http, "GET", &path, &headers, b"");
            assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
        }
    }
    let head = http::request(server.http, "HEAD", "/", &[], b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
}
