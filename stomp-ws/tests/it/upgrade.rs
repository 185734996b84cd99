//! `StompUpgrade` on a real socket, spoken to by hand.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::response::Response;
use axum::routing::any;
use stomp_codec::server::{AckMode, Config};
use stomp_ws::axum::StompUpgrade;
use stomp_ws::client::{Client, ConnectError, ConnectOptions};
use stomp_ws::{OriginPolicy, Subprotocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{FIN, Raw, TEXT, frame, serve};

async fn stomp(upgrade: StompUpgrade) -> Response {
    upgrade.on_upgrade(|transport| async {
        serve(transport, Arc::new(Config::default())).await;
    })
}

async fn listed(upgrade: StompUpgrade) -> Response {
    let policy = OriginPolicy::listed().allow("https://chat.example").unwrap().require_origin(true);
    upgrade.origin_policy(policy).on_upgrade(|_| async {})
}

async fn strict(upgrade: StompUpgrade) -> Response {
    upgrade.require_subprotocol(true).on_upgrade(|_| async {})
}

async fn server() -> SocketAddr {
    let router = Router::new()
        .route("/ws", any(stomp))
        .route("/listed", any(listed))
        .route("/strict", any(strict));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

const UPGRADE: &str = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn request(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: chat.example\r\n{headers}\r\n")
}

/// Sends `request` and gives status line and headers, in lower case.
async fn ask(request: &str) -> (String, TcpStream) {
    let mut socket = TcpStream::connect(server().await).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let head = head(&mut socket).await;
    (head, socket)
}

async fn head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap().to_lowercase()
}

/// The subprotocol that is chosen when these header lines offer some.
async fn chosen(offers: &str) -> Option<String> {
    let (head, _) = ask(&request("/ws", &format!("{UPGRADE}{offers}"))).await;
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{head}");
    let mut lines = head.lines().filter_map(|line| line.strip_prefix("sec-websocket-protocol: "));
    let chosen = lines.next().map(str::to_owned);
    assert_eq!(lines.next(), None);
    chosen
}

/// W-01, W-02, W-03, W-04, W-05, W-06
#[tokio::test]
async fn the_highest_offered_subprotocol_is_chosen_or_none() {
    let name = |name: Subprotocol| Some(name.as_str().to_owned());
    let cases = [
        ("Sec-WebSocket-Protocol: v12.stomp, v11.stomp, v10.stomp\r\n", name(Subprotocol::V12)),
        ("Sec-WebSocket-Protocol: v10.stomp, v12.stomp\r\n", name(Subprotocol::V12)),
        ("Sec-WebSocket-Protocol: v11.stomp\r\n", name(Subprotocol::V11)),
        ("Sec-WebSocket-Protocol: stomp\r\n", None),
        ("", None),
        ("Sec-WebSocket-Protocol: mqtt\r\n", None),
        (
            "Sec-WebSocket-Protocol: v10.stomp\r\nSec-WebSocket-Protocol:v12.stomp \r\n",
            name(Subprotocol::V12),
        ),
        ("Sec-WebSocket-Protocol: V12.STOMP\r\n", None),
    ];
    for (offers, expected) in cases {
        assert_eq!(chosen(offers).await, expected, "{offers}");
    }
}

/// W-05
#[tokio::test]
async fn a_strict_server_wants_a_subprotocol() {
    let (head, _) = ask(&request("/strict", UPGRADE)).await;
    assert!(head.starts_with("http/1.1 400 "), "{head}");
    let offer = format!("{UPGRADE}Sec-WebSocket-Protocol: v11.stomp\r\n");
    let (head, _) = ask(&request("/strict", &offer)).await;
    assert!(head.starts_with("http/1.1 101 "), "{head}");
}

/// W-07
#[tokio::test]
async fn the_subprotocol_does_not_fix_the_version() {
    let offer = format!("{UPGRADE}Sec-WebSocket-Protocol: v10.stomp\r\n");
    let (_, socket) = ask(&request("/ws", &offer)).await;
    let mut raw = Raw::new(socket);
    raw.text("CONNECT\naccept-version:1.0,1.1,1.2\nhost:h\n\n\0").await;
    assert!(raw.expect_text().await.contains("\nversion:1.2\n"));
}

/// W-10, V-26
#[tokio::test]
async fn the_origin_decides() {
    for (path, origin, status) in [
        ("/ws", "", "101"),
        ("/ws", "Origin: http://chat.example\r\n", "101"),
        ("/ws", "Origin: https://chat.example\r\n", "101"),
        ("/ws", "Origin: https://evil.example\r\n", "403"),
        ("/ws", "Origin: https://chat.example.evil.tld\r\n", "403"),
        ("/ws", "Origin: null\r\n", "403"),
        ("/ws", "Origin: https://chat.example\r\nOrigin: https://evil.example\r\n", "403"),
        ("/listed", "Origin: https://chat.example\r\n", "101"),
        ("/listed", "Origin: http://chat.example\r\n", "403"),
        ("/listed", "", "403"),
    ] {
        let (head, _) = ask(&request(path, &format!("{UPGRADE}{origin}"))).await;
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{path} {origin}: {head}");
    }
}

/// W-11, W-44
#[tokio::test]
async fn other_paths_are_not_found() {
    for path in ["/", "/stomp", "/ws/info", "/ws/x"] {
        let (head, _) = ask(&request(path, UPGRADE)).await;
        assert!(head.starts_with("http/1.1 404 "), "{path}: {head}");
    }
}

#[tokio::test]
async fn what_is_no_upgrade_gets_the_status_that_says_so() {
    let without = |line: &str| {
        let kept: Vec<&str> = UPGRADE.lines().filter(|kept| !kept.starts_with(line)).collect();
        request("/ws", &format!("{}\r\n", kept.join("\r\n")))
    };
    for (request, status, header) in [
        (without("Upgrade"), "426", "sec-websocket-version: 13"),
        (without("Connection"), "426", "upgrade: websocket"),
        (without("Sec-WebSocket-Version"), "426", "sec-websocket-version: 13"),
        (without("Sec-WebSocket-Key"), "400", ""),
        (request("/ws", &UPGRADE.replace("13", "8")), "426", "sec-websocket-version: 13"),
        (request("/ws", &UPGRADE.replace("dGhl", "")), "400", ""),
        (request("/ws", &UPGRADE.replace("dGhl", "!!!!")), "400", ""),
        (request("/ws", UPGRADE).replace("GET", "POST"), "405", "allow: get"),
        (request("/ws", UPGRADE).replace("HTTP/1.1", "HTTP/1.0"), "426", ""),
    ] {
        let (head, _) = ask(&request).await;
        assert!(head.contains(&format!(" {status} ")), "{request}: {head}");
        assert!(head.contains(header), "{request}: {head}");
    }
}

/// W-41
#[tokio::test]
async fn upgrade_and_first_frame_in_one_segment() {
    let mut octets = request("/ws", UPGRADE).into_bytes();
    let connect = b"CONNECT\naccept-version:1.2\nhost:h\n\n\0";
    octets.extend(frame(FIN | TEXT, connect, true));
    let mut socket = TcpStream::connect(server().await).await.unwrap();
    socket.write_all(&octets).await.unwrap();
    let head = head(&mut socket).await;
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    let mut raw = Raw::new(socket);
    assert!(raw.expect_text().await.starts_with("CONNECTED\n"));
}

#[tokio::test]
async fn the_client_comes_in_through_the_router() {
    let address = server().await;
    let options = ConnectOptions::new().upgrade_header("Origin", format!("http://{address}"));
    let client = Client::connect(&format!("ws://{address}/ws"), options).await.unwrap();
    let mut subscription = client.subscribe("/queue/a").ack(AckMode::Auto).await.unwrap();
    let body = vec![b'x'; 1024 * 1024];
    client.send("/queue/a", body.clone()).await.unwrap();
    assert!(subscription.recv().await.unwrap().body()[..] == body);
    assert!(client.disconnect().await.is_confirmed());
}

#[tokio::test]
async fn the_client_says_what_http_said() {
    let address = server().await;
    let options = ConnectOptions::new().upgrade_header("Origin", "https://evil.example");
    match Client::connect(&format!("ws://{address}/ws"), options).await {
        Err(ConnectError::Upgrade { status: 403, body }) => {
            assert_eq!(body, r#"the origin "https://evil.example" is not allowed here"#);
        }
        other => panic!("{other:?}"),
    }
    match Client::connect(&format!("ws://{address}/nowhere"), ConnectOptions::new()).await {
        Err(ConnectError::Upgrade { status: 404, .. }) => {}
        other => panic!("{other:?}"),
    }
}
