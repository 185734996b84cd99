//! Against a peer that does as it is told.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bytes::BytesMut;
use stomp_codec::{Command, Decoder, Frame, Item, Limits, Mode, Version, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{StompRelay, StompRelayConfig};
use crate::{Broker, BrokerError, Declaration, RemoteOptions};

/// What the peer answers to a frame: frames, or `None` to hang up.
type Answer = fn(&Frame) -> Option<Vec<Frame>>;

/// Serves every connection in the same way; gives its URL.
async fn peer(answer: Answer) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, answer));
        }
    });
    format!("stomp://user:secret@{place}")
}

async fn serve(mut stream: TcpStream, answer: Answer) {
    let mut decoder = Decoder::new(Mode::Lenient, Limits::DEFAULT);
    let (mut incoming, mut outgoing) = (BytesMut::new(), BytesMut::new());
    loop {
        while let Some(item) = decoder.decode(&mut incoming).unwrap() {
            let Item::Frame(frame) = item else { continue };
            if frame.command() == Command::Connect {
                decoder.set_version(Version::V1_2);
            }
            let Some(answers) = answer(&frame) else { return };
            for one in answers {
                encode(&one, Version::V1_2, &mut outgoing).unwrap();
            }
        }
        if stream.write_all_buf(&mut outgoing).await.is_err()
            || stream.read_buf(&mut incoming).await.unwrap_or(0) == 0
        {
            return;
        }
    }
}

fn connected(server: &str) -> Frame {
    Frame::new(Command::Connected).with_header("version", "1.2").with_header("server", server)
}

fn error(message: &str) -> Frame {
    Frame::new(Command::Error).with_header("message", message)
}

/// What ActiveMQ does with a frame, as far as the relay needs it to open.
fn activemq(frame: &Frame) -> Vec<Frame> {
    let mut answers = Vec::new();
    let header = |name| frame.header(name).unwrap_or_default();
    let message = |destination: &str, subscription: &str| {
        Frame::new(Command::Message)
            .with_header("destination", destination)
            .with_header("message-id", "0")
            .with_header("subscription", subscription)
    };
    match frame.command() {
        Command::Connect => answers.push(connected("ActiveMQ/5.17.2")),
        Command::Subscribe if frame.has_header("browser") => answers
            .push(message(&header("destination"), &header("id")).with_header("browser", "end")),
        Command::Send if header("destination").starts_with("/queue/ActiveMQ.Statistics") => answers
            .push(
                // The first subscription of its connection.
                message("/temp-queue/mq-bridge", "sub-0")
                    .with_header("correlation-id", &header("correlation-id"))
                    .with_body("<map/>"),
            ),
        Command::Send if header("mq-notice") == "sync" => answers.push(
            message("/topic/mq-bridge.control", "sub-0")
                .with_header("mq-notice", "sync")
                .with_header("mq-id", &header("mq-id")),
        ),
        _ => {}
    }
    if let Some(receipt) = frame.header("receipt") {
        answers.push(Frame::new(Command::Receipt).with_header("receipt-id", &receipt));
    }
    answers
}

async fn open(answer: Answer) -> Result<StompRelay, BrokerError> {
    let options = RemoteOptions::new()
        .with_connect_timeout(Duration::from_secs(5))
        .with_patience(Duration::from_millis(300));
    let config = StompRelayConfig::new(peer(answer).await)
        .with_options(options)
        .with_response_timeout(Duration::from_millis(400));
    StompRelay::open(config).await
}

fn reason(outcome: Result<impl std::fmt::Debug, BrokerError>) -> String {
    match outcome.unwrap_err() {
        BrokerError::Refused { reason } => reason.to_string(),
        other => format!("not refused: {other}"),
    }
}

#[tokio::test]
async fn it_opens_where_everything_answers() {
    let relay = open(|frame| Some(activemq(frame))).await.unwrap();
    relay.declare(&Declaration::queue("q")).await.unwrap();
    assert!(relay.health().is_up());
    relay.shutdown().await;
    assert!(!format!("{relay:?}").contains("secret"));
}

#[tokio::test]
async fn another_kind_of_server_is_refused_by_name() {
    let outcome = open(|frame| match frame.command() {
        Command::Connect => Some(vec![connected("ActiveMQ-Artemis/2.31.2")]),
        _ => Some(activemq(frame)),
    });
    assert!(reason(outcome.await).contains("ActiveMQ-Artemis/2.31.2"));
}

#[tokio::test]
async fn refused_credentials_are_not_tried_again() {
    let outcome = open(|_| Some(vec![error("User name [user] or password is invalid.")]));
    assert_eq!(reason(outcome.await), "User name [user] or password is invalid.");
}

#[tokio::test]
async fn a_server_without_statistics_is_refused_with_what_it_needs() {
    let outcome = open(|frame| {
        let asked = frame.header("reply-to").is_some();
        Some(if asked { Vec::new() } else { activemq(frame) })
    });
    assert!(reason(outcome.await).contains("<statisticsBrokerPlugin/>"));
}

#[tokio::test]
async fn a_frame_that_the_server_refuses_fails_with_its_words() {
    let relay = open(|frame| match frame.header("receipt") {
        Some(receipt) if frame.command() == Command::Send => {
            let refusal = error("not authorized to write to: queue://mq-bridge.registry");
            Some(vec![refusal.with_header("receipt-id", &receipt)])
        }
        _ => Some(activemq(frame)),
    })
    .await
    .unwrap();
    let outcome = relay.declare(&Declaration::queue("q")).await;
    assert!(reason(outcome).starts_with("not authorized"));
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_left() {
    let relay = open(|frame| {
        let declares = frame.command() == Command::Send && frame.has_header("mqentry");
        Some(if declares { Vec::new() } else { activemq(frame) })
    })
    .await
    .unwrap();
    let outcome = relay.declare(&Declaration::queue("q")).await;
    assert!(matches!(outcome, Err(BrokerError::Disconnected { .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_server_that_hangs_up_is_tried_again_until_the_time_is_over() {
    let options = RemoteOptions::new().with_connect_timeout(Duration::from_millis(200));
    let config = StompRelayConfig::new(peer(|_| None).await).with_options(options);
    let outcome = StompRelay::open(config).await;
    assert!(matches!(outcome, Err(BrokerError::Disconnected { .. })), "{outcome:?}");
}
