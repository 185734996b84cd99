//! Who is told, how often, and by which node.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use mq_bridge::{Broker, Memory};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::destination::Destination;
use crate::directory::MemoryDirectory;
use crate::lock::lock;
use crate::names::GroupName;
use crate::send::SendRequest;
use crate::store::MemoryStore;

/// After so long what is waited for is not coming.
const PATIENCE: Duration = Duration::from_secs(30);

fn user(name: &str) -> UserName {
    UserName::new(name).unwrap()
}

/// Notes who was told what, after as many failures as there are in `fails`.
#[derive(Debug)]
struct Noting {
    told: mpsc::UnboundedSender<(String, Vec<String>)>,
    fails: Mutex<Vec<NotifyError>>,
    calls: AtomicUsize,
    hangs: bool,
}

#[async_trait]
impl Notifier for Noting {
    async fn notify(&self, user: &UserName, messages: &[Notice]) -> Result<(), NotifyError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.hangs {
            std::future::pending::<()>().await;
        }
        if let Some(error) = lock(&self.fails).pop() {
            return Err(error);
        }
        let text = |notice: &Notice| String::from_utf8_lossy(&notice.body).into_owned();
        self.told.send((user.to_string(), messages.iter().map(text).collect())).unwrap();
        Ok(())
    }
}

struct Told {
    notifier: Arc<Noting>,
    told: mpsc::UnboundedReceiver<(String, Vec<String>)>,
}

impl Told {
    fn new(fails: Vec<NotifyError>, hangs: bool) -> Self {
        let (sender, told) = mpsc::unbounded_channel();
        let fails = Mutex::new(fails);
        let calls = AtomicUsize::new(0);
        Self { notifier: Arc::new(Noting { told: sender, fails, calls, hangs }), told }
    }

    /// The next ones who are told, by name.
    async fn next(&mut self, count: usize) -> Vec<(String, Vec<String>)> {
        let mut told = Vec::new();
        for _ in 0..count {
            told.push(timeout(PATIENCE, self.told.recv()).await.expect("told").unwrap());
        }
        told.sort();
        told
    }
}

fn options() -> NotifyOptions {
    NotifyOptions {
        window: Duration::from_millis(300),
        backoff: Duration::from_millis(1),
        ..NotifyOptions::default()
    }
}

/// What nodes share.
struct Shared {
    broker: Arc<dyn Broker>,
    directory: Arc<MemoryDirectory>,
    store: Arc<MemoryStore>,
}

impl Shared {
    fn new() -> Self {
        Self {
            broker: Arc::new(Memory::default()),
            directory: Arc::new(MemoryDirectory::new()),
            store: Arc::new(MemoryStore::new()),
        }
    }

    fn node(&self) -> Gateway {
        let builder = Gateway::builder().broker(Arc::clone(&self.broker));
        builder.directory(self.directory.clone()).store(self.store.clone()).build().unwrap()
    }

    async fn people(&self) -> Gateway {
        let node = self.node();
        for name in ["alice", "bob", "carol"] {
            node.create_user(&user(name), None).await.unwrap();
        }
        let ops = GroupName::new("ops").unwrap();
        node.create_group(&user("alice"), &ops, &[user("bob"), user("carol")]).await.unwrap();
        node
    }

