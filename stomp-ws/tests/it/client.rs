//! The client against the test server, over both transports, and against servers that misbehave.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use stomp_codec::Version;
use stomp_codec::server::{self, AckMode, Config};
use stomp_ws::client::{Client, ConnectError, ConnectOptions};
use stomp_ws::{Role, Transport, TransportConfig};
use tokio::task::JoinHandle;

use crate::support::{Seen, serve};

/// A client of the test server, over a WebSocket or over a byte stream in memory.
async fn pair(
    websocket: bool,
    options: ConnectOptions,
) -> (Result<Client, ConnectError>, JoinHandle<Seen>) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let config = TransportConfig::DEFAULT;
    let (near, far) = if websocket {
        (
            Transport::websocket(near, Bytes::new(), Role::Client, config),
            Transport::websocket(far, Bytes::new(), Role::Server, config),
        )
    } else {
        (Transport::stream(near, config), Transport::stream(far, config))
    };
    let server = tokio::spawn(serve(far, Arc::new(Config::default())));
    (Client::over(near, "h", options).await, server)
}

#[tokio::test]
async fn a_message_there_and_back_on_both_transports() {
    for websocket in [true, false] {
        let (client, server) = pair(websocket, ConnectOptions::new()).await;
        let client = client.unwrap();
        assert_eq!(client.version(), Version::V1_2);
        assert_eq!(client.connected_header("user-name").as_deref(), Some("alice"));
        assert!(client.is_connected());

        let (mut inbox, _) =
            client.subscribe("/inbox").ack(AckMode::ClientIndividual).confirmed().await.unwrap();
        for body in ["one", "two", "three"] {
            client.send("/inbox", body).await.unwrap();
        }
        let first = inbox.recv().await.unwrap();
        assert_eq!(&first.body()[..], b"one");
        assert_eq!(first.destination().as_deref(), Some("/inbox"));
        let second = inbox.next().await.unwrap();
        let third = inbox.recv().await.unwrap();
        client.ack(&first).await.unwrap();
        client.nack(&second).confirmed().await.unwrap();
        client.ack(&third).confirmed().await.unwrap();

        let closed = client.disconnect().await;
        assert!(closed.is_confirmed(), "{closed}");
        let seen = server.await.unwrap();
        assert_eq!((seen.acked, seen.nacked), (vec![1, 3], vec![2]));
        assert_eq!(seen.reason, Some(server::CloseReason::Disconnect));
    }
}

#[tokio::test]
async fn many_receipts_in_flight_keep_their_order() {
    let (client, server) = pair(true, ConnectOptions::new()).await;
    let client = client.unwrap();
    let mut pending = Vec::new();
    for n in 0..1000 {
        pending.push(client.send("/queue/work", format!("job {n}")).receipt().await.unwrap());
    }
    for (n, receipt) in pending.into_iter().enumerate() {
        let receipt = receipt.await.unwrap();
        assert_eq!(receipt.header("x-sends").unwrap(), (n + 1).to_string());
    }
    assert!(client.disconnect().await.is_confirmed());
    assert_eq!(server.await.unwrap().sends.len(), 1000);
}
