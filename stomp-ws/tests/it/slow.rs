//! Clients that do not read.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use stomp_codec::server::{Accepted, CloseReason, Config, DeliverError, Event, SubscriptionId};
use stomp_ws::{EventOrRoom, Role, ServerConnection, Transport, TransportConfig};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

use crate::support::{FIN, Raw, SOON, TEXT, frame, message, websocket};

/// A connected session with one subscription, and the client's end.
async fn subscribed(
    config: Config,
    transport: TransportConfig,
) -> (ServerConnection<u64>, SubscriptionId, Raw) {
    let (near, far) = tokio::io::duplex(4096);
    let transport = Transport::websocket(far, &[], Role::Server, transport);
    let mut connection = ServerConnection::new(transport, Arc::new(config));
    let mut raw = Raw::new(near);
    raw.text("CONNECT\naccept-version:1.2\nhost:h\n\n\0SUBSCRIBE\nid:0\ndestination:/q\n\n\0")
        .await;
    assert!(matches!(connection.event().await, Some(Event::Connect { .. })));
    connection.accept(Accepted::new("s"));
    let Some(Event::Subscribe { id, .. }) = connection.event().await else { panic!() };
    (connection, id, raw)
}

/// S10-LIM-14, W-40, V-10
#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_cut_off_in_time_and_others_are_not() {
    let body = Bytes::from(vec![b'x'; 10_000]);
    let (mut slow, id, raw) = subscribed(Config::default(), TransportConfig::DEFAULT).await;
    let (mut good, good_id, mut good_raw) =
        subscribed(Config::default(), TransportConfig::DEFAULT).await;
    let message = message("/q", 1, &body);
    for n in 0..100 {
        slow.session().deliver(&id, &message, n, false).unwrap();
        good.session().deliver(&good_id, &message, n, false).unwrap();
    }
    let start = Instant::now();
    let reading = tokio::spawn(async move {
        good_raw.expect_text().await;
        for _ in 0..100 {
            good_raw.expect_text().await;
        }
    });
    let serving = tokio::spawn(async move { good.event().await });
    let Some(Event::Closed { reason, .. }) = slow.event().await else { panic!() };
    assert_eq!(reason, CloseReason::ConnectionLost);
    assert!(slow.transport_error().unwrap().to_string().contains("read nothing for 30s"));
    assert!(start.elapsed() <= Duration::from_secs(31), "{:?}", start.elapsed());
    assert!(slow.event().await.is_none());
    assert!(start.elapsed() <= Duration::from_secs(31), "a dead peer is not lingered for");
    timeout(SOON, reading).await.unwrap().unwrap();
    drop((raw, serving));
}

/// The same while the application owes an answer that the session waits for
#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_cut_off_also_while_an_answer_is_owed() {
    let config = Config::default().max_pending_receipts(1);
    let (mut connection, id, mut raw) = subscribed(config, TransportConfig::DEFAULT).await;
    raw.text("SEND\ndestination:/q\nreceipt:1\n\n\0SEND\ndestination:/q\nreceipt:2\n\n\0").await;
    let Some(Event::Send { receipt: Some(owed), .. }) = connection.event().await else { panic!() };
    let message = message("/q", 1, &Bytes::from(vec![b'x'; 10_000]));
    connection.session().deliver(&id, &message, 1, false).unwrap();
    let mut event = timeout(SOON, connection.event()).await;
    if event.is_err() {
        // Frames that arrived before are still acted on.
        connection.session().receipt(owed, &[]);
        event = timeout(SOON, connection.event()).await;
    }
    while !matches!(event, Ok(Some(Event::Closed { .. }))) {
        event = timeout(SOON, connection.event()).await;
        assert!(event.is_ok());
    }
    assert!(connection.transport_error().unwrap().to_string().contains("read nothing for 30s"));
}

/// A client is not given up for what the application did not write
#[tokio::test(start_paused = true)]
async fn a_client_that_has_read_meanwhile_is_kept() {
    let (mut connection, id, mut raw) =
        subscribed(Config::default(), TransportConfig::DEFAULT).await;
    let message = message("/q", 1, &Bytes::from(vec![b'x'; 10_000]));
    connection.session().deliver(&id, &message, 1, false).unwrap();
    assert!(timeout(Duration::from_secs(1), connection.event()).await.is_err());
    // The pipe has room again; nobody has looked at the connection for longer than the limit.
    let reading = tokio::spawn(async move {
        raw.expect_text().await;
        raw.expect_text().await;
        raw
    });
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert!(timeout(Duration::from_secs(1), connection.event()).await.is_err());
    assert!(timeout(SOON, reading).await.unwrap().unwrap().pending().is_empty());
}