    /// Waits until a node listens.
    async fn listening(&self) {
        let source = Source::durable(SUBSCRIPTION);
        timeout(PATIENCE, async {
            while !self.broker.stats(&source).await.is_ok_and(|stats| stats.consumers > 0) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
    }

    /// Waits until everything was told.
    async fn done(&self) {
        let source = Source::durable(SUBSCRIPTION);
        timeout(PATIENCE, async {
            while self.broker.stats(&source).await.unwrap().depth > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
    }
}

async fn send(gateway: &Gateway, to: &str, body: &str) {
    let to = Destination::parse(to).unwrap();
    gateway.send(SendRequest::new(user("alice"), to, body.to_owned())).await.unwrap();
}

fn told(user: &str, messages: &[&str]) -> (String, Vec<String>) {
    (user.to_owned(), messages.iter().map(|text| (*text).to_owned()).collect())
}

#[tokio::test]
async fn each_who_is_away_is_told_once_of_a_burst() {
    let shared = Shared::new();
    let gateway = shared.people().await;
    let mut all = Told::new(Vec::new(), false);
    gateway.notify_by(all.notifier.clone(), options());
    shared.listening().await;
    // Carol is there.
    gateway.inner.enter(&user("carol"));
    for text in ["1", "2", "3"] {
        send(&gateway, "/user/bob", text).await;
        send(&gateway, "/user/carol", text).await;
    }
    assert_eq!(all.next(1).await, [told("bob", &["1", "2", "3"])]);
    shared.done().await;
    // What she said herself is no news to alice, who is away as well.
    assert_eq!(all.notifier.calls.load(Ordering::SeqCst), 1);
    gateway.shutdown().await;
}

#[tokio::test]
async fn failures_are_tried_again_and_refusals_are_not() {
    let shared = Shared::new();
    let gateway = shared.people().await;
    let later = NotifyError::Later("busy".to_owned());
    let never = NotifyError::Never("no such device".to_owned());
    let mut all = Told::new(vec![never, later.clone(), later], false);
    gateway.notify_by(all.notifier.clone(), options());
    shared.listening().await;
    send(&gateway, "/user/bob", "given up").await;
    shared.done().await;
    assert_eq!(all.notifier.calls.load(Ordering::SeqCst), 3);
    send(&gateway, "/user/bob", "told").await;
    assert_eq!(all.next(1).await, [told("bob", &["told"])]);
    gateway.shutdown().await;
}

/// One node tells, and another one when that is gone: what it was about to tell is told by the other.
#[tokio::test]
async fn another_node_tells_what_one_that_died_did_not() {
    let shared = Shared::new();
    let first = shared.people().await;
    let dying = Told::new(Vec::new(), true);
    first.notify_by(dying.notifier.clone(), options());
    shared.listening().await;
    let second = shared.node();
    let mut all = Told::new(Vec::new(), false);
    second.notify_by(all.notifier.clone(), options());
    send(&first, "/group/ops", "hello").await;
    timeout(PATIENCE, async {
        while dying.notifier.calls.load(Ordering::SeqCst) < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(all.notifier.calls.load(Ordering::SeqCst), 0, "both nodes tell");
    // As much as a crash: nothing is acknowledged. (Shutting down would end the broker of both.)
    first.inner.stop.cancel();
    assert_eq!(all.next(2).await, [told("bob", &["hello"]), told("carol", &["hello"])]);
    shared.done().await;
    assert_eq!(all.notifier.calls.load(Ordering::SeqCst), 2);
    second.shutdown().await;
}

#[tokio::test]
async fn nothing_waits_where_nobody_tells() {
    let shared = Shared::new();
    let gateway = shared.people().await;
    send(&gateway, "/user/bob", "hello").await;
    let waiting = Source::durable(SUBSCRIPTION);
    assert!(shared.broker.stats(&waiting).await.is_err(), "it is kept for nobody");
    gateway.notify_no_more().await.unwrap();
    let all = Told::new(Vec::new(), false);
    gateway.notify_by(all.notifier, options());
    shared.listening().await;
    gateway.notify_no_more().await.unwrap();
    gateway.shutdown().await;
}

#[cfg(feature = "webhooks")]
#[tokio::test]
async fn an_endpoint_is_told_and_its_answer_says_whether_it_is_worth_another_try() {
    use axum::Router;
    use axum::http::{HeaderMap, StatusCode};
    use axum::routing::post;
    use serde_json::Value;

    use crate::auth::Secret;
    use crate::http_client::{HttpClient, Reach};

    let answer = async |headers: HeaderMap, axum::Json(news): axum::Json<Value>| {
        assert!(headers.contains_key("webhook-signature"));
        assert_eq!(news["user"], "bob");
        let message = &news["messages"][0];
        assert_eq!(
            (&message["conversation"], &message["seq"]),
            (&"direct:alice:bob".into(), &7.into())
        );
        match message["body"].as_str().unwrap() {
            "ok" => StatusCode::ACCEPTED,
            "gone" => StatusCode::GONE,
            "moved" => StatusCode::TEMPORARY_REDIRECT,
            _ => StatusCode::BAD_GATEWAY,
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let router = Router::new().route("/", post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let client = HttpClient::new(Reach::Everywhere).unwrap();
    let notifier = HttpNotifier::new(client, url.parse().unwrap());
    let notifier =
        notifier.with_secret(Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")).unwrap();
    let tell = async |body: &'static str| {
        let notice = Notice {
            message_id: MessageId::generate(),
            conversation: ConversationId::new("direct:alice:bob").unwrap(),
            seq: 7,
            from: user("alice"),
            timestamp: 1,
            body: Bytes::from_static(body.as_bytes()),
            content_type: None,
        };
        notifier.notify(&user("bob"), &[notice]).await
    };
    assert_eq!(tell("ok").await, Ok(()));
    assert!(matches!(tell("gone").await, Err(NotifyError::Never(_))));
    for text in ["moved", "fails"] {
        assert!(matches!(tell(text).await, Err(NotifyError::Later(_))), "{text}");
    }
}
