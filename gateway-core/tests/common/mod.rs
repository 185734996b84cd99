//! A gateway in memory, and clients that reach it through a pipe.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gateway_core::{
    AuthError, Authenticator, Credentials, Gateway, GatewayBuilder, GroupName, Principal, UserName,
};
use stomp_codec::server::AckMode;
use stomp_codec::view::{Message, Receipt};
use stomp_ws::client::{Client, ClientError, ConnectError, ConnectOptions, Subscription};
use stomp_ws::{Transport, TransportConfig};

/// Lets everybody in under the name that they give, with the password `right`.
#[derive(Debug)]
pub(crate) struct Trusting;

#[async_trait]
impl Authenticator for Trusting {
    async fn authenticate(
        &self,
        credentials: &Credentials,
    ) -> Result<Option<Principal>, AuthError> {
        let name = credentials.login.as_deref().ok_or(AuthError::Failed)?;
        if credentials.secret.expose() != "right" {
            return Err(AuthError::Failed);
        }
        let user = UserName::new(name).map_err(|_| AuthError::Failed)?;
        Ok(Some(Principal::new(user)))
    }
}

/// After so long what is waited for is not coming.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn user(name: &str) -> UserName {
    UserName::new(name).unwrap()
}

pub(crate) fn builder() -> GatewayBuilder {
    Gateway::builder().authenticator(Arc::new(Trusting))
}

/// A closed gateway in memory with alice, bob, carol, and the group `ops` of alice and bob.
pub(crate) async fn gateway() -> Gateway {
    populated(builder()).await
}

pub(crate) async fn populated(builder: GatewayBuilder) -> Gateway {
    let gateway = builder.build().unwrap();
    for name in ["alice", "bob", "carol"] {
        gateway.create_user(&user(name), None).await.unwrap();
    }
    let ops = GroupName::new("ops").unwrap();
    gateway.create_group(&user("alice"), &ops, &[user("bob")]).await.unwrap();
    gateway
}

pub(crate) fn pipe(gateway: &Gateway) -> Transport {
    let (near, far) = tokio::io::duplex(64 * 1024);
    gateway.spawn(Transport::stream(far, TransportConfig::DEFAULT), None);
    Transport::stream(near, TransportConfig::DEFAULT)
}

pub(crate) async fn try_connect(
    gateway: &Gateway,
    options: ConnectOptions,
) -> Result<Client, ConnectError> {
    Client::over(pipe(gateway), "test", options).await
}

pub(crate) async fn connect(gateway: &Gateway, name: &str) -> Client {
    try_connect(gateway, ConnectOptions::new().credentials(name, "right")).await.unwrap()
}

pub(crate) async fn connect_device(gateway: &Gateway, name: &str, device: &str) -> Client {
    let options = ConnectOptions::new().credentials(name, "right").header("device", device);
    try_connect(gateway, options).await.unwrap()
}

/// The inbox, live.
pub(crate) async fn inbox(client: &Client) -> Subscription {
    client.subscribe("/inbox").ack(AckMode::ClientIndividual).confirmed().await.unwrap().0
}

pub(crate) async fn send(client: &Client, to: &str, body: &str) -> Receipt {
    client.send(to, body.to_owned()).confirmed().await.unwrap()
}

/// The next message that is not a signal, acknowledged.
pub(crate) async fn take(client: &Client, inbox: &mut Subscription) -> Message {
    let message = peek(inbox).await;
    client.ack(&message).confirmed().await.unwrap();
    message
}

/// The next message that is not a signal, left unacknowledged.
pub(crate) async fn peek(inbox: &mut Subscription) -> Message {
    loop {
        let message =
            tokio::time::timeout(PATIENCE, inbox.recv()).await.expect("a message").unwrap();
        if message.header("seq").is_some() {
            return message;
        }
    }
}

pub(crate) fn body(message: &Message) -> &str {
    std::str::from_utf8(message.body()).unwrap()
}

pub(crate) fn header(message: &Message, name: &str) -> String {
    message.header(name).unwrap_or_default().into_owned()
}

/// The text of the ERROR that refused something.
pub(crate) async fn refusal(client: &Client, outcome: Result<(), ClientError>) -> String {
    assert!(outcome.is_err(), "it was allowed");
    let closed = client.closed().await;
    closed.error.map(|error| error.message()).expect("an ERROR before the end")
}
