//! The chat that docs/embed.md makes from an empty application, by its commands and files as they stand there.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use crate::common::load::until;
use crate::common::server::free_address;
use crate::driver::{Browser, Driver, Look};

const PAGE: &str = include_str!("../../../../docs/embed.md");

/// A program that ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn section() -> &'static str {
    let (_, rest) = PAGE.split_once("\n## From an empty application\n").expect("the section");
    rest.split("\n## ").next().expect("text")
}

/// A block of the section.
fn block(language: &str) -> &'static str {
    let (_, rest) = section().split_once(&format!("\n```{language}\n")).expect("the block");
    rest.split_once("\n```").expect("its end").0
}

fn bash(folder: &Path, target: &Path, script: &str) {
    let status = Command::new("bash")
        .args(["-euc", script])
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", target)
        .status()
        .expect("bash");
    assert!(status.success(), "{script}");
}

#[tokio::test]
#[ignore = "needs chromium, chromedriver, npm and the registries of crates and of npm"]
async fn a_chat_is_made_from_an_empty_application() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("root");
    let folder = tempfile::tempdir().expect("a folder");
    symlink(&root, folder.path().join("stomp-im")).expect("a link");
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("from-nothing");
    let lines = section().lines().filter_map(|line| line.strip_prefix("    "));
    let commands: Vec<_> =
        lines.filter(|line| line.starts_with("cargo ") || line.starts_with("npm ")).collect();
    assert!(commands.len() > 3, "{commands:?}");
    bash(folder.path(), &target, &commands.join("\n"));

    let shop = folder.path().join("shop");
    let address = free_address();
    let program = block("rust,no_run").replace("127.0.0.1:8080", &address.to_string());
    fs::write(shop.join("src/main.rs"), program).expect("a file");
    fs::write(shop.join("page.html"), block("html")).expect("a file");
    // With the versions that all else here is tested with.
    fs::copy(root.join("Cargo.lock"), shop.join("Cargo.lock")).expect("a copy");
    bash(&shop, &target, "cargo build");
    let program = Command::new(target.join("debug/shop")).current_dir(&shop).spawn();
    let _running = Running(program.expect("the program"));
    until("it listens", || TcpStream::connect(address).is_ok());

    let driver = Driver::start();
    let alice = Browser::new(&driver, Look::DESKTOP).await;
    let bob = Browser::new(&driver, Look::PHONE).await;
    for (browser, name) in [(&alice, "alice"), (&bob, "bob")] {
        browser.goto(&format!("http://{address}/")).await;
        browser.write("#login input", name).await;
        browser.click("#login button").await;
        browser.until("it is signed in", "return !document.forms[1].hidden", vec![]).await;
    }
    alice.write("[name=to]", "bob").await;
    alice.write("[name=text]", "hello").await;
    alice.click("#chat button").await;
    let asked = "return document.querySelector('#messages').innerText === 'alice: hello'";
    bob.until("it has the message", asked, vec![]).await;
    crate::assert_no_errors(&[&alice, &bob]).await;
}
