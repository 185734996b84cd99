//! TLS on both addresses, with certificates that are renewed while the server runs.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use stomp_ws::client::{Client, ConnectOptions};
use stomp_ws::{Role, Transport, TransportConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use common::PATIENCE;
use common::server::{Server, password};

/// Certificate and key in a folder.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("temporary folder") }
    }

    fn certificate(&self) -> PathBuf {
        self.folder.path().join("chain.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    /// Writes a new certificate for `localhost`, and gives it.
    fn renew(&self) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
        fs::write(self.certificate(), made.cert.pem()).expect("written");
        fs::write(self.key(), made.signing_key.serialize_pem()).expect("written");
        made.cert.der().clone()
    }

    fn start(&self, further: &[&str]) -> Server {
        let (certificate, key) = (self.certificate(), self.key());
        let (certificate, key) = (certificate.to_str(), key.to_str());
        let tls =
            ["--tls-certificate", certificate.expect("UTF-8"), "--tls-key", key.expect("UTF-8")];
        Server::start(&[&tls, further].concat())
    }
}

async fn open(
    address: SocketAddr,
    trusted: &CertificateDer<'static>,
) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    let name = "localhost".try_into().expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

async fn sign_in(transport: Transport, user: &str) -> Client {
    let options = ConnectOptions::new().credentials(user, password(user));
    Client::over(transport, "localhost", options).await.expect("signed in")
}

async fn over_tcp(server: &Server, trusted: &CertificateDer<'static>, user: &str) -> Client {
    let stream = open(server.stomp, trusted).await.expect("a handshake");
    sign_in(Transport::stream(stream, TransportConfig::DEFAULT), user).await
}

async fn over_websocket(server: &Server, trusted: &CertificateDer<'static>, user: &str) -> Client {
    let mut stream = open(server.http, trusted).await.expect("a handshake");
    // As a page of this server would.
    let request = format!(
        "GET /ws HTTP/1.1\r\nhost: localhost:{0}\r\norigin: https://localhost:{0}\r\nconnection: Upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        server.http.port()
    );
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a head"));
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    sign_in(Transport::websocket(stream, &[], Role::Client, TransportConfig::DEFAULT), user).await
}

/// The status line of the page.
async fn page(server: &Server, trusted: &CertificateDer<'static>) -> io::Result<String> {
    let mut stream = open(server.http, trusted).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned())
}

/// Waits until new connections get this certificate.
async fn until_shown(server: &Server, certificate: &CertificateDer<'static>) {
    let shown = async {
        while open(server.stomp, certificate).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, shown).await.expect("the new certificate");
}

#[tokio::test]
async fn certificates_are_renewed_under_live_sessions() {
    let files = Files::new();
    let first = files.renew();
    let server = files.start(&[]);
    assert_eq!(page(&server, &first).await.expect("the page"), "HTTP/1.1 200 OK");
    let alice = over_tcp(&server, &first, "alice").await;
    let bob = over_websocket(&server, &first, "bob").await;
    let (mut inbox, _) = bob.subscribe("/inbox").confirmed().await.expect("subscribed");

    // Noticed without a word.
    let second = files.renew();
    until_shown(&server, &second).await;
    assert!(page(&server, &first).await.is_err(), "the old certificate is still shown");

    // A bad file is told of, and changes nothing.
    fs::write(files.key(), "no key").expect("written");
    server.signal("HUP");
    let told = async {
        while !server.log().contains("the TLS certificate stays the old one") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("an error in the log");
    assert_eq!(page(&server, &second).await.expect("the page"), "HTTP/1.1 200 OK");

    let third = files.renew();
    server.signal("HUP");
    until_shown(&server, &third).await;

    // The sessions from the beginning go on.
    alice.send("/user/bob", "still here").confirmed().await.expect("receipted");
    loop {
        let message = tokio::time::timeout(PATIENCE, inbox.recv()).await.expect("in time");
        let message = message.expect("a message");
        if message.header("seq").is_some() {
            assert_eq!(message.body(), b"still here");
            break;
        }
    }
}

/// P9: whoever says nothing is cut off, as without TLS.
#[tokio::test]
async fn p9_connections_without_a_handshake_end() {
    let files = Files::new();
    files.renew();
    let server = files.start(&[]);
    let mut waiting = Vec::new();
    for address in [server.http, server.stomp] {
        for said in [b"".as_slice(), b"\x16\x03\x01\x02"] {
            waiting.push(async move {
                let mut stream = TcpStream::connect(address).await.expect("connected");
                stream.write_all(said).await.expect("written");
                let mut rest = Vec::new();
                let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
                // Reset or closed.
                let _ = end.expect("the end");
            });
        }
    }
    futures::future::join_all(waiting).await;
}

/// P7: one connection too many is told so within TLS, too.
#[tokio::test]
async fn p7_one_connection_too_many_is_refused_over_tls() {
    let files = Files::new();
    let certificate = files.renew();
    let server = files.start(&["--max-connections", "1"]);
    let _only = over_tcp(&server, &certificate, "alice").await;
    let refused = page(&server, &certificate).await.expect("an answer");
    assert_eq!(refused, "HTTP/1.1 503 Service Unavailable");
    let stream = open(server.stomp, &certificate).await.expect("a handshake");
    let transport = Transport::stream(stream, TransportConfig::DEFAULT);
    let options = ConnectOptions::new().credentials("bob", password("bob"));
    let refused = Client::over(transport, "localhost", options).await.expect_err("one too many");
    assert!(refused.to_string().contains("too many connections"), "{refused}");
}
