//! Settings: the file, then the environment, then the command line; what is wrong is told, and trying them touches
//! nothing.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

use common::server::Server;
use common::wire::Wire;

fn im_server(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_im-server"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("IM_")) {
        command.env_remove(name);
    }
    command.current_dir(folder);
    command
}

/// Runs it to its end; gives its exit code, its output and what it said of errors.
fn outcome(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("runs");
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    (status.code().expect("a code"), text(&stdout), text(&stderr))
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = "rest-rate = 1\nkeep-days = 1\nkeep-messages = 1\nopen = true\nno-signup = true\n\
                admin = [\"carol\"]\nuser = [\"alice:from-file\"]\n";
    fs::write(folder.path().join("im.toml"), file).expect("written");
    let (code, shown, said) = outcome(
        im_server(folder.path())
            .args(["--config", "im.toml", "--check-config", "--rest-rate", "3", "--open=false"])
            .args(["--admin", "alice", "--admin", "bob", "--store-only", "metadata direct:*"])
            .envs([("IM_REST_RATE", "2"), ("IM_KEEP_DAYS", "2"), ("IM_USER", "dave:x eve:y")]),
    );
    assert_eq!(code, 0, "{said}");
    for line in [
        "rest-rate = 3",
        "keep-days = 2",
        "store-only = [\"metadata direct:*\"]",
        "keep-messages = 1",
        "open = false",
        "no-signup = true",
        "admin = [\"alice\", \"bob\"]",
        "user = [\"dave:...\", \"eve:...\"]",
        "max-attachment = 25",
        "http = \"127.0.0.1:8080\"",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "no {line} in\n{shown}");
    }
    let (code, shown, _) =
        outcome(im_server(folder.path()).arg("--check-config").env("IM_CONFIG", "im.toml"));
    assert!(code == 0 && shown.contains("rest-rate = 1\n"), "{shown}");
}

#[test]
fn settings_that_cannot_be_are_refused_with_the_place_and_nothing_is_touched() {
    let folder = tempfile::tempdir().expect("temporary folder");
    for (file, expected) in [
        ("open = true\nopne = true\n", "im.toml:2: unknown field `opne`"),
        ("\nhttp = 8080\n", "im.toml:2: "),
        ("user = [\"a b:hunter2\"]\n", "--user: "),
        ("admin = [\"a/b\"]\n", "--admin: "),
        ("allow-origin = [\"chat.example\"]\n", "--allow-origin: "),
        ("interceptor = \"ftp://x\"\n", "--interceptor: "),
        (
            "interceptor = \"http://x\"\ninterceptor-secret = \"hunter2\"\n",
            "--interceptor-secret: ",
        ),
        ("allow = [\"read /queue/x\"]\n", "im.toml:1: `read /queue/x`: the actions"),
        ("tls-key = \"key.pem\"\n", "--tls-certificate and --tls-key belong together"),
        (
            "tls-certificate = \"none.pem\"\ntls-key = \"im.toml\"\n",
            "--tls-certificate and --tls-key: cannot read none.pem",
        ),
        ("token-issuer = \"https://x\"\n", "--token-keys belong together"),
        ("token-issuer = \"x\"\ntoken-keys = \"ftp://x\"\n", "--token-keys: "),
        ("authenticator = \"http://x\"\n", "set --no-signup"),
        ("authenticator = \"http://x/\"\nauthenticator-secret = \"hunter2\"\n", "-secret: "),
        ("cookie = \"a b\"\n", "--cookie: "),
        ("guest = [\"read /queue/x\"]\n", "im.toml:1: `read /queue/x`: "),
        ("notifier = \"x\"\n", "--notifier: "),
        ("log = \"a=b=c\"\n", "--log: "),
    ] {
        fs::write(folder.path().join("im.toml"), file).expect("written");
        for check in [&["--check-config"][..], &[]] {
            let (code, shown, said) =
                outcome(im_server(folder.path()).args(["--config", "im.toml"]).args(check));
            assert_eq!(code, 2, "{file}: {said}");
            assert!(said.contains(expected), "{file}: {said}");
            assert!(!said.contains("hunter2") && shown.is_empty(), "{said}{shown}");
        }
    }
    let (code, _, said) = outcome(im_server(folder.path()).args(["--config", "none.toml"]));
    assert!(code == 2 && said.contains("none.toml"), "{said}");

    // A valid one is not acted on either, here with an address that is taken.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let (code, shown, said) = outcome(im_server(folder.path()).args([
        "--check-config",
        "--http",
        &address,
        "--data",
        "there",
    ]));
    assert!(code == 0 && shown.contains(&address), "{said}");
    let left = fs::read_dir(folder.path()).expect("a folder").map(|entry| entry.expect("an entry"));
    let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["im.toml"]);
}

