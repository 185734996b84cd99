//! The server's side of STOMP over TCP, spoken to by hand, and its clock.

use std::time::Duration;

use std::sync::Arc;

use stomp_codec::server::{CloseReason, Config};
use stomp_codec::{HeartBeat, Limits};
use stomp_ws::{Role, TcpAcceptor, Transport, TransportConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::support::{SOON, Seen, read_to_end, serve, stream};

const CONNECT: &str = "CONNECT\naccept-version:1.2\nhost:h\n\n\0";

fn default_stream() -> (DuplexStream, JoinHandle<Seen>) {
    stream(Config::default(), TransportConfig::DEFAULT, 1024 * 1024)
}

/// One frame with its NUL.
async fn frame(io: &mut DuplexStream) -> String {
    let mut octets = Vec::new();
    while octets.last() != Some(&0) {
        octets.push(io.read_u8().await.unwrap());
    }
    String::from_utf8(octets).unwrap()
}

async fn connected(heart_beat: &str, server: &str) -> (DuplexStream, JoinHandle<Seen>) {
    let config = Config::default().heart_beat(HeartBeat::parse(server).unwrap());
    let (mut io, task) = stream(config, TransportConfig::DEFAULT, 64 * 1024);
    let connect = format!("CONNECT\naccept-version:1.2\nhost:h\nheart-beat:{heart_beat}\n\n\0");
    io.write_all(connect.as_bytes()).await.unwrap();
    assert!(frame(&mut io).await.starts_with("CONNECTED\n"));
    (io, task)
}

async fn acceptor() -> (TcpAcceptor, std::net::SocketAddr) {
    let acceptor = TcpAcceptor::bind("127.0.0.1:0", TransportConfig::DEFAULT).await.unwrap();
    let address = acceptor.local_addr().unwrap();
    (acceptor, address)
}

/// V-21: a web page posts a form to the STOMP port
#[tokio::test]
async fn an_http_request_is_refused_at_its_first_line_on_a_real_socket() {
    let (acceptor, address) = acceptor().await;
    let server = tokio::spawn(async move {
        let (transport, _) = acceptor.accept().await;
        serve(transport, Arc::new(Config::default())).await
    });
    let mut socket = TcpStream::connect(address).await.unwrap();
    let junk = format!("POST / HTTP/1.1\r\nHost: h\r\n\r\n{CONNECT}SEND\ndestination:/q\n\nx\0");
    socket.write_all(junk.as_bytes()).await.unwrap();
    let answer = timeout(SOON, read_to_end(&mut socket)).await.unwrap();
    assert!(answer.starts_with("ERROR\n") && answer.matches('\0').count() == 1, "{answer:?}");
    drop(socket);
    let seen = timeout(SOON, server).await.unwrap().unwrap();
    assert!(matches!(seen.reason, Some(CloseReason::Malformed(_))), "{:?}", seen.reason);
    assert!(seen.sends.is_empty());
}

/// S10-LIM-07, P9: the ERROR gets through although much more is on its way to the server
#[tokio::test]
async fn an_error_reaches_a_client_that_goes_on_sending() {
    let (acceptor, address) = acceptor().await;
    tokio::spawn(async move {
        let (transport, _) = acceptor.accept().await;
        serve(transport, Arc::new(Config::default().limits(Limits::DEFAULT.with_body(1000)))).await
    });
    let socket = TcpStream::connect(address).await.unwrap();
    let (mut reader, mut writer) = socket.into_split();
    let sending = tokio::spawn(async move {
        writer.write_all(CONNECT.as_bytes()).await?;
        writer.write_all(b"SEND\ndestination:/q\n\n").await?;
        let body = vec![b'x'; 4 * 1024 * 1024];
        writer.write_all(&body).await
    });
    let answer = timeout(SOON, read_to_end(&mut reader)).await.unwrap();
    let (connected, error) = answer.split_once('\0').unwrap();
    assert!(connected.starts_with("CONNECTED\n"));
    assert!(error.contains("longer than 1000 octets"), "{error}");
    sending.await.unwrap().unwrap();
}

/// P9: the same where the frames of the WebSocket can no longer be told apart
#[tokio::test]
async fn an_error_reaches_a_websocket_client_that_goes_on_sending() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let transport = Transport::websocket(socket, &[], Role::Server, TransportConfig::DEFAULT);
        serve(transport, Arc::new(Config::default())).await
    });
    let (mut reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
    let sending = tokio::spawn(async move { writer.write_all(&vec![b'x'; 4 * 1024 * 1024]).await });
    let mut answer = Vec::new();
    timeout(SOON, reader.read_to_end(&mut answer)).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("ERROR\nmessage:broken WebSocket frame"), "{text}");
    sending.await.unwrap().unwrap();
}

