//! The client against the test server, over both transports, and against servers that misbehave.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use stomp_codec::client::{ClientError as CommandError, CloseReason};
use stomp_codec::server::{self, AckMode, Config};
use stomp_codec::{HeartBeat, Limits, Version, Versions};
use stomp_ws::client::{Client, ClientError, ConnectError, ConnectOptions};
use stomp_ws::{CloseCode, PeerClose, Role, TcpAcceptor, Transport, TransportConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::support::{BINARY, CLOSE, FIN, Got, PING, Raw, SOON, Seen, TEXT, frame, serve};

/// A client of the test server, over a WebSocket or over a byte stream in memory.
async fn pair(
    websocket: bool,
    options: ConnectOptions,
) -> (Result<Client, ConnectError>, JoinHandle<Seen>) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let config = TransportConfig::DEFAULT;
    let (near, far) = if websocket {
        (
            Transport::websocket(near, &[], Role::Client, config),
            Transport::websocket(far, &[], Role::Server, config),
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
        assert_eq!(first.body(), b"one");
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

const CONNECTED: &str = "CONNECTED\nversion:1.2\nheart-beat:0,0\n\n\0";

/// A client that opens its session on a byte stream, and the server's end, to be played by hand.
fn by_hand(options: ConnectOptions) -> (JoinHandle<Result<Client, ConnectError>>, DuplexStream) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let transport = Transport::stream(near, TransportConfig::DEFAULT);
    (tokio::spawn(Client::over(transport, "h", options)), far)
}

/// The same over a WebSocket.
fn websocket_by_hand() -> (JoinHandle<Result<Client, ConnectError>>, Raw) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let config = TransportConfig::DEFAULT;
    let transport = Transport::websocket(near, &[], Role::Client, config);
    (tokio::spawn(Client::over(transport, "h", ConnectOptions::new())), Raw::server(far))
}

/// One frame with its NUL, heart-beats skipped.
async fn frame_of(io: &mut DuplexStream) -> String {
    let mut octets = Vec::new();
    while octets.last() != Some(&0) {
        octets.push(io.read_u8().await.unwrap());
    }
    String::from_utf8(octets).unwrap().trim_start_matches('\n').to_owned()
}

/// A connected client and the server's end of its byte stream.
async fn connected(options: ConnectOptions) -> (Client, DuplexStream) {
    let (client, mut io) = by_hand(options);
    frame_of(&mut io).await;
    io.write_all(CONNECTED.as_bytes()).await.unwrap();
    (client.await.unwrap().unwrap(), io)
}

fn no_heart_beat() -> ConnectOptions {
    ConnectOptions::new().heart_beat(HeartBeat::NONE)
}

/// S11-CON-06, S11-CON-07, S11-CON-08, S11-CON-14
#[tokio::test]
async fn connect_says_who_and_where_and_which_versions() {
    let options = no_heart_beat().credentials("alice", r"a\b:c").header("device", "laptop");
    let (_client, mut io) = by_hand(options);
    let connect = frame_of(&mut io).await;
    assert!(connect.starts_with("CONNECT\n"), "{connect}");
    for line in
        ["accept-version:1.0,1.1,1.2", "host:h", "login:alice", r"passcode:a\b:c", "device:laptop"]
    {
        assert!(connect.lines().any(|other| other == line), "{line} in {connect}");
    }
    let options = no_heart_beat().host("tenant").stomp_command(true);
    let options = options.versions(Versions::NONE.with(Version::V1_2));
    let (_client, mut io) = by_hand(options);
    let connect = frame_of(&mut io).await;
    assert!(connect.starts_with("STOMP\n") && connect.contains("\nhost:tenant\n"), "{connect}");
    assert!(connect.contains("\naccept-version:1.2\n"), "{connect}");
}

/// S10-CON-32, V-32
#[test]
fn the_passcode_is_not_in_debug_output() {
    let options = ConnectOptions::new()
        .credentials("alice", "sesame")
        .upgrade_header("Authorization", "Bearer sesame");
    assert!(!format!("{options:?}").contains("sesame"));
}

/// S10-CON-20
#[tokio::test]
async fn an_error_instead_of_connected_is_told_with_message_and_body() {
    let (client, mut io) = by_hand(no_heart_beat());
    io.write_all(b"ERROR\nmessage:denied\nx:1\n\nwhy\0").await.unwrap();
    drop(io);
    match client.await.unwrap() {
        Err(ConnectError::Refused(error)) => {
            assert_eq!((error.message().as_str(), error.body().as_str()), ("denied", "why"));
            assert_eq!(error.header("x").as_deref(), Some("1"));
            assert_eq!(error.to_string(), "denied (why)");
        }
        other => panic!("{other:?}"),
    }
}

/// S10-CON-18, S10-CON-19, S10-CON-31
#[tokio::test]
async fn the_first_frame_must_be_connected() {
    for first in [
        "MESSAGE\ndestination:/q\nmessage-id:1\nsubscription:0\n\nx\0",
        "SEND\n\n\0",
        "HTTP/1.1 400\n",
    ] {
        let (client, mut io) = by_hand(no_heart_beat());
        io.write_all(first.as_bytes()).await.unwrap();
        match client.await.unwrap() {
            Err(ConnectError::Closed(closed)) => assert!(
                matches!(closed.reason, CloseReason::Protocol(_) | CloseReason::Malformed(_)),
                "{closed}"
            ),
            other => panic!("{other:?}"),
        }
    }
    let (client, mut io) = by_hand(no_heart_beat());
    io.write_all(b"\n\nCONNECTED\nversion:1.1\n\n\0").await.unwrap();
    assert_eq!(client.await.unwrap().unwrap().version(), Version::V1_1);
}

/// S10-CON-21
#[tokio::test(start_paused = true)]
async fn a_silent_server_is_given_up_at_the_deadline() {
    let start = Instant::now();
    let (client, mut io) = by_hand(no_heart_beat().connect_timeout(Duration::from_secs(3)));
    match client.await.unwrap() {
        Err(ConnectError::Timeout(_) | ConnectError::Closed(_)) => {}
        other => panic!("{other:?}"),
    }
    assert!(start.elapsed() <= Duration::from_secs(4), "{:?}", start.elapsed());
    let mut rest = Vec::new();
    timeout(SOON, io.read_to_end(&mut rest)).await.unwrap().unwrap();
}

/// S10-CON-21: the upgrade, too, must be answered in time
#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_the_upgrade_is_given_up() {
    let (near, _far) = tokio::io::duplex(1024);
    let options = ConnectOptions::new().connect_timeout(Duration::from_secs(3));
    match Client::websocket(near, "ws://h/ws", options).await {
        Err(ConnectError::Timeout(timeout)) => assert_eq!(timeout, Duration::from_secs(3)),
        other => panic!("{other:?}"),
    }
}

