//! Starting the server as the pages say it: their commands and settings files, as they stand there.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use common::server::{Server, password};

const OPERATE: &str = include_str!("../../../docs/operate.md");
const README: &str = include_str!("../../../README.md");

/// Every page: the README, and all of `docs`.
fn pages() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let docs = std::fs::read_dir(root.join("docs")).expect("docs");
    let docs = docs.map(|entry| entry.expect("an entry").path());
    let pages = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let pages = pages.chain([root.join("README.md")]);
    pages.map(|path| (path.clone(), std::fs::read_to_string(path).expect("a page"))).collect()
}

/// The indented commands of a text, each in one line.
fn commands(text: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("    ")).map(str::trim_start);
    let lines: Vec<_> = lines.collect();
    lines.join("\n").replace("\\\n", " ").lines().map(str::to_owned).collect()
}

/// The commands of a section.
fn section(page: &str, heading: &str) -> Vec<String> {
    let (_, text) = page.split_once(heading).expect("the section is there");
    commands(text.split("\n## ").next().expect("text"))
}

/// Runs commands of a page: `im-server` is the one that was built, on ports of its own.
fn bash(folder: &Path, script: &str) -> Command {
    let built = Path::new(env!("CARGO_BIN_EXE_im-server")).parent().expect("a folder");
    let path = std::env::var("PATH").expect("PATH");
    let mut command = Command::new("bash");
    command.args(["-euc", script]).current_dir(folder);
    command.env("PATH", format!("{}:{path}", built.display()));
    command.envs([("IM_HTTP", "127.0.0.1:0"), ("IM_STOMP", "127.0.0.1:0")]);
    command
}

fn run(folder: &Path, script: &str) -> Output {
    let output = bash(folder, script).output().expect("bash");
    assert!(output.status.success(), "{script}: {output:?}");
    output
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a command that starts a server, until it says where the page is.
fn start(folder: &Path, command: &str) -> (Running, String) {
    let child = bash(folder, &format!("exec {command}")).stdout(Stdio::piped()).spawn();
    let mut server = Running(child.expect("bash"));
    let output = BufReader::new(server.0.stdout.take().expect("piped"));
    let mut lines = output.lines().map_while(Result::ok);
    let page = lines.find_map(|line| Some(line.trim().strip_prefix("web chat")?.trim().to_owned()));
    (server, page.expect("it says where the page is"))
}

#[test]
#[ignore = "needs bash"]
fn every_command_that_starts_the_server_is_understood() {
    let mut tried = 0;
    for (path, text) in pages() {
        for command in commands(&text) {
            let command = command.replace("cargo run --release -p im-server -- ", "im-server ");
            // What has a place to fill in, and what has tests of its own.
            let is_other =
                ["...", "--config", "--tls-", "--help"].iter().any(|part| command.contains(part));
            if !command.starts_with("im-server --") || is_other {
                continue;
            }
            let folder = tempfile::tempdir().expect("temporary folder");
            println!("{}: {command}", path.display());
            run(folder.path(), &format!("{command} --check-config"));
            tried += 1;
        }
    }
    assert!(tried >= 6, "only {tried} commands were found");
}

#[test]
#[ignore = "needs bash"]
fn every_settings_file_of_the_pages_is_understood() {
    let mut tried = 0;
    for page in ["operate.md", "migrate-from-spring.md", "migrate-from-rabbitmq-web-stomp.md"] {
        let (path, text) = pages().into_iter().find(|(path, _)| path.ends_with(page)).expect(page);
        for block in text.split("```toml\n").skip(1) {
            let settings = block.split("```").next().expect("its end");
            let folder = tempfile::tempdir().expect("temporary folder");
            std::fs::write(folder.path().join("im.toml"), settings).expect("written");
            println!("{}: {settings}", path.display());
            run(folder.path(), "im-server --config im.toml --check-config");
            tried += 1;
        }
    }
    assert_eq!(tried, 3);
}

#[test]
#[ignore = "needs bash"]
fn a_settings_file_is_written_tried_and_used() {
    let commands = section(OPERATE, "## Settings\n");
    let [init, check, serve, _error] = &commands[..] else {
        panic!("other commands: {commands:?}")
    };
    let folder = tempfile::tempdir().expect("temporary folder");
    run(folder.path(), init);
    let shown = run(folder.path(), check).stdout;
    assert!(String::from_utf8_lossy(&shown).contains("max-connections = 100000"));
    let (_server, page) = start(folder.path(), serve);
    assert!(page.starts_with("http://127.0.0.1:"), "{page}");
}

#[test]
#[ignore = "needs openssl and curl"]
fn a_certificate_is_made_and_served_with() {
    let commands = section(OPERATE, "## TLS\n");
    let [make, serve, call] = &commands[..] else { panic!("other commands: {commands:?}") };
    let folder = tempfile::tempdir().expect("temporary folder");
    run(folder.path(), make);
    let (_server, page) = start(folder.path(), serve);
    let (_, port) = page.trim_end_matches('/').rsplit_once(':').expect("a port");
    let answer = run(folder.path(), &call.replace("8080", port)).stdout;
    assert_eq!(answer, b"ok\n");
}

#[test]
#[ignore = "needs bash"]
fn bash_alone_is_a_client() {
    let server = Server::start(&[]);
    let script = section(README, "## In ten lines\n").join("\n");
    let script = script.replace("/127.0.0.1/61613", &format!("/127.0.0.1/{}", server.stomp.port()));
    let script = script.replace("passcode:secret", &format!("passcode:{}", password("alice")));
    // The page waits a second for the answers, and ends the wait.
    let output = Command::new("bash").args(["-uc", &script]).output().expect("bash");
    let answers = String::from_utf8_lossy(&output.stdout);
    assert!(answers.contains("CONNECTED\n") && answers.contains("RECEIPT\n"), "{answers}");
    assert!(answers.contains("seq:1\n"), "{answers}");
}