/// S10-DIS-07, S10-DIS-08
#[tokio::test]
async fn everything_before_disconnect_is_processed_and_nothing_after_it() {
    let (mut io, server) = default_stream();
    let mut octets = CONNECT.to_owned();
    for n in 0..1000 {
        octets.push_str(&format!("SEND\ndestination:/q\n\n{n}\0"));
    }
    octets.push_str("DISCONNECT\nreceipt:77\n\n\0SEND\ndestination:/q\n\nlate\0");
    io.write_all(octets.as_bytes()).await.unwrap();
    let answer = read_to_end(&mut io).await;
    assert!(answer.ends_with("\0RECEIPT\nreceipt-id:77\n\n\0"), "{answer:?}");
    drop(io);
    let seen = server.await.unwrap();
    assert_eq!(seen.sends.len(), 1000);
    assert_eq!(seen.reason, Some(CloseReason::Disconnect));
}

/// S12-DIS-09, S10-DIS-10
#[tokio::test]
async fn whole_frames_before_an_abrupt_end_are_processed_and_a_cut_one_is_not() {
    let (acceptor, address) = acceptor().await;
    let server = tokio::spawn(async move {
        let (transport, _) = acceptor.accept().await;
        serve(transport, Arc::new(Config::default())).await
    });
    let mut socket = TcpStream::connect(address).await.unwrap();
    let mut octets = CONNECT.to_owned();
    for n in 0..100 {
        octets.push_str(&format!("SEND\ndestination:/q\n\n{n}\0"));
    }
    octets.push_str("SEND\ndestination:/q\n\nhel");
    socket.write_all(octets.as_bytes()).await.unwrap();
    drop(socket);
    let seen = timeout(SOON, server).await.unwrap().unwrap();
    assert_eq!(seen.sends.len(), 100);
    assert_eq!(seen.reason, Some(CloseReason::ConnectionLost));
}

/// S10-CON-15, S10-CON-23
#[tokio::test]
async fn nothing_goes_before_connect_and_its_receipt_is_not_answered() {
    for first in
        ["SEND\ndestination:/q\n\nx\0", "SUBSCRIBE\nid:0\ndestination:/q\n\n\0", "DISCONNECT\n\n\0"]
    {
        let (mut io, server) = default_stream();
        io.write_all(first.as_bytes()).await.unwrap();
        assert!(read_to_end(&mut io).await.starts_with("ERROR\n"), "{first}");
        drop(io);
        assert!(server.await.unwrap().sends.is_empty());
    }
    let (mut io, _server) = default_stream();
    io.write_all(b"CONNECT\naccept-version:1.2\nhost:h\nreceipt:r\n\n\0DISCONNECT\n\n\0")
        .await
        .unwrap();
    assert_eq!(read_to_end(&mut io).await.matches('\0').count(), 1);
}

/// S10-LIM-10, V-08
#[tokio::test(start_paused = true)]
async fn octets_trickling_in_do_not_extend_the_connect_deadline() {
    let (mut io, server) = default_stream();
    let start = Instant::now();
    let trickle = async {
        for octet in
            "CONNECT\naccept-version:1.2\nhost:h\nx:".bytes().chain(std::iter::repeat(b'x'))
        {
            sleep(Duration::from_secs(1)).await;
            if io.write_all(&[octet]).await.is_err() {
                break;
            }
        }
    };
    timeout(SOON, trickle).await.unwrap();
    assert!(start.elapsed() <= Duration::from_secs(17), "{:?}", start.elapsed());
    assert_eq!(server.await.unwrap().reason, Some(CloseReason::ConnectTimeout));
}