/// S10-DIS-01, S11-DIS-02, S10-DIS-04
#[tokio::test]
async fn disconnect_waits_for_its_receipt_whatever_comes_before_and_sends_nothing_more() {
    let (client, mut io) = connected(no_heart_beat()).await;
    let leaving = tokio::spawn({
        let client = client.clone();
        async move { client.disconnect().await }
    });
    let disconnect = frame_of(&mut io).await;
    assert!(disconnect.starts_with("DISCONNECT\nreceipt:"), "{disconnect}");
    let late = client.send("/q", "late").await;
    assert!(matches!(late, Err(ClientError::Command(CommandError::NotConnected))), "{late:?}");
    let id = disconnect.lines().nth(1).unwrap().strip_prefix("receipt:").unwrap();
    io.write_all(b"MESSAGE\nsubscription:0\nmessage-id:1\ndestination:/q\n\nx\0").await.unwrap();
    io.write_all(
        format!("RECEIPT\nreceipt-id:other\n\n\0RECEIPT\nreceipt-id:{id}\n\n\0").as_bytes(),
    )
    .await
    .unwrap();
    let mut rest = Vec::new();
    io.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "{rest:?}");
    drop(io);
    assert!(leaving.await.unwrap().is_confirmed());
    assert!(!client.is_connected());
}

