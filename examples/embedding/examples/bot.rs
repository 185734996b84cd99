//! A bot: answers who writes to it. Any server, any STOMP library would do.
//!
//! `cargo run -p embedding --example bot -- ws://127.0.0.1:8080/ws echo SECRET`

use embedding::Failure;
use stomp_codec::server::AckMode;
use stomp_ws::client::{Client, ConnectOptions};

/// Answers until the connection ends.
async fn answer(client: &Client) -> Result<(), Failure> {
    let me = client.connected_header("user-name").unwrap_or_default().into_owned();
    let (mut inbox, _) =
        client.subscribe("/inbox").ack(AckMode::ClientIndividual).confirmed().await?;
    loop {
        let message = inbox.recv().await?;
        let header = |name| message.header(name).unwrap_or_default().into_owned();
        // Not signals, not what it said itself, and in groups only what is said to it.
        let direct = header("conversation").starts_with("direct:");
        if header("kind") == "message" && header("from") != me && direct {
            let text = format!("you said: {}", String::from_utf8_lossy(message.body()));
            // Should it die before the acknowledgement, the message comes again, and its answer is known by this key.
            let key = format!("answer-{}", header("message-id"));
            let to = format!("/user/{}", header("from"));
            client.send(&to, text).header("idempotency-key", &key).confirmed().await?;
        }
        client.ack(&message).confirmed().await?;
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(name), Some(secret)) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("bot URL NAME PASSWORD".into());
    };
    let client = Client::connect(&url, ConnectOptions::new().credentials(name, secret)).await?;
    answer(&client).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_answers() -> Result<(), Failure> {
        let url = embedding::chat(&["alice", "echo"]).await?;
        let options = |name: &str| ConnectOptions::new().credentials(name, "secret");
        let bot = Client::connect(&url, options("echo")).await?;
        tokio::spawn(async move { answer(&bot).await });
        let alice = Client::connect(&url, options("alice")).await?;
        let (mut inbox, _) = alice.subscribe("/inbox").confirmed().await?;
        alice.send("/user/echo", "hello").confirmed().await?;
        loop {
            let message = inbox.recv().await?;
            if message.header("from").as_deref() == Some("echo") && message.header("seq").is_some()
            {
                assert_eq!(message.body(), b"you said: hello");
                return Ok(());
            }
        }
    }
}
