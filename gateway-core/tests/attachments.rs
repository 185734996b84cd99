//! Attachments go with the last message that refers to them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{builder, populated, user};
use gateway_core::{
    AttachmentLimits, BlobId, BlobStore, Clock, ConversationId, Destination, Gateway, Keep,
    MemoryBlobs, MemoryStore, MessageStore, Retention, RetentionRules, SendReceipt, SendRequest,
    Sent, StorageRules,
};

const HOUR: Duration = Duration::from_secs(60 * 60);

struct Site {
    gateway: Gateway,
    blobs: Arc<MemoryBlobs>,
    clock: Clock,
}

impl Site {
    async fn new(store: Arc<dyn MessageStore>, clock: Clock) -> Self {
        let blobs = Arc::new(MemoryBlobs::new());
        let retention =
            RetentionRules::new().rule("direct:alice:carol", Retention::max_messages(1));
        let storage = StorageRules::new()
            .rule("direct:bob:carol", Keep::Nothing)
            .rule("direct:alice:carol", Keep::Metadata);
        let builder = builder()
            .store(store)
            .clock(clock.clone())
            .attachments(blobs.clone(), AttachmentLimits::default())
            .retention(retention)
            .storage(Arc::new(storage));
        Self { gateway: populated(builder).await, blobs, clock }
    }

    async fn upload(&self, from: &str, to: &str) -> BlobId {
        let of = Destination::parse(to).unwrap().conversation(&user(from)).unwrap();
        let upload = self.gateway.upload(&user(from), &of, "x", "image/png", None).await;
        let mut upload = upload.unwrap();
        upload.write(Bytes::from_static(b"octets")).await.unwrap();
        upload.finish().await.unwrap()
    }

    async fn send(&self, from: &str, to: &str, headers: &[(&str, &str)]) -> SendReceipt {
        let to = Destination::parse(to).unwrap();
        let body = if headers.contains(&("kind", "recall")) { "" } else { "text" };
        let mut request = SendRequest::new(user(from), to, body);
        for (name, value) in headers {
            request = match *name {
                "kind" => request.with_kind(value, None).unwrap(),
                name => request.with_header(name, value).unwrap(),
            };
        }
        match self.gateway.send(request).await.unwrap() {
            Sent::Stored(receipt) => receipt,
            other => unreachable!("{other:?}"),
        }
    }

    /// A message with an attachment.
    async fn attach(&self, from: &str, to: &str, id: BlobId) -> SendReceipt {
        self.send(from, to, &[("attachment", &id.to_string())]).await
    }

    async fn change(&self, kind: &str, message: &SendReceipt) {
        let target = message.message_id.to_string();
        self.send("alice", "/group/ops", &[("kind", kind), ("in-reply-to", &target)]).await;
    }

    async fn is_there(&self, id: BlobId) -> bool {
        self.blobs.open(id).await.unwrap().is_some()
    }
}

async fn attachments_go_with_the_last_message_that_refers_to_them(site: Site) {
    let ops = "/group/ops";
    let mut gone = vec![("never used", site.upload("alice", ops).await)];
    let mut kept = Vec::new();

    let used = site.upload("alice", ops).await;
    site.attach("alice", ops, used).await;
    kept.push(("used", used));

    let recalled = site.upload("alice", ops).await;
    let message = site.attach("alice", ops, recalled).await;
    site.change("recall", &message).await;
    gone.push(("recalled", recalled));

    let again = site.upload("alice", ops).await;
    let message = site.attach("alice", ops, again).await;
    site.attach("alice", ops, again).await;
    site.change("recall", &message).await;
    kept.push(("recalled once and used twice", again));

    let edited = site.upload("alice", ops).await;
    let message = site.attach("alice", ops, edited).await;
    site.change("edit", &message).await;
    kept.push(("of an edited message", edited));

    let id = site.upload("alice", ops).await;
    let expires = (site.clock.now_millis() + 60_000).to_string();
    let headers = [("attachment", id.to_string()), ("expires", expires)];
    site.send("alice", ops, &headers.each_ref().map(|(name, value)| (*name, value.as_str()))).await;
    gone.push(("expired", id));

    for list in [&mut gone, &mut kept] {
        let id = site.upload("alice", "/user/carol").await;
        site.attach("alice", "/user/carol", id).await;
        list.push(("of a conversation that keeps one message, as metadata", id));
    }

    for _ in 0..2 {
        let id = site.upload("bob", "/user/carol").await;
        site.attach("bob", "/user/carol", id).await;
        kept.push(("of a message that is not stored", id));
    }

    // The gateway, which does so by itself, may have been first.
    site.gateway.enforce_retention().await.unwrap();
    site.clock.advance(23 * HOUR);
    assert_eq!(site.gateway.sweep_attachments().await.unwrap(), 0, "all are too new");
    site.clock.advance(2 * HOUR);
    assert_eq!(site.gateway.sweep_attachments().await.unwrap(), gone.len() as u64);
    for (what, id) in kept {
        assert!(site.is_there(id).await, "{what}: it is gone");
    }
    for (what, id) in gone {
        assert!(!site.is_there(id).await, "{what}: it is still there");
    }
    site.gateway.shutdown().await;
}

/// A clock that stands still. Attachments have the time of the machine.
fn clock() -> Clock {
    Clock::manual(Clock::system().now_millis())
}

async fn in_memory() -> Site {
    let clock = clock();
    Site::new(Arc::new(MemoryStore::new().with_clock(clock.clone())), clock).await
}

#[tokio::test]
async fn attachments_go_with_their_messages_in_memory() {
    attachments_go_with_the_last_message_that_refers_to_them(in_memory().await).await;
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn attachments_go_with_their_messages_in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let options = gateway_core::SqliteOptions::new(folder.path().join("im.db"));
    let store = Arc::new(options.with_clock(clock.clone()).open().unwrap());
    attachments_go_with_the_last_message_that_refers_to_them(Site::new(store, clock).await).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
#[ignore = "needs postgresql"]
async fn attachments_go_with_their_messages_over_postgresql() {
    let server = mq_bridge::testkit::servers::Postgres::start().await.unwrap();
    let clock = clock();
    let options = gateway_core::PostgresOptions::new(server.url()).with_clock(clock.clone());
    let store = Arc::new(options.open().await.unwrap());
    attachments_go_with_the_last_message_that_refers_to_them(Site::new(store, clock).await).await;
}

/// What is read page by page is read to its end.
#[tokio::test]
async fn the_last_of_many_messages_keeps_an_attachment() {
    let site = in_memory().await;
    let id = site.upload("alice", "/group/ops").await;
    for _ in 0..1200 {
        site.send("alice", "/group/ops", &[]).await;
    }
    site.attach("bob", "/group/ops", id).await;
    site.clock.advance(25 * HOUR);
    assert_eq!(site.gateway.sweep_attachments().await.unwrap(), 0);
    let ops = ConversationId::new("group:ops").unwrap();
    assert!(site.gateway.attachment(&user("bob"), id).await.unwrap().about.conversation == ops);
    site.gateway.shutdown().await;
}