/// S10-DIS-03
#[tokio::test(start_paused = true)]
async fn disconnect_ends_without_a_receipt_in_bounded_time() {
    let (client, io) = connected(no_heart_beat()).await;
    let start = Instant::now();
    let closed = client.disconnect().await;
    assert_eq!(closed.reason, CloseReason::Disconnect { confirmed: false });
    assert!(start.elapsed() <= Duration::from_secs(11), "{:?}", start.elapsed());
    drop(io);
}

/// W-38
#[tokio::test]
async fn a_close_instead_of_the_receipt_of_disconnect_ends_normally() {
    let (client, mut raw) = websocket_by_hand();
    raw.expect_text().await;
    raw.text(CONNECTED).await;
    let client = client.await.unwrap().unwrap();
    let leaving = tokio::spawn(async move { client.disconnect().await });
    assert!(raw.expect_text().await.starts_with("DISCONNECT\n"));
    raw.frame(FIN | CLOSE, &1000_u16.to_be_bytes()).await;
    assert_eq!(raw.next().await, Got::Close(1000, String::new()));
    drop(raw);
    let closed = timeout(SOON, leaving).await.unwrap().unwrap();
    assert_eq!(closed.reason, CloseReason::Disconnect { confirmed: false });
}

/// W-39, S10-DIS-14
#[tokio::test]
async fn the_servers_close_code_and_reason_are_told_and_receipts_fail() {
    let (client, mut raw) = websocket_by_hand();
    raw.expect_text().await;
    raw.text(CONNECTED).await;
    let client = client.await.unwrap().unwrap();
    let mut subscription = client.subscribe("/q").await.unwrap();
    let receipt = client.send("/q", "x").receipt().await.unwrap();
    raw.expect_text().await;
    raw.expect_text().await;
    let mut close = 1007_u16.to_be_bytes().to_vec();
    close.extend(b"invalid frame");
    raw.frame(FIN | CLOSE, &close).await;
    let expected = PeerClose::new(CloseCode::INVALID_DATA, "invalid frame");
    for error in [receipt.await.unwrap_err(), subscription.recv().await.unwrap_err()] {
        let ClientError::Closed(closed) = error else { panic!("{error:?}") };
        assert_eq!(closed.peer_close.as_ref(), Some(&expected));
        assert_eq!(
            closed.to_string(),
            "the connection was lost; the server closed with code 1007: invalid frame"
        );
    }
}

/// An ERROR that names a receipt fails that receipt; the others fail with the connection
#[tokio::test]
async fn an_error_frame_is_told_to_whom_it_concerns() {
    let (client, _server) = pair(true, ConnectOptions::new()).await;
    let client = client.unwrap();
    let bad = client.send("/forbidden", "x").receipt().await.unwrap();
    let next = client.send("/q", "y").receipt().await.unwrap();
    match bad.await {
        Err(ClientError::Server(error)) => {
            assert_eq!(
                (error.message().as_str(), error.body().as_str()),
                ("not allowed", "ask alice")
            );
        }
        other => panic!("{other:?}"),
    }
    match next.await {
        Err(ClientError::Closed(closed)) => {
            assert_eq!(closed.reason, CloseReason::Error);
            assert_eq!(closed.error.unwrap().message(), "not allowed");
            assert_eq!(closed.peer_close.unwrap().code, CloseCode::POLICY);
        }
        other => panic!("{other:?}"),
    }
    assert!(client.send("/q", "z").await.is_err());
}

