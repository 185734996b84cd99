//! The server's side of a WebSocket, spoken to by hand.

use std::time::Duration;

use stomp_codec::Limits;
use stomp_codec::server::{CloseReason, Config};
use stomp_ws::{Role, Transport, TransportConfig, TransportError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use crate::support::{
    BINARY, CLOSE, FIN, Got, PING, Raw, SOON, TEXT, default_websocket, frame, websocket,
};

const SEND: &str = "SEND\ndestination:/q\n\n";

/// W-14, W-43
#[tokio::test]
async fn text_and_binary_may_alternate() {
    let (mut raw, server) = default_websocket();
    raw.connect().await;
    raw.text(&format!("{SEND}one\0{SEND}two\0")).await;
    raw.frame(FIN | BINARY, format!("{SEND}three\0").as_bytes()).await;
    raw.text("\n").await;
    raw.frame(FIN | BINARY, b"SEND\ndestination:/q\nreceipt:r\ncontent-length:2\n\n\xff\0\0").await;
    assert_eq!(raw.expect_text().await.lines().nth(1), Some("receipt-id:r"));
    drop(raw);
    let seen = server.await.unwrap();
    assert_eq!(seen.sends, [&b"one"[..], b"two", b"three", b"\xff\0"]);
}

/// W-15, W-16, W-17, W-18, W-19, W-20
#[tokio::test]
async fn frames_are_cut_and_joined_anywhere() {
    let cases: [&[&str]; 6] = [
        &["SEND\ndestination:/q\n\nab", "\n", "cd\0"],
        &["SEND\r", "\ndestination:/q\r\n\r\nab\ncd\0"],
        &["", "SEND\ndesti", "", "nation:/q\n\nab\ncd", "", "\0"],
        &["\n", "\r\n", "\n\n\n", "SEND\ndestination:/q\n\nab\ncd\0"],
        &["\n\n\nSEND\ndestination:/q\n\nab\ncd\0\n\n"],
        &["SEND\ndestination:/q\ncontent-length:5\n\nab\ncd", "\0"],
    ];
    for case in cases {
        let (mut raw, server) = default_websocket();
        raw.connect().await;
        for (i, message) in case.iter().enumerate() {
            raw.frame(FIN | if i % 2 == 0 { TEXT } else { BINARY }, message.as_bytes()).await;
        }
        raw.text("DISCONNECT\nreceipt:1\n\n\0").await;
        assert_eq!(raw.expect_text().await, "RECEIPT\nreceipt-id:1\n\n\0");
        drop(raw);
        assert_eq!(server.await.unwrap().sends, ["ab\ncd"], "{case:?}");
    }
}

/// W-15, V-05
#[tokio::test]
async fn a_large_frame_arrives_in_small_messages() {
    let body = "x".repeat(100 * 1024);
    let whole =
        format!("SEND\ndestination:/q\nreceipt:1\ncontent-length:{}\n\n{body}\0", body.len());
    for size in [8192, 1] {
        let (mut raw, server) = default_websocket();
        raw.connect().await;
        for piece in whole.as_bytes().chunks(size) {
            raw.frame(FIN | TEXT, piece).await;
        }
        assert!(raw.expect_text().await.starts_with("RECEIPT\n"));
        drop(raw);
        assert_eq!(server.await.unwrap().sends, [body.as_str()]);
    }
}

/// W-16, S10-CON-22
#[tokio::test]
async fn several_frames_in_one_message_are_answered_in_order() {
    let (mut raw, server) = default_websocket();
    raw.text(
        "CONNECT\naccept-version:1.2\nhost:h\n\n\0BEGIN\ntransaction:t\nreceipt:1\n\n\0\n\
         SEND\ntransaction:t\ndestination:/q\nreceipt:2\n\nx\0\n\nCOMMIT\ntransaction:t\nreceipt:3\n\n\0",
    )
    .await;
    assert!(raw.expect_text().await.starts_with("CONNECTED\n"));
    for receipt in 1..=3 {
        assert_eq!(raw.expect_text().await, format!("RECEIPT\nreceipt-id:{receipt}\n\n\0"));
    }
    drop(raw);
    assert_eq!(server.await.unwrap().committed, 1);
}

/// W-21, W-25
#[tokio::test]
async fn each_frame_leaves_in_a_message_of_its_own_text_where_it_is_text() {
    let (mut raw, _server) = default_websocket();
    raw.connect().await;
    raw.text("SUBSCRIBE\nid:0\ndestination:/q\n\n\0").await;
    raw.text(&format!("{SEND}é\0{SEND}two\0")).await;
    raw.frame(FIN | BINARY, b"SEND\ndestination:/q\n\n\xff\0").await;
    let first = raw.expect_text().await;
    assert!(first.starts_with("MESSAGE\n") && first.ends_with("\n\né\0"), "{first}");
    assert!(raw.expect_text().await.ends_with("\n\ntwo\0"));
    match raw.next().await {
        Got::Binary(octets) => assert!(octets.ends_with(b"\n\n\xff\0")),
        other => panic!("{other:?}"),
    }
}

/// W-25
#[tokio::test]
async fn binary_can_be_forced() {
    let transport = TransportConfig::DEFAULT.with_force_binary(true);
    let (mut raw, _server) = websocket(Config::default(), transport, 1024);
    raw.text("CONNECT\naccept-version:1.2\nhost:h\n\n\0").await;
    assert!(matches!(raw.next().await, Got::Binary(octets) if octets.starts_with(b"CONNECTED\n")));
}

/// W-23
#[tokio::test]
async fn a_large_frame_leaves_in_one_message() {
    let (mut raw, _server) = default_websocket();
    raw.connect().await;
    raw.text("SUBSCRIBE\nid:0\ndestination:/q\n\n\0").await;
    let body = "x".repeat(3 * 1024 * 1024);
    let send = format!("SEND\ndestination:/q\ncontent-length:{}\n\n{body}\0", body.len());
    let (mut reader, mut writer) = tokio::io::split(raw.io);
    let writing = tokio::spawn(async move {
        writer.write_all(&frame(FIN | TEXT, send.as_bytes(), true)).await.unwrap();
        writer
    });
    let mut octets = Vec::new();
    while octets.len() < body.len() {
        reader.read_buf(&mut octets).await.unwrap();
    }
    writing.await.unwrap();
    assert_eq!(octets[..2], [FIN | TEXT, 127]);
}

/// W-22, S11-HB-25
#[tokio::test(start_paused = true)]
async fn a_heart_beat_is_one_line_feed_as_text() {
    let (mut raw, _server) = default_websocket();
    raw.text("CONNECT\naccept-version:1.2\nhost:h\nheart-beat:0,10000\n\n\0").await;
    raw.expect_text().await;
    let mut last = Instant::now();
    for _ in 0..10 {
        assert_eq!(raw.next().await, Got::Text("\n".to_owned()));
        assert!(last.elapsed() <= Duration::from_millis(10_050), "{:?}", last.elapsed());
        last = Instant::now();
    }
}

/// W-26, P9
#[tokio::test]
async fn invalid_utf8_closes_with_1007_after_an_error() {
    let (mut raw, server) = default_websocket();
    raw.connect().await;
    raw.frame(FIN | TEXT, b"\xff").await;
    let error = raw.expect_text().await;
    assert!(error.starts_with("ERROR\nmessage:a WebSocket text message is not UTF-8\n"), "{error}");
    assert!(matches!(raw.next().await, Got::Close(1007, _)));
    assert_eq!(raw.next().await, Got::End);
    drop(raw);
    assert!(server.await.unwrap().sends.is_empty());
}

/// W-26
#[tokio::test]
async fn a_character_may_be_cut_by_fragments_but_not_by_messages() {
    let (mut raw, _server) = default_websocket();
    raw.connect().await;
    raw.frame(TEXT, b"SEND\ndestination:/q\nreceipt:1\n\n\xe2\x82").await;
    raw.frame(FIN, b"\xac\0").await;
    assert!(raw.expect_text().await.starts_with("RECEIPT\n"));
    // W-27
    raw.frame(FIN | TEXT, b"SEND\ndestination:/q\n\n\xe2\x82").await;
    assert!(raw.expect_text().await.starts_with("ERROR\n"));
    assert!(matches!(raw.next().await, Got::Close(1007, _)));
}

/// W-27, Q-C03: stomp.js cuts an emoji in two, and its content-length counts octets that never come
#[tokio::test]
async fn a_corrupted_emoji_is_an_error_and_no_hang() {
    let (mut raw, _server) = default_websocket();
    raw.connect().await;
    raw.text("SEND\ndestination:/q\ncontent-length:4\n\n\u{fffd}").await;
    raw.text("\u{fffd}\0").await;
    assert!(raw.expect_text().await.starts_with("ERROR\n"));
    assert!(matches!(raw.next().await, Got::Close(1002, _)));
}

/// W-28, W-30, V-06
#[tokio::test]
async fn broken_frames_close_with_1002() {
    let masked = |first: u8, payload: &[u8]| frame(FIN | first, payload, true);
    let cases: [(&str, Vec<u8>); 9] = [
        ("unmasked", frame(FIN | TEXT, b"\n", false)),
        ("RSV1", masked(TEXT | 0x40, b"\n")),
        ("opcode 3", masked(3, b"\n")),
        ("ping of 126", masked(PING, &[b'x'; 126])),
        ("fragmented ping", frame(PING, b"", true)),
        ("continuation of nothing", masked(0, b"x")),
        ("length not in its shortest form", vec![0x81, 0xfe, 0, 1, 0, 0, 0, 0, b'\n']),
        ("close with one octet", masked(CLOSE, b"x")),
        ("close code that may not be sent", masked(CLOSE, &1005_u16.to_be_bytes())),
    ];
    for (what, octets) in cases {
        let (mut raw, _server) = default_websocket();
        raw.connect().await;
        raw.write(&octets).await;
        assert!(raw.expect_text().await.starts_with("ERROR\nmessage:broken WebSocket frame, "));
        assert!(matches!(raw.next().await, Got::Close(1002, _)), "{what}");
    }
}

/// V-06: the length of a message is announced and never sent
#[tokio::test]
async fn a_huge_announced_length_closes_at_once() {
    let (mut raw, _server) = default_websocket();
    raw.connect().await;
    raw.write(&[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).await;
    let error = raw.expect_text().await;
    assert!(
        error.contains("\nmessage:WebSocket message longer than 4456448 octets\n")
            || error.starts_with("ERROR\nmessage:WebSocket message longer than 4456448 octets\n"),
        "{error}"
    );
    assert!(matches!(raw.next().await, Got::Close(1009, _)));
}

/// W-32, S10-LIM-09
#[tokio::test]
async fn a_message_over_the_limit_closes_with_1009_and_the_limit_is_lower_before_connect() {
    let transport =
        TransportConfig::DEFAULT.with_max_message_before_connect(100).with_max_message(200);
    let (mut raw, _server) = websocket(Config::default(), transport, 1024 * 1024);
    raw.text(&format!("CONNECT\naccept-version:1.2\nhost:h\nx:{}\n\n\0", "x".repeat(100))).await;
    assert!(raw.expect_text().await.contains("longer than 100 octets"));
    assert!(matches!(raw.next().await, Got::Close(1009, _)));

    let (mut raw, _server) = websocket(Config::default(), transport, 1024 * 1024);
    raw.connect().await;
    raw.text(&format!("SEND\ndestination:/q\nreceipt:1\n\n{}\0", "x".repeat(150))).await;
    assert!(raw.expect_text().await.starts_with("RECEIPT\n"));
    raw.text(&"x".repeat(201)).await;
    assert!(raw.expect_text().await.contains("longer than 200 octets"));
    assert!(matches!(raw.next().await, Got::Close(1009, _)));
}

/// W-32, V-06
#[tokio::test]
async fn tiny_fragments_count_together_and_empty_ones_cost_nothing() {
    let transport = TransportConfig::DEFAULT.with_max_message(1000);
    let (mut raw, _server) = websocket(Config::default(), transport, 1024 * 1024);
    raw.connect().await;
    raw.frame(BINARY, b"").await;
    for _ in 0..10_000 {
        raw.frame(0, b"").await;
    }
    for _ in 0..1001 {
        raw.frame(0, b"\n").await;
    }
    assert!(raw.expect_text().await.contains("longer than 1000 octets"));
    assert!(matches!(raw.next().await, Got::Close(1009, _)));
}

/// W-31, S10-LIM-07, V-01
#[tokio::test]
async fn limits_count_across_messages() {
    let limits = Limits::DEFAULT.with_header_line(1000);
    let (mut raw, _server) =
        websocket(Config::default().limits(limits), TransportConfig::DEFAULT, 1024 * 1024);
    raw.connect().await;
    raw.text("SEND\nx:").await;
    for _ in 0..1000 {
        raw.text("x").await;
    }
    assert!(raw.expect_text().await.contains("header line longer than 1000 octets"));
    assert!(matches!(raw.next().await, Got::Close(1009, _)));
}

/// W-29
#[tokio::test]
async fn pings_are_answered_also_inside_a_frame_and_a_message() {
    let (mut raw, server) = default_websocket();
    raw.connect().await;
    raw.text("SEND\ndestination:/q\nrec").await;
    raw.frame(FIN | PING, b"first").await;
    assert_eq!(raw.next().await, Got::Pong(b"first".to_vec()));
    raw.frame(TEXT, b"eipt:1\n").await;
    raw.frame(FIN | PING, &[b'x'; 125]).await;
    assert_eq!(raw.next().await, Got::Pong(vec![b'x'; 125]));
    raw.frame(FIN, b"\nbody\0").await;
    assert!(raw.expect_text().await.starts_with("RECEIPT\n"));
    drop(raw);
    assert_eq!(server.await.unwrap().sends, ["body"]);
}

/// W-29: the bound is on pongs that wait, not on pings that were ever sent
#[tokio::test]
async fn a_client_that_reads_its_pongs_may_ping_for_ever() {
    let transport = TransportConfig::DEFAULT.with_max_pongs(2);
    let (mut raw, _server) = websocket(Config::default(), transport, 1024);
    for n in 0..10 {
        raw.frame(FIN | PING, &[n]).await;
        assert_eq!(raw.next().await, Got::Pong(vec![n]));
    }
}

/// V-06: the pongs that wait are bounded
#[tokio::test]
async fn pings_without_reading_end_the_connection() {
    let transport = TransportConfig::DEFAULT.with_max_pongs(8);
    let (near, far) = tokio::io::duplex(1024);
    let mut raw = Raw::new(near);
    let mut transport = Transport::websocket(far, &[], Role::Server, transport);
    let flood = tokio::spawn(async move {
        while raw.io.write_all(&frame(FIN | PING, &[b'x'; 100], true)).await.is_ok() {}
    });
    match timeout(SOON, transport.recv()).await.unwrap() {
        Err(error @ TransportError::PingFlood { limit: 8 }) => {
            assert_eq!(error.close_code().as_u16(), 1008);
        }
        other => panic!("{other:?}"),
    }
    assert!(transport.queued() < 4096);
    drop(transport);
    flood.await.unwrap();
}

/// W-34, S10-LIM-10, V-08
#[tokio::test(start_paused = true)]
async fn no_connect_in_time_closes_with_1008_whatever_trickles_in() {
    for trickle in ["", "\n", "CONNECT"] {
        let (mut raw, server) = default_websocket();
        let start = Instant::now();
        for octet in trickle.bytes().cycle().take(if trickle.is_empty() { 0 } else { 9 }) {
            tokio::time::sleep(Duration::from_secs(1)).await;
            raw.frame(FIN | TEXT, &[octet]).await;
        }
        loop {
            match raw.next().await {
                Got::Close(code, _) => {
                    assert_eq!(code, 1008);
                    break;
                }
                Got::Text(text) => assert!(text.starts_with("ERROR\n"), "{text}"),
                other => panic!("{other:?}"),
            }
        }
        let elapsed = start.elapsed().as_secs_f64();
        assert!((9.0..=11.0).contains(&elapsed), "{trickle:?}: {elapsed}");
        drop(raw);
        let reason = server.await.unwrap().reason;
        assert!(
            matches!(reason, Some(CloseReason::ConnectTimeout | CloseReason::Malformed(_))),
            "{reason:?}"
        );
    }
}

/// W-35, W-36, S10-DIS-05, S10-DIS-06, S11-CON-12
#[tokio::test]
async fn each_end_has_its_close_code_and_error_comes_first() {
    let cases: [(&str, &str, u16); 7] = [
        ("DISCONNECT\nreceipt:77\n\n\0", "RECEIPT\nreceipt-id:77\n\n\0", 1000),
        ("DISCONNECT\n\n\0", "", 1000),
        ("SEND\ndestination:/q\nk:\\x\n\n\0", "ERROR\n", 1002),
        ("CONNECT\naccept-version:1.2\nhost:h\n\n\0", "ERROR\n", 1002),
        ("SUBSCRIBE\nid:0\n\n\0", "ERROR\n", 1002),
        ("SEND\ndestination:/forbidden\nreceipt:5\n\n\0", "ERROR\n", 1008),
        ("SEND\ndestination:/shutdown\n\n\0", "", 1001),
    ];
    for (sent, answer, code) in cases {
        let (mut raw, server) = default_websocket();
        raw.connect().await;
        raw.text(sent).await;
        if !answer.is_empty() {
            let got = raw.expect_text().await;
            assert!(got.starts_with(answer), "{sent:?}: {got}");
        }
        assert!(matches!(raw.next().await, Got::Close(got, _) if got == code), "{sent:?}");
        raw.frame(FIN | CLOSE, &code.to_be_bytes()).await;
        assert_eq!(raw.next().await, Got::End, "{sent:?}");
        timeout(SOON, server).await.unwrap().unwrap();
    }
}

/// S10-CON-11, S11-CON-12, S10-CON-22, V-22
#[tokio::test]
async fn nothing_behind_a_refused_connect_is_processed() {
    let (mut raw, server) = default_websocket();
    let connect = "CONNECT\naccept-version:1.2\nhost:h\nlogin:mallory\npasscode:x\n\n\0";
    raw.text(&format!("{connect}SUBSCRIBE\nid:0\ndestination:/q\n\n\0{SEND}x\0")).await;
    let error = raw.expect_text().await;
    assert!(error.starts_with("ERROR\n") && error.contains("authentication failed"), "{error}");
    assert!(matches!(raw.next().await, Got::Close(1008, _)));
    drop(raw);
    let seen = server.await.unwrap();
    assert_eq!(seen.reason, Some(CloseReason::Rejected));
    assert!(seen.sends.is_empty());
}

/// W-37, S10-DIS-12
#[tokio::test]
async fn a_close_frame_without_disconnect_is_a_lost_connection() {
    let (mut raw, server) = default_websocket();
    raw.connect().await;
    raw.text("SUBSCRIBE\nid:0\ndestination:/q\nack:client-individual\n\n\0").await;
    raw.text(&format!("{SEND}one\0{SEND}two\0")).await;
    raw.expect_text().await;
    raw.expect_text().await;
    raw.text("BEGIN\ntransaction:t\n\n\0SEND\ntransaction:t\ndestination:/q\n\nx\0").await;
    raw.frame(FIN | CLOSE, &1000_u16.to_be_bytes()).await;
    assert_eq!(raw.next().await, Got::Close(1000, String::new()));
    assert_eq!(raw.next().await, Got::End);
    let seen = server.await.unwrap();
    assert_eq!(seen.reason, Some(CloseReason::ConnectionLost));
    assert_eq!(seen.peer_close, Some(1000));
    assert_eq!(seen.committed, 0);
    assert_eq!(seen.returned, [1, 2]);
}

/// S11-DIS-11
#[tokio::test(start_paused = true)]
async fn a_client_that_never_answers_the_close_is_dropped_within_five_seconds() {
    let (mut raw, server) = default_websocket();
    raw.connect().await;
    raw.text("DISCONNECT\nreceipt:1\n\n\0").await;
    assert!(raw.expect_text().await.starts_with("RECEIPT\n"));
    assert!(matches!(raw.next().await, Got::Close(1000, _)));
    let start = Instant::now();
    assert_eq!(raw.next().await, Got::End);
    assert!(start.elapsed() <= Duration::from_secs(5), "{:?}", start.elapsed());
    timeout(SOON, server).await.unwrap().unwrap();
}

/// S11-DIS-11: what was sent last gets through to a client that reads slowly
#[tokio::test(start_paused = true)]
async fn a_slow_reader_still_gets_the_receipt_and_the_close() {
    let (mut raw, server) = websocket(Config::default(), TransportConfig::DEFAULT, 64);
    raw.connect().await;
    raw.text("DISCONNECT\nreceipt:").await;
    raw.frame(FIN | TEXT, "1".repeat(500).as_bytes()).await;
    raw.text("\n\n\0").await;
    let mut octets = Vec::new();
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut piece = [0; 50];
        match raw.io.read(&mut piece).await.unwrap() {
            0 => break,
            n => octets.extend_from_slice(&piece[..n]),
        }
    }
    let text = String::from_utf8_lossy(&octets);
    assert!(
        text.contains("RECEIPT\nreceipt-id:111") && octets.ends_with(&[0x88, 2, 3, 0xe8]),
        "{text}"
    );
    timeout(SOON, server).await.unwrap().unwrap();
}
