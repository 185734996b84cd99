//! TLS: handshakes that end, that do not, and certificates that change.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use stomp_codec::server::Config;
use stomp_ws::client::{Client, ConnectOptions};
use stomp_ws::tls::{ServerTls, TlsError, TlsFiles};
use stomp_ws::{TcpAcceptor, Transport, TransportConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::support::serve;

const PATIENCE: Duration = Duration::from_secs(30);

/// Writes a new certificate for `localhost` and its key; gives the certificate.
fn write(folder: &TempDir) -> (TlsFiles, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = TlsFiles::new(folder.path().join("chain.pem"), folder.path().join("key.pem"));
    fs::write(&files.certificates, made.cert.pem()).unwrap();
    fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    (files, made.cert.der().clone())
}

/// A STOMP server with TLS, whose connect deadline is `deadline`.
async fn start(tls: &ServerTls, deadline: Duration) -> std::net::SocketAddr {
    let config = TransportConfig::DEFAULT.with_linger(deadline);
    let acceptor = TcpAcceptor::bind("127.0.0.1:0", config).await.unwrap();
    let acceptor = acceptor.with_tls(tls.clone());
    let address = acceptor.local_addr().unwrap();
    let config = Arc::new(Config::default().connect_timeout(deadline));
    tokio::spawn(async move {
        loop {
            let (transport, _) = acceptor.accept().await;
            tokio::spawn(serve(transport, Arc::clone(&config)));
        }
    });
    address
}

async fn handshake(
    address: std::net::SocketAddr,
    trusted: &CertificateDer<'static>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await
}

async fn client(address: std::net::SocketAddr, trusted: &CertificateDer<'static>) -> Client {
    let stream = handshake(address, trusted).await.unwrap();
    let transport = Transport::stream(stream, TransportConfig::DEFAULT);
    Client::over(transport, "localhost", ConnectOptions::new()).await.unwrap()
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections_and_a_bad_one_for_none() {
    let folder = TempDir::new().unwrap();
    let (files, first) = write(&folder);
    let tls = ServerTls::load(files.clone()).unwrap();
    let address = start(&tls, PATIENCE).await;
    let session = client(address, &first).await;
    let (mut messages, _) = session.subscribe("/x").confirmed().await.unwrap();

    let (_, second) = write(&folder);
    assert!(tls.has_changed());
    tls.reload().unwrap();
    assert!(!tls.has_changed());
    assert!(handshake(address, &first).await.is_err(), "the old certificate is still shown");
    client(address, &second).await;

    // A key of another certificate, no key, no certificate, no file: the second one stays.
    let good = (fs::read(&files.certificates).unwrap(), fs::read(&files.key).unwrap());
    let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
    for (certificates, key) in [
        (good.0.as_slice(), other.as_bytes()),
        (good.0.as_slice(), b"no key"),
        (b"".as_slice(), good.1.as_slice()),
        (b"-----BEGIN CERTIFICATE-----\nAAAA".as_slice(), good.1.as_slice()),
    ] {
        fs::write(&files.certificates, certificates).unwrap();
        fs::write(&files.key, key).unwrap();
        let error = tls.reload().unwrap_err();
        assert!(matches!(error, TlsError::Invalid { .. }), "{error}");
        client(address, &second).await;
    }
    fs::write(&files.certificates, &good.0).unwrap();
    fs::remove_file(&files.key).unwrap();
    assert!(matches!(tls.reload(), Err(TlsError::Read { .. })));
    client(address, &second).await;

    // The session from before all that has noticed nothing.
    session.send("/x", "still here").confirmed().await.unwrap();
    let message = tokio::time::timeout(PATIENCE, messages.recv()).await.unwrap().unwrap();
    assert_eq!(message.body(), b"still here");
}

#[tokio::test]
async fn changed_files_are_noticed() {
    let folder = TempDir::new().unwrap();
    let (files, _) = write(&folder);
    let tls = ServerTls::load(files).unwrap();
    let address = start(&tls, PATIENCE).await;
    let watching = tls.clone();
    tokio::spawn(async move { watching.watch(Duration::from_millis(10)).await });
    let (_, second) = write(&folder);
    let noticed = async {
        while handshake(address, &second).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, noticed).await.expect("the new certificate");
}

/// P9: who says nothing, or no TLS, is cut off by the connect deadline, or at once.
#[tokio::test]
async fn p9_a_handshake_that_does_not_come_ends() {
    let folder = TempDir::new().unwrap();
    let (files, trusted) = write(&folder);
    let tls = ServerTls::load(files).unwrap();
    let address = start(&tls, Duration::from_millis(200)).await;
    for said in [b"".as_slice(), b"\x16\x03\x01", b"CONNECT\naccept-version:1.2\n\n\0"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(said).await.unwrap();
        let mut rest = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        // Reset or closed, perhaps with an alert.
        let _ = read.expect("the end");
        assert!(!rest.starts_with(b"CONNECTED"));
    }
    // The handshake alone is not enough.
    let mut stream = handshake(address, &trusted).await.unwrap();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the end");
}
