//! A chat in the terminal: `@bob hello` writes to bob, `#ops hello` to a group; what comes is printed.
//!
//! `cargo run -p embedding --example terminal_chat -- ws://127.0.0.1:8080/ws alice SECRET`

use std::io::{BufRead as _, stdin};

use embedding::Failure;
use stomp_codec::server::AckMode;
use stomp_ws::client::{Client, ConnectOptions};
use tokio::sync::mpsc;

/// Where a line goes, and what it says.
fn parse(line: &str) -> Option<(String, &str)> {
    let (to, text) = line.trim().split_once(' ')?;
    match to.split_at_checked(1)? {
        ("@", name) => Some((format!("/user/{name}"), text)),
        ("#", name) => Some((format!("/group/{name}"), text)),
        _ => None,
    }
}

/// Until there are no more lines, or the connection ends.
async fn chat(
    client: &Client,
    mut lines: mpsc::Receiver<String>,
    mut show: impl FnMut(String),
) -> Result<(), Failure> {
    let (mut inbox, _) =
        client.subscribe("/inbox").ack(AckMode::ClientIndividual).confirmed().await?;
    loop {
        tokio::select! {
            line = lines.recv() => {
                let Some(line) = line else { return Ok(()) };
                match parse(&line) {
                    Some((to, text)) => {
                        client.send(&to, text.to_owned()).confirmed().await?;
                    }
                    None => show("write @NAME TEXT or #GROUP TEXT".to_owned()),
                }
            }
            message = inbox.recv() => {
                let message = message?;
                if message.header("kind").as_deref() == Some("message") {
                    let header = |name| message.header(name).unwrap_or_default();
                    let text = String::from_utf8_lossy(message.body());
                    show(format!("{} {}: {text}", header("conversation"), header("from")));
                }
                // Now this device has it: the server forgets it.
                client.ack(&message).confirmed().await?;
            }
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(name), Some(secret)) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("terminal_chat URL NAME PASSWORD".into());
    };
    let options = ConnectOptions::new().credentials(name, secret).header("device", "terminal");
    let client = Client::connect(&url, options).await?;
    let (sender, lines) = mpsc::channel(16);
    // A thread of its own: reading a terminal cannot be cancelled.
    std::thread::spawn(move || {
        for line in stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    chat(&client, lines, |line| println!("{line}")).await?;
    client.disconnect().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_one_types_the_other_reads() -> Result<(), Failure> {
        let url = embedding::chat(&["alice", "bob"]).await?;
        let start = async |name: &str| -> Result<_, Failure> {
            let options = ConnectOptions::new().credentials(name, "secret");
            let client = Client::connect(&url, options).await?;
            let (typed, lines) = mpsc::channel(1);
            let (show, shown) = mpsc::unbounded_channel();
            let show = move |line| drop(show.send(line));
            tokio::spawn(async move { chat(&client, lines, show).await });
            Ok((typed, shown))
        };
        let (_quiet, mut bobs) = start("bob").await?;
        let (alice, mut alices) = start("alice").await?;
        alice.send("hello".to_owned()).await?;
        assert_eq!(alices.recv().await.as_deref(), Some("write @NAME TEXT or #GROUP TEXT"));
        alice.send("@bob good morning".to_owned()).await?;
        assert_eq!(bobs.recv().await.as_deref(), Some("direct:alice:bob alice: good morning"));
        Ok(())
    }
}
