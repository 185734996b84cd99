//! One connection, and what everything over it shares.

use std::collections::HashMap;
use std::fmt::Display;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::{Client, HeaderMap, Message, Subject, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep};

use crate::BrokerError;
use crate::local::lock;
use crate::remote::Topics;

use super::api::{ApiError, Refusal, parse};
use super::listen::Listeners;
use super::memory::Memory;
use super::place::Places;
use super::plan::Plan;
use super::publish::Flights;

/// How long one request may take.
pub(super) const ANSWERING: Duration = Duration::from_secs(5);
/// How long JetStream may be without a leader, or not ready yet, before the link is given up.
const UNAVAILABLE: Duration = Duration::from_secs(8);
/// How long to wait before it is asked again.
const AGAIN: Duration = Duration::from_millis(50);

/// A connected session: ends for good when the connection is lost.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) plan: Arc<Plan>,
    /// The prefix of all subjects that answers to this session go to.
    pub(super) base: String,
    /// Whether the server is one before 2.10.
    pub(super) is_old: bool,
    /// The largest payload that the server takes, headers included.
    pub(super) max_payload: usize,
    pub(super) topics: Arc<Topics>,
    pub(super) memory: Arc<Memory>,
    pub(super) places: Places,
    pub(super) flights: Flights,
    pub(super) listeners: Listeners,
    echoes: Mutex<HashMap<u64, oneshot::Sender<()>>>,
    last_id: AtomicU64,
    lost: watch::Sender<Option<Arc<str>>>,
    failed: AtomicBool,
    tasks: Mutex<JoinSet<()>>,
}

impl Session {
    pub(super) fn new(
        client: Client,
        plan: Arc<Plan>,
        topics: Arc<Topics>,
        memory: Arc<Memory>,
        listeners: Listeners,
    ) -> Self {
        let info = client.server_info();
        let mut version = info.version.split('.').map_while(|part| part.parse::<u32>().ok());
        let version = (version.next().unwrap_or_default(), version.next().unwrap_or_default());
        Self {
            base: client.new_inbox(),
            client,
            plan,
            is_old: version < (2, 10),
            max_payload: info.max_payload,
            topics,
            memory,
            places: Places::default(),
            flights: Flights::default(),
            listeners,
            echoes: Mutex::default(),
            last_id: AtomicU64::new(0),
            lost: watch::Sender::new(None),
            failed: AtomicBool::new(false),
            tasks: Mutex::default(),
        }
    }

