//! What is stored in another form, and read as it was.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../examples/encrypt/cipher.rs"]
mod cipher;
mod common;

use std::sync::Arc;

use cipher::Cipher;
use common::{body, builder, connect, header, inbox, populated, send, take, user};
use gateway_core::{
    ConversationId, Destination, Formatter, GatewayError, MemoryStore, MessageStore, NewMessage,
    Page, SendRequest, StoreError, StoredMessage,
};

const OLD: [u8; 32] = [1; 32];
const NEW: [u8; 32] = [2; 32];

fn old() -> Cipher {
    Cipher::new("old", &OLD).unwrap()
}

fn conversation() -> ConversationId {
    ConversationId::new("direct:alice:bob").unwrap()
}

async fn stored(store: &MemoryStore) -> Vec<StoredMessage> {
    store.history(&conversation(), Page::after(0, 100)).await.unwrap()
}

#[tokio::test]
async fn receivers_get_the_original_and_the_store_does_not() {
    let store = Arc::new(MemoryStore::new());
    let cipher = Arc::new(old());
    let gateway = populated(builder().store(store.clone()).formatter(cipher)).await;
    let (alice, bob) = (connect(&gateway, "alice").await, connect(&gateway, "bob").await);
    let mut inbox = inbox(&bob).await;
    send(&alice, "/user/bob", "between you and me").await;
    // The first one tells that the group was made.
    take(&bob, &mut inbox).await;
    let message = take(&bob, &mut inbox).await;
    assert_eq!(body(&message), "between you and me");
    assert_eq!(header(&message, "content-type"), "");

    let kept = &stored(&store).await[0];
    assert!(!kept.body.windows(3).any(|part| part == b"you"), "{:?}", kept.body);
    let list = gateway.conversations(&user("bob"), None, 9).await.unwrap();
    let last = list.iter().find_map(|line| line.last_message.as_ref()).unwrap();
    assert_eq!(last.body, "between you and me");
    let found = gateway.search(&user("bob"), None, "you".parse().unwrap(), None, 9).await.unwrap();
    assert_eq!(found.messages, [], "what is encrypted is not found");
    gateway.shutdown().await;
}

/// P1, P4: what has to be published again is the original, too.
#[tokio::test]
async fn the_outbox_gives_the_original() {
    let store = Arc::new(MemoryStore::new());
    let cipher = Arc::new(old());
    let mut left = NewMessage::new(conversation(), user("alice"), "left behind")
        .with_header("content-type", "text/plain")
        .with_header("x-more", "1")
        .with_targets(["inbox.bob"]);
    cipher.store(&mut left).unwrap();
    assert_ne!(left.body, "left behind");
    let gateway = builder().store(store.clone()).formatter(cipher).build().unwrap();
    store.append(vec![left]).await.remove(0).unwrap();
    let entry = gateway.store().unpublished(None, 9).await.unwrap().remove(0).message;
    assert_eq!(entry.body, "left behind");
    let headers = [("content-type", "text/plain"), ("x-more", "1")];
    assert_eq!(entry.headers, headers.map(|(name, value)| (name.to_owned(), value.to_owned())));
    gateway.shutdown().await;
}

#[tokio::test]
async fn keys_change_and_older_messages_stay_readable() {
    let store = Arc::new(MemoryStore::new());
    let to_bob = || Destination::parse("/user/bob").unwrap();
    let say = |text: &'static str| {
        let request = SendRequest::new(user("alice"), to_bob(), text);
        request.with_header("content-type", "text/markdown").unwrap()
    };
    for (cipher, text) in [
        (None, "before there were keys"),
        (Some(old()), "with the old key"),
        (Some(old().with_current("new", &NEW).unwrap()), "with the new key"),
    ] {
        let mut builder = builder().store(store.clone());
        if let Some(cipher) = cipher {
            builder = builder.formatter(Arc::new(cipher));
        }
        let gateway = builder.build().unwrap();
        for name in ["alice", "bob"] {
            gateway.create_user(&user(name), None).await.unwrap();
        }
        gateway.send(say(text)).await.unwrap();
        gateway.shutdown().await;
    }
    let cipher = old().with_current("new", &NEW).unwrap();
    let read: Vec<_> = stored(&store).await;
    let read = read.into_iter().map(|mut message| {
        cipher.load(&mut message).unwrap();
        assert_eq!(message.headers, [("content-type".to_owned(), "text/markdown".to_owned())]);
        message.body
    });
    let wanted = ["before there were keys", "with the old key", "with the new key"];
    assert_eq!(read.collect::<Vec<_>>(), wanted);
    let mut last = stored(&store).await.remove(2);
    let error = old().load(&mut last.clone()).unwrap_err();
    assert!(error.to_string().contains("new"), "{error}");
    last.sender = user("carol");
    assert!(cipher.load(&mut last).is_err(), "put into another's mouth");
}

/// Keeps no text of a certain word, and refuses another.
#[derive(Debug)]
struct Redacting;

impl Formatter for Redacting {
    fn store(&self, message: &mut NewMessage) -> Result<(), StoreError> {
        let text = String::from_utf8_lossy(&message.body);
        if text.contains("forbidden") {
            return Err(StoreError::Refused("no such words".to_owned()));
        }
        message.body = text.replace("4929", "****").into();
        Ok(())
    }

    fn load(&self, _: &mut StoredMessage) -> Result<(), StoreError> {
        Ok(())
    }
}

#[tokio::test]
async fn what_is_redacted_arrives_but_is_not_kept() {
    let store = Arc::new(MemoryStore::new());
    let gateway = populated(builder().store(store.clone()).formatter(Arc::new(Redacting))).await;
    let (alice, bob) = (connect(&gateway, "alice").await, connect(&gateway, "bob").await);
    let mut inbox = inbox(&bob).await;
    let to_bob = Destination::parse("/user/bob").unwrap();
    let refused = gateway.send(SendRequest::new(user("alice"), to_bob, "forbidden"));
    let good = send(&alice, "/user/bob", "my card is 4929");
    let (refused, _) = tokio::join!(refused, good);
    assert!(matches!(refused, Err(GatewayError::Store(StoreError::Refused(_)))), "{refused:?}");
    take(&bob, &mut inbox).await;
    assert_eq!(body(&take(&bob, &mut inbox).await), "my card is 4929");
    let kept: Vec<_> = stored(&store).await.into_iter().map(|message| message.body).collect();
    assert_eq!(kept, ["my card is ****"]);
    gateway.shutdown().await;
}
