//! A store that cannot work now: the sender is told to try again, and nothing receipted is lost.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use stomp_codec::server::AckMode;
use stomp_ws::client::{Client, ConnectOptions, Subscription};
use stomp_ws::{Transport, TransportConfig};

use super::*;
use crate::auth::{AuthError, Authenticator, Credentials, Principal};
use crate::gateway::Gateway;

/// Lets everybody in.
#[derive(Debug)]
struct Trusting;

#[async_trait]
impl Authenticator for Trusting {
    async fn authenticate(
        &self,
        credentials: &Credentials,
    ) -> Result<Option<Principal>, AuthError> {
        let name = credentials.login.as_deref().unwrap_or_default();
        Ok(UserName::new(name).ok().map(Principal::new))
    }
}

async fn gateway(store: Arc<dyn MessageStore>) -> Gateway {
    let gateway =
        Gateway::builder().store(store).authenticator(Arc::new(Trusting)).build().unwrap();
    for name in ["alice", "bob"] {
        gateway.create_user(&UserName::new(name).unwrap(), None).await.unwrap();
    }
    gateway
}

async fn connect(gateway: &Gateway, name: &str) -> Client {
    let (near, far) = tokio::io::duplex(64 * 1024);
    gateway.spawn(Transport::stream(far, TransportConfig::DEFAULT), None);
    let near = Transport::stream(near, TransportConfig::DEFAULT);
    Client::over(near, "test", ConnectOptions::new().credentials(name, "x")).await.unwrap()
}

/// The `seq` of the RECEIPT, or the `retry` header of the ERROR.
async fn send(gateway: &Gateway, key: &str, body: &str) -> Result<u64, String> {
    let alice = connect(gateway, "alice").await;
    let sent = alice.send("/user/bob", body.to_owned()).header("idempotency-key", key);
    match sent.confirmed().await {
        Ok(receipt) => Ok(receipt.header("seq").unwrap().parse().unwrap()),
        Err(_) => Err(alice.closed().await.error.unwrap().header("retry").unwrap_or_default()),
    }
}

/// What bob has in his inbox, up to and with this key: `seq` and key of each message.
async fn inbox(gateway: &Gateway, last: &str) -> Vec<(u64, String)> {
    let bob = connect(gateway, "bob").await;
    let subscribe = bob.subscribe("/inbox").ack(AckMode::ClientIndividual);
    let (mut inbox, _): (Subscription, _) = subscribe.confirmed().await.unwrap();
    let mut got = Vec::new();
    loop {
        let message = tokio::time::timeout(Duration::from_secs(30), inbox.recv());
        let message = message.await.expect("a message").unwrap();
        let key = message.header("idempotency-key").unwrap().into_owned();
        got.push((message.header("seq").unwrap().parse().unwrap(), key.clone()));
        bob.ack(&message).confirmed().await.unwrap();
        if key == last {
            return got;
        }
    }
}

/// P1, P2, P4: with a full disk a sender gets ERROR with `retry:true`; with room again the same SEND is receipted once.
#[cfg(feature = "sqlite")]
#[tokio::test]
async fn p1_a_full_disk_gives_no_receipt_but_an_error_that_says_retry() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = Arc::new(SqliteStore::open(folder.path().join("store.db")).unwrap());
    let gateway = gateway(store.clone()).await;
    let mut receipted = vec![(send(&gateway, "first", "x").await.unwrap(), "first".to_owned())];
    sqlite::tests::room(&store, 20).await;
    let body = "x".repeat(5000);
    let refused = loop {
        let key = format!("key {}", receipted.len());
        match send(&gateway, &key, &body).await {
            Ok(seq) => receipted.push((seq, key)),
            Err(retry) => {
                assert_eq!(retry, "true");
                break key;
            }
        }
        assert!(receipted.len() < 100, "the disk does not get full");
    };
    assert_eq!(send(&gateway, &refused, &body).await, Err("true".to_owned()), "still full");
    sqlite::tests::room(&store, 1_000_000).await;
    receipted.push((send(&gateway, &refused, &body).await.unwrap(), refused.clone()));
    let seqs: Vec<_> = receipted.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(seqs, (1..=receipted.len() as u64).collect::<Vec<_>>());
    assert_eq!(inbox(&gateway, &refused).await, receipted);
    gateway.shutdown().await;
}

/// P1, P2, P4: the same while the database is away.
#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgresql"]
async fn p1_a_stopped_database_gives_no_receipt_but_an_error_that_says_retry() {
    use mq_bridge::testkit::servers::{Postgres, TestServer};

    let mut server = Postgres::start().await.unwrap();
    let store = Arc::new(PostgresStore::open(server.url()).await.unwrap());
    let gateway = gateway(store).await;
    let first = send(&gateway, "first", "x").await.unwrap();
    server.kill().await.unwrap();
    assert_eq!(send(&gateway, "second", "x").await, Err("true".to_owned()));
    TestServer::start(&mut server).await.unwrap();
    let second = send(&gateway, "second", "x").await.unwrap();
    let receipted = [(first, "first".to_owned()), (second, "second".to_owned())];
    assert_eq!(inbox(&gateway, "second").await, receipted);
    gateway.shutdown().await;
}