    /// A number that this session has not given yet.
    pub(super) fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Relaxed) + 1
    }

    /// The link cannot be used any more; the first reason counts.
    pub(super) fn fail(&self, reason: &str) {
        if self.failed.swap(true, Relaxed) {
            return;
        }
        // Before anyone hears of it: the next link wants to know what this one held.
        for consumer in self.places.consumers() {
            consumer.remember(&self.memory);
        }
        self.memory.link_lost();
        self.flights.abandon();
        self.lost.send_replace(Some(reason.into()));
        // A server that still is there has nobody to deliver to any more.
        self.end();
    }

    /// Runs something until the link is gone.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task)
    }

    /// Ends everything that runs.
    pub(super) fn end(&self) {
        lock(&self.tasks).abort_all();
        for consumer in self.places.consumers() {
            consumer.abort();
        }
    }

    pub(super) async fn lost(&self) -> Arc<str> {
        let mut lost = self.lost.subscribe();
        let reason = lost.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        // The sender lives as long as this: there is one.
        reason.unwrap_or_default()
    }

    /// Fails the link and says so.
    pub(super) fn broken(&self, reason: impl Display) -> BrokerError {
        let reason = reason.to_string();
        self.fail(&reason);
        BrokerError::Disconnected { reason: reason.into() }
    }

    /// Waits until the server has carried out all that was written before, subscriptions among it,
    /// and all that it had sent until then has arrived.
    pub(super) async fn round_trip(&self) -> Result<(), BrokerError> {
        let id = self.next_id();
        let (sender, receiver) = oneshot::channel();
        lock(&self.echoes).insert(id, sender);
        self.send(format!("{}.r.e{id}", self.base), Bytes::new()).await?;
        match tokio::time::timeout(ANSWERING, receiver).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(self.broken("the server does not answer")),
        }
    }

    /// Writes a message that nobody answers.
    pub(super) async fn send(&self, subject: String, payload: Bytes) -> Result<(), BrokerError> {
        self.client.publish(subject, payload).await.map_err(|error| self.broken(error))
    }

    pub(super) async fn subscribe(&self, subject: String) -> Result<Subscriber, BrokerError> {
        self.client.subscribe(subject).await.map_err(|error| self.broken(error))
    }

    /// Takes the answers to this session until the connection ends.
    pub(super) async fn take_answers(self: Arc<Self>, mut answers: Subscriber) {
        while let Some(message) = answers.next().await {
            let Some((_, token)) = message.subject.rsplit_once('.') else { continue };
            let number = token.get(1..).and_then(|number| number.parse().ok());
            match (token.get(..1), number) {
                (Some("e"), Some(number)) => {
                    if let Some(waiting) = lock(&self.echoes).remove(&number) {
                        let _ = waiting.send(());
                    }
                }
                (Some("f"), Some(number)) => self.published(number, &message),
                _ => {}
            }
        }
        self.fail("the connection was closed");
    }

    /// Where answers to this session come in.
    pub(super) fn answers(&self) -> String {
        format!("{}.r.*", self.base)
    }

    /// Asks whoever listens to `subject`; `None` if nobody does.
    pub(super) async fn ask(
        &self,
        subject: String,
        payload: Bytes,
        limit: Duration,
    ) -> Result<Option<Message>, AskError> {
        self.ask_with(subject, HeaderMap::new(), payload, limit).await
    }

    pub(super) async fn ask_with(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
        limit: Duration,
    ) -> Result<Option<Message>, AskError> {
        let mut request = async_nats::Request::new().payload(payload).timeout(Some(limit));
        if !headers.is_empty() {
            request = request.headers(headers);
        }
        match self.client.send_request(subject, request).await {
            Ok(message) => Ok(Some(message)),
            Err(error) => match error.kind() {
                RequestErrorKind::NoResponders => Ok(None),
                RequestErrorKind::TimedOut => Err(AskError::Silent),
                _ => Err(AskError::Broken(self.broken(error))),
            },
        }
    }

    /// Settles deliveries of one consumer in order; returns when the server has carried it out.
    pub(super) async fn settle_all(
        &self,
        replies: impl IntoIterator<Item = Subject>,
        how: Bytes,
    ) -> Result<(), BrokerError> {
        let mut replies = replies.into_iter();
        let Some(mut last) = replies.next() else { return Ok(()) };
        for reply in replies {
            let before = std::mem::replace(&mut last, reply);
            self.send(before.into_string(), how.clone()).await?;
        }
        // The server goes through them in order: with the last all are done.
        self.confirmed(last.into_string(), how).await
    }

    /// Sends something to JetStream that it confirms by an empty message; that nobody is there any
    /// more to do so is no error.
    pub(super) async fn confirmed(
        &self,
        subject: String,
        payload: Bytes,
    ) -> Result<(), BrokerError> {
        match self.ask(subject, payload, ANSWERING).await {
            Ok(_) => Ok(()),
            Err(AskError::Silent) => Err(self.broken("the server does not confirm")),
            Err(AskError::Broken(error)) => Err(error),
        }
    }

    /// Makes a call of JetStream's API, again while it is not available.
    pub(super) async fn api<T: DeserializeOwned>(
        &self,
        call: impl Display,
        body: &impl Serialize,
    ) -> Result<T, ApiError> {
        let subject = format!("$JS.API.{call}");
        let body = Bytes::from(serde_json::to_vec(body).map_err(|error| self.broken(error))?);
        self.patiently(|| async {
            let answer = self.ask(subject.clone(), body.clone(), ANSWERING).await?;
            Ok(answer.map(|message| parse(&message.payload)))
        })
        .await
    }

    /// Makes a call again until it is answered otherwise than by "not now".
    pub(super) async fn patiently<T, F>(&self, call: impl Fn() -> F) -> Result<T, ApiError>
    where
        F: Future<Output = Result<Option<Result<T, Refusal>>, AskError>>,
    {
        let deadline = Instant::now() + UNAVAILABLE;
        loop {
            let trouble = match call().await {
                Ok(Some(Ok(answer))) => return Ok(answer),
                Ok(Some(Err(refusal))) if !refusal.is_temporary() => {
                    return Err(ApiError::Refused(refusal));
                }
                Ok(Some(Err(refusal))) => refusal.to_string(),
                Ok(None) => "JetStream is not there".to_owned(),
                Err(AskError::Silent) => "JetStream does not answer".to_owned(),
                Err(AskError::Broken(error)) => return Err(ApiError::Broken(error)),
            };
            if Instant::now() > deadline {
                return Err(ApiError::Broken(self.broken(trouble)));
            }
            sleep(AGAIN).await;
        }
    }
}

/// Why a question has no answer.
#[derive(Debug)]
pub(super) enum AskError {
    /// Somebody listens and does not answer.
    Silent,
    /// The link is lost.
    Broken(BrokerError),
}