/// V-08
#[tokio::test(start_paused = true)]
async fn a_thousand_silent_sockets_are_gone_at_the_deadline() {
    let sockets: Vec<_> = (0..1000).map(|_| default_stream()).collect();
    let start = Instant::now();
    for (mut io, server) in sockets {
        read_to_end(&mut io).await;
        drop(io);
        assert_eq!(server.await.unwrap().reason, Some(CloseReason::ConnectTimeout));
    }
    assert!(start.elapsed() <= Duration::from_secs(11), "{:?}", start.elapsed());
}

/// S11-HB-25, S11-HB-31
#[tokio::test(start_paused = true)]
async fn an_idle_server_sends_a_line_feed_in_time() {
    let (mut io, _server) = connected("0,500", "500,500").await;
    let start = Instant::now();
    for n in 1..=10_u32 {
        assert_eq!(io.read_u8().await.unwrap(), b'\n');
        assert!(start.elapsed() <= n * Duration::from_millis(550), "{n}: {:?}", start.elapsed());
    }
}

/// S11-HB-26
#[tokio::test(start_paused = true)]
async fn frames_make_heart_beats_needless() {
    let (mut io, _server) = connected("0,500", "500,500").await;
    for n in 0..25 {
        sleep(Duration::from_millis(200)).await;
        io.write_all(format!("SEND\ndestination:/q\nreceipt:{n}\n\nx\0").as_bytes()).await.unwrap();
        assert!(frame(&mut io).await.trim_start_matches('\n').starts_with("RECEIPT\n"));
    }
    sleep(Duration::from_millis(100)).await;
    assert!(timeout(Duration::from_millis(1), io.read_u8()).await.is_err());
}

/// S11-HB-27
#[tokio::test(start_paused = true)]
async fn every_octet_is_a_sign_of_life() {
    let (mut io, server) = connected("500,0", "500,500").await;
    io.write_all(b"SEND\ndestination:/q\n\n").await.unwrap();
    for _ in 0..50 {
        sleep(Duration::from_millis(400)).await;
        io.write_all(b"x").await.unwrap();
    }
    io.write_all(b"\0").await.unwrap();
    drop(io);
    let seen = server.await.unwrap();
    assert_eq!(seen.reason, Some(CloseReason::ConnectionLost));
    assert_eq!(seen.sends[0].len(), 50);
}

/// S11-HB-28, S11-HB-29
#[tokio::test(start_paused = true)]
async fn a_silent_client_is_given_up_after_the_tolerance() {
    let (mut io, server) = connected("1000,0", "500,1000").await;
    for _ in 0..5 {
        sleep(Duration::from_millis(1400)).await;
        io.write_all(b"\n").await.unwrap();
    }
    let start = Instant::now();
    read_to_end(&mut io).await;
    let silent = start.elapsed().as_millis();
    assert!((1000..=3000).contains(&silent), "{silent}");
    drop(io);
    assert_eq!(server.await.unwrap().reason, Some(CloseReason::HeartBeatTimeout));
}

/// S11-HB-38, V-11
#[tokio::test(start_paused = true)]
async fn a_client_cannot_order_a_busy_timer() {
    let (mut io, _server) = connected("1,1", "5000,5000").await;
    let start = Instant::now();
    let writer = async {
        sleep(Duration::from_secs(4)).await;
        start.elapsed()
    };
    tokio::select! {
        octet = io.read_u8() => panic!("{octet:?} after {:?}", start.elapsed()),
        elapsed = writer => assert!(elapsed >= Duration::from_secs(4)),
    }
    assert_eq!(io.read_u8().await.unwrap(), b'\n');
}