/// The time of a command is that of the command, although nothing else happens
#[tokio::test(start_paused = true)]
async fn a_receipt_that_does_not_come_is_given_up() {
    let (client, io) = connected(no_heart_beat().receipt_timeout(Duration::from_secs(30))).await;
    let start = Instant::now();
    let outcome = timeout(SOON * 10, client.send("/q", "x").confirmed()).await.unwrap();
    assert_eq!(outcome, Err(ClientError::ReceiptTimeout));
    assert!((30..=31).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    drop(io);
}

/// S10-LIM-15
#[tokio::test]
async fn the_client_has_limits_too() {
    let (client, mut io) = connected(no_heart_beat().limits(Limits::DEFAULT.with_headers(3))).await;
    io.write_all(b"MESSAGE\na:1\nb:2\nc:3\nd:4\n").await.unwrap();
    let closed = client.closed().await;
    assert!(matches!(closed.reason, CloseReason::Malformed(_)), "{closed}");
    assert!(closed.to_string().contains("more than 3 headers"), "{closed}");
}

/// W-14, W-18, W-26, W-28, W-29: the client's end of a WebSocket
#[tokio::test]
async fn the_client_reads_like_the_server_and_masks_what_it_sends() {
    let (client, mut raw) = websocket_by_hand();
    let mut head = [0; 2];
    raw.io.read_exact(&mut head).await.unwrap();
    assert_eq!(head[0], FIN | TEXT);
    assert!(head[1] & 0x80 != 0, "masked");
    let mut rest = vec![0; usize::from(head[1] & 0x7f) + 4];
    raw.io.read_exact(&mut rest).await.unwrap();
    for piece in [&CONNECTED.as_bytes()[..20], b"", &CONNECTED.as_bytes()[20..]] {
        raw.frame(FIN | BINARY, piece).await;
    }
    let client = client.await.unwrap().unwrap();
    raw.frame(FIN | PING, b"p").await;
    assert_eq!(raw.next().await, Got::Pong(b"p".to_vec()));
    raw.frame(FIN | TEXT, b"\xff").await;
    assert!(matches!(raw.next().await, Got::Close(1007, _)));
    drop(raw);
    let closed = client.closed().await;
    assert_eq!(closed.transport.as_deref(), Some("a WebSocket text message is not UTF-8"));

    let (client, mut raw) = websocket_by_hand();
    raw.expect_text().await;
    raw.write(&frame(FIN | TEXT, CONNECTED.as_bytes(), true)).await;
    assert!(matches!(raw.next().await, Got::Close(1002, _)));
    drop(raw);
    assert!(client.await.unwrap().is_err());
}

/// W-25
#[tokio::test]
async fn a_binary_body_leaves_in_a_binary_message_and_large_ones_are_masked_right() {
    let (client, mut raw) = websocket_by_hand();
    raw.expect_text().await;
    raw.text(CONNECTED).await;
    let client = client.await.unwrap().unwrap();
    let large: Vec<u8> = (0..20_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    client.send("/q", &b"\xff"[..]).await.unwrap();
    client.send("/q", large.clone()).await.unwrap();
    client.send("/q", "text").await.unwrap();
    for body in [&b"\xff"[..], &large] {
        match raw.next().await {
            Got::Binary(octets) => assert!(octets.strip_suffix(b"\0").unwrap().ends_with(body)),
            other => panic!("{other:?}"),
        }
    }
    assert!(raw.expect_text().await.ends_with("\n\ntext\0"));
}

/// S10-LIM-14: messages nobody takes are bounded, and nothing is lost
#[tokio::test(start_paused = true)]
async fn a_full_buffer_stops_the_reading_and_not_for_good() {
    let (client, mut io) = connected(no_heart_beat().buffer(50_000)).await;
    let mut subscription = client.subscribe("/q").header("id", "s").await.unwrap();
    frame_of(&mut io).await;
    let body = "x".repeat(10_000);
    let mut writing = tokio::spawn(async move {
        for n in 0..100 {
            let message =
                format!("MESSAGE\nsubscription:s\nmessage-id:{n}\ndestination:/q\n\n{body}\0");
            io.write_all(message.as_bytes()).await.unwrap();
        }
        io
    });
    // More than the client's buffer, the pipe, and what is read in one go.
    assert!(timeout(SOON, &mut writing).await.is_err());
    for n in 0..100 {
        let message = timeout(SOON, subscription.recv()).await.unwrap().unwrap();
        assert_eq!(message.message_id().unwrap(), n.to_string());
    }
    writing.await.unwrap();
}

#[tokio::test]
async fn a_transaction_is_applied_or_discarded_as_a_whole() {
    let (client, server) = pair(false, ConnectOptions::new()).await;
    let client = client.unwrap();
    let transaction = client.begin().await.unwrap();
    client.send("/q", "one").in_transaction(&transaction).await.unwrap();
    client.send("/q", "two").in_transaction(&transaction).confirmed().await.unwrap();
    transaction.commit().await.unwrap();
    for explicit in [true, false] {
        let transaction = client.begin().await.unwrap();
        client.send("/q", "three").in_transaction(&transaction).await.unwrap();
        if explicit {
            transaction.abort().await.unwrap();
        }
    }
    assert!(client.disconnect().await.is_confirmed());
    assert_eq!(server.await.unwrap().committed, 2);
}

#[tokio::test]
async fn dropping_a_subscription_unsubscribes_and_dropping_everything_disconnects() {
    let (client, server) = pair(true, ConnectOptions::new()).await;
    let client = client.unwrap();
    let (dropped, _) =
        client.subscribe("/a").ack(AckMode::ClientIndividual).confirmed().await.unwrap();
    client.send("/a", "x").confirmed().await.unwrap();
    drop(dropped);
    let (ended, _) = client.subscribe("/b").confirmed().await.unwrap();
    ended.unsubscribe(&[]).await.unwrap();
    drop(client);
    let seen = timeout(SOON, server).await.unwrap().unwrap();
    assert_eq!(seen.returned, [1]);
    assert_eq!(seen.reason, Some(server::CloseReason::Disconnect));
}

/// S10-CON-02: everything works with a server of 1.0
#[tokio::test]
async fn a_session_of_1_0() {
    let options = ConnectOptions::new().versions(Versions::NONE.with(Version::V1_0));
    let (client, _server) = pair(false, options).await;
    let client = client.unwrap();
    assert_eq!(client.version(), Version::V1_0);
    let mut subscription = client.subscribe("/q").ack(AckMode::Client).await.unwrap();
    client.send("/q", "x").await.unwrap();
    let message = subscription.recv().await.unwrap();
    client.ack(&message).confirmed().await.unwrap();
    let nack = client.nack(&message).await;
    assert!(matches!(nack, Err(ClientError::Command(_))), "{nack:?}");
    assert!(client.disconnect().await.is_confirmed());
}

#[tokio::test]
async fn the_client_connects_over_tcp_by_address() {
    let acceptor = TcpAcceptor::bind("127.0.0.1:0", TransportConfig::DEFAULT).await.unwrap();
    let address = acceptor.local_addr().unwrap();
    tokio::spawn(async move {
        let (transport, _) = acceptor.accept().await;
        serve(transport, Arc::new(Config::default())).await
    });
    let client = Client::connect(&format!("tcp://{address}"), ConnectOptions::new()).await.unwrap();
    client.send("/q", "x").confirmed().await.unwrap();
    assert!(client.disconnect().await.is_confirmed());
    match Client::connect("tcp://127.0.0.1:1", ConnectOptions::new()).await {
        Err(ConnectError::Io(_)) => {}
        other => panic!("{other:?}"),
    }
}