/// S10-LIM-14, V-10
#[tokio::test(start_paused = true)]
async fn deliveries_stop_at_the_byte_bound_and_go_on_when_there_is_room() {
    let body = Bytes::from(vec![b'x'; 10_000]);
    let config = Config::default().max_queued(200_000);
    let (mut connection, id, mut raw) = subscribed(config, TransportConfig::DEFAULT).await;
    let message = message("/q", 1, &body);
    let mut delivered = 0;
    let outcome = loop {
        match connection.session().deliver(&id, &message, delivered, false) {
            Ok(()) => delivered += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(outcome, DeliverError::QueueFull);
    assert!(connection.queued() < 300_000, "{}", connection.queued());
    // Not read: no room, however often it is asked.
    let waiting = timeout(Duration::from_secs(5), connection.event_or_room(10_000)).await;
    assert!(waiting.is_err());
    let reading = tokio::spawn(async move {
        raw.expect_text().await;
        for _ in 0..=delivered {
            assert!(raw.expect_text().await.starts_with("MESSAGE\n"));
        }
    });
    assert!(matches!(connection.event_or_room(10_000).await, Some(EventOrRoom::Room)));
    assert!(connection.queued() <= 10_000);
    connection.session().deliver(&id, &message, delivered, false).unwrap();
    connection.flush().await;
    reading.await.unwrap();
}

/// More waits than the transport takes at a time: all of it leaves, without another event
#[tokio::test(start_paused = true)]
async fn a_long_queue_leaves_as_a_whole() {
    let (near, far) = tokio::io::duplex(4 * 1024 * 1024);
    let transport = Transport::websocket(far, &[], Role::Server, TransportConfig::DEFAULT);
    let mut connection: ServerConnection<u64> = ServerConnection::new(transport, Config::default());
    let mut raw = Raw::new(near);
    raw.text("CONNECT\naccept-version:1.2\nhost:h\n\n\0SUBSCRIBE\nid:0\ndestination:/q\n\n\0")
        .await;
    connection.event().await;
    connection.accept(Accepted::new("s"));
    let Some(Event::Subscribe { id, .. }) = connection.event().await else { panic!() };
    let message = message("/q", 1, &Bytes::from(vec![b'x'; 10_000]));
    for n in 0..100 {
        connection.session().deliver(&id, &message, n, false).unwrap();
    }
    assert!(timeout(SOON, connection.event()).await.is_err());
    assert_eq!(connection.queued(), 0);
    raw.expect_text().await;
    for _ in 0..100 {
        assert!(raw.expect_text().await.starts_with("MESSAGE\n"));
    }
}

/// S10-LIM-14: a client makes the server answer and does not read the answers
#[tokio::test]
async fn answers_that_are_not_read_are_bounded_in_octets() {
    let transport = TransportConfig::DEFAULT.with_write_budget(200_000);
    let (raw, server) = websocket(Config::default(), transport, 4096);
    let (_reader, mut writer) = tokio::io::split(raw.io);
    let flood = tokio::spawn(async move {
        let connect = frame(FIN | TEXT, b"CONNECT\naccept-version:1.2\nhost:h\n\n\0", true);
        writer.write_all(&connect).await.unwrap();
        let send = format!("SEND\ndestination:/q\nreceipt:{}\n\nx\0", "r".repeat(1000));
        let send = frame(FIN | TEXT, send.as_bytes(), true);
        let mut sent = 0;
        while writer.write_all(&send).await.is_ok() {
            sent += 1;
        }
        sent
    });
    let seen = timeout(SOON, server).await.unwrap().unwrap();
    assert_eq!(seen.reason, Some(CloseReason::ConnectionLost));
    assert!(seen.error.unwrap().contains("the limit is 200000"));
    assert!(seen.sends.len() < 1000, "{}", seen.sends.len());
    assert!(flood.await.unwrap() < 1000);
}

/// W4: what is ready together leaves together
#[tokio::test(start_paused = true)]
async fn messages_that_are_ready_together_leave_in_one_write() {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let counted = Counted { io: far, writes: Arc::default() };
    let writes = Arc::clone(&counted.writes);
    let transport = Transport::websocket(counted, &[], Role::Server, TransportConfig::DEFAULT);
    let mut connection: ServerConnection<u64> = ServerConnection::new(transport, Config::default());
    let mut raw = Raw::new(near);
    raw.text("CONNECT\naccept-version:1.2\nhost:h\n\n\0SUBSCRIBE\nid:0\ndestination:/q\n\n\0")
        .await;
    connection.event().await;
    connection.accept(Accepted::new("s"));
    let Some(Event::Subscribe { id, .. }) = connection.event().await else { panic!() };
    connection.flush().await;
    raw.expect_text().await;
    let before = writes.load(std::sync::atomic::Ordering::Relaxed);
    let message = message("/q", 1, &Bytes::from_static(b"hello"));
    for n in 0..16 {
        connection.session().deliver(&id, &message, n, false).unwrap();
    }
    // Frames that arrived meanwhile are acted on first: still one write.
    raw.text("SEND\ndestination:/q\nreceipt:1\n\n\0").await;
    let Some(Event::Send { receipt: Some(receipt), .. }) = connection.event().await else {
        panic!()
    };
    connection.session().receipt(receipt, &[]);
    assert!(timeout(Duration::from_millis(10), connection.event()).await.is_err());
    assert_eq!(writes.load(std::sync::atomic::Ordering::Relaxed) - before, 1);
    for _ in 0..16 {
        assert!(raw.expect_text().await.starts_with("MESSAGE\n"));
    }
    assert!(raw.expect_text().await.starts_with("RECEIPT\n"));
}

/// Counts writes.
struct Counted {
    io: tokio::io::DuplexStream,
    writes: Arc<std::sync::atomic::AtomicUsize>,
}

mod counted {
    use std::io;
    use std::pin::Pin;
    use std::sync::atomic::Ordering;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::Counted;

    impl AsyncRead for Counted {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.io).poll_read(cx, buffer)
        }
    }

    impl AsyncWrite for Counted {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            octets: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.writes.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut self.io).poll_write(cx, octets)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.io).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.io).poll_shutdown(cx)
        }
    }
}