#[test]
fn init_writes_a_file_that_the_server_takes_and_overwrites_none() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (code, written, said) = outcome(im_server(folder.path()).arg("init"));
    assert_eq!((code, written.as_str()), (0, "wrote im-server.toml\n"), "{said}");
    let path = folder.path().join("im-server.toml");
    let text = fs::read_to_string(&path).expect("read");

    let (_, defaults, _) = outcome(im_server(folder.path()).arg("--check-config"));
    let (code, shown, said) =
        outcome(im_server(folder.path()).args(["--check-config", "--config", "im-server.toml"]));
    assert_eq!((code, shown), (0, defaults), "{said}");

    let (code, _, said) = outcome(im_server(folder.path()).arg("init"));
    assert!(code == 1 && said.contains("im-server.toml"), "{said}");
    assert_eq!(fs::read_to_string(&path).expect("read"), text);
}

#[test]
fn a_server_runs_from_a_file() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("im.toml");
    fs::write(&path, "no-signup = true\nbroker = \"memory\"\nstore = \"memory\"\n").expect("file");
    let server = Server::start(&["--config", path.to_str().expect("UTF-8")]);
    let body = serde_json::json!({"name": "dave", "password": "long enough"});
    assert_eq!(server.api("", "POST", "/users", Some(&body)).0, 403);
}

/// P8: what a rule allows, and nothing else.
#[test]
fn users_may_do_what_the_rules_in_the_file_allow() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("im.toml");
    let rules = r##"allow = ["subscribe /topic/news.#", "alice: send /topic/news.*"]"##;
    fs::write(&path, rules).expect("file");
    let server = Server::start(&["--config", path.to_str().expect("UTF-8")]);
    let mut bob = Wire::sign_in(&server, "bob", "phone");
    bob.frame("SUBSCRIBE", &[("id", "1"), ("destination", "/topic/news.#"), ("receipt", "1")], "");
    bob.receipt("1");
    let mut alice = Wire::sign_in(&server, "alice", "desk");
    alice.frame("SEND", &[("destination", "/topic/news.today"), ("receipt", "2")], "rain");
    alice.receipt("2");
    assert_eq!(bob.message().text(), "rain");

    for (user, command, destination) in [
        ("bob", "SEND", "/topic/news.today"),
        ("alice", "SEND", "/topic/news"),
        ("alice", "SUBSCRIBE", "/topic/#"),
        ("alice", "SUBSCRIBE", "/queue/news.today"),
    ] {
        let mut wire = Wire::sign_in(&server, user, "other");
        wire.frame(command, &[("id", "1"), ("destination", destination)], "");
        let error = wire.error_and_close();
        assert!(error.header("message").contains("not open"), "{destination}: {error:?}");
    }
}

/// An endpoint that refuses whatever holds "spam", and gives the head of the last question.
fn moderator() -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/ask", listener.local_addr().expect("an address"));
    let asked = thread::spawn(move || {
        let mut question = String::new();
        for answer in [r#"{"action":"allow"}"#, r#"{"action":"refuse","reason":"no spam"}"#] {
            let (mut stream, _) = listener.accept().expect("a question");
            let mut octets = Vec::new();
            let mut part = [0; 1024];
            while !octets.ends_with(b"}") {
                let read = stream.read(&mut part).expect("read");
                octets.extend_from_slice(&part[..read]);
            }
            let length = answer.len();
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{answer}")
                .expect("answered");
            question = String::from_utf8_lossy(&octets).into_owned();
        }
        question
    });
    (url, asked)
}

#[test]
fn messages_are_shown_to_the_interceptor_and_refused_while_it_is_away() {
    let (url, asked) = moderator();
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let server = Server::start(&["--interceptor", url.as_str(), "--interceptor-secret", secret]);
    let mut bob = Wire::inbox(&server, "bob", "phone");
    let mut alice = Wire::sign_in(&server, "alice", "desk");
    alice.send("/user/bob", "hello", &[]);
    assert_eq!(bob.message().text(), "hello");
    alice.frame("SEND", &[("destination", "/user/bob"), ("receipt", "1")], "spam");
    assert!(alice.error_and_close().header("message").contains("no spam"));
    let question = asked.join().expect("two questions");
    assert!(question.contains("\"body\":\"spam\"") && question.contains("webhook-signature: v1,"));

    let mut alice = Wire::sign_in(&server, "alice", "desk");
    alice.frame("SEND", &[("destination", "/user/bob"), ("receipt", "1")], "anybody?");
    assert_eq!(alice.error_and_close().find("retry"), Some("true"));
}