/// S11-HB-30, V-12
#[tokio::test(start_paused = true)]
async fn no_heart_beat_falls_into_a_frame() {
    let (mut io, _server) = connected("0,100", "100,100").await;
    io.write_all(b"SUBSCRIBE\nid:0\ndestination:/q\n\n\0").await.unwrap();
    let body = "x".repeat(2 * 1024 * 1024);
    let send = format!("SEND\ndestination:/q\ncontent-length:{}\n\n{body}\0", body.len());
    let (mut reader, mut writer) = tokio::io::split(io);
    tokio::spawn(async move {
        writer.write_all(send.as_bytes()).await.unwrap();
        // The other half keeps the stream open.
        std::future::pending::<()>().await;
    });
    // Throttled: many heart-beat intervals pass while the frame is on its way.
    let mut octets = Vec::new();
    let mut piece = vec![0; 16 * 1024];
    loop {
        sleep(Duration::from_millis(50)).await;
        let count = reader.read(&mut piece).await.unwrap();
        octets.extend_from_slice(&piece[..count]);
        if piece[..count].contains(&0) {
            break;
        }
    }
    let text = String::from_utf8(octets).unwrap();
    let message = text.trim_matches('\n');
    assert!(message.starts_with("MESSAGE\n"));
    let (_, received) = message.split_once("\n\n").unwrap();
    assert!(received.strip_suffix('\0') == Some(body.as_str()));
}

/// S11-HB-33
#[tokio::test(start_paused = true)]
async fn heart_beats_do_not_pile_up_behind_a_blocked_writer() {
    let config = Config::default().heart_beat(HeartBeat::parse("100,100").unwrap());
    let (mut io, _server) = stream(config, TransportConfig::DEFAULT, 256);
    io.write_all(b"CONNECT\naccept-version:1.2\nhost:h\nheart-beat:0,100\n\n\0").await.unwrap();
    frame(&mut io).await;
    sleep(Duration::from_secs(1)).await;
    io.write_all(format!("SEND\ndestination:/q\nreceipt:{}\n\n\0", "1".repeat(150)).as_bytes())
        .await
        .unwrap();
    io.write_all(format!("SEND\ndestination:/q\nreceipt:{}\n\n\0", "2".repeat(200)).as_bytes())
        .await
        .unwrap();
    // The pipe takes 256 octets; the second receipt does not fit behind the first.
    sleep(Duration::from_secs(20)).await;
    io.write_all(b"DISCONNECT\n\n\0").await.unwrap();
    let rest = read_to_end(&mut io).await;
    let (_, behind) = rest.split_once("222\n").unwrap();
    assert!(behind.matches('\n').count() <= 3, "{behind:?}");
}

/// S10-HB-34
#[tokio::test(start_paused = true)]
async fn a_session_of_1_0_has_no_heart_beats() {
    let config = Config::default().heart_beat(HeartBeat::parse("100,100").unwrap());
    let (mut io, _server) = stream(config, TransportConfig::DEFAULT, 1024);
    io.write_all(b"CONNECT\nheart-beat:100,100\n\n\0").await.unwrap();
    frame(&mut io).await;
    assert!(timeout(Duration::from_secs(600), io.read_u8()).await.is_err());
}

/// S11-LIM-17, S10-DIS-12
#[tokio::test]
async fn clients_that_come_and_go_leave_nothing_behind() {
    let (acceptor, address) = acceptor().await;
    let config = Arc::new(Config::default());
    let sessions = tokio_util::task::TaskTracker::new();
    let tracker = sessions.clone();
    let accepting = tokio::spawn(async move {
        loop {
            let (transport, _) = acceptor.accept().await;
            tracker.spawn(serve(transport, Arc::clone(&config)));
        }
    });
    for _ in 0..500 {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(CONNECT.as_bytes()).await.unwrap();
        let mut first = [0; 10];
        socket.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"CONNECTED\n");
    }
    accepting.abort();
    sessions.close();
    timeout(SOON, sessions.wait()).await.unwrap();
}
