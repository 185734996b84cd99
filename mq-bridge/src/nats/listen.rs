//! Topics as they are published, for subscribers that keep nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_nats::{Message, Subscriber};
use futures::stream::{AbortHandle, BoxStream, SelectAll, abortable};
use futures::{FutureExt, StreamExt};
use tokio::sync::mpsc;

use crate::local::lock;
use crate::{BrokerError, Target, pattern_matches};

use super::copies::{Copies, Seen, Verdict};
use super::names;
use super::session::Session;
use super::wire::{self, Decoded};

/// The most messages that are taken in before any is handed on.
const BATCH: usize = 512;

/// What each pattern is listened to by.
#[derive(Debug)]
pub(super) struct Listeners {
    table: Mutex<HashMap<Arc<str>, AbortHandle>>,
    /// To the one that hears all of them.
    new: mpsc::UnboundedSender<Heard>,
}

/// A pattern with what comes for it.
pub(super) struct Heard(BoxStream<'static, (Arc<Listener>, Message)>);

#[derive(Debug)]
struct Listener {
    pattern: Arc<str>,
    seen: Mutex<Seen>,
}

impl Listeners {
    /// Gives what is to be [heard](Session::hear) as well.
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Heard>) {
        let (new, added) = mpsc::unbounded_channel();
        (Self { table: Mutex::default(), new }, added)
    }
}

impl Session {
    /// See [`Link::listen`](crate::remote::Link::listen).
    pub(super) async fn listen(&self, pattern: &Arc<str>) -> Result<(), BrokerError> {
        let filter = names::filter(&self.plan.subjects.topics, pattern);
        let messages = self.subscribe(filter).await?;
        let (heard, handle) = hear(Arc::clone(pattern), messages);
        if let Some(before) = lock(&self.listeners.table).insert(Arc::clone(pattern), handle) {
            before.abort();
        }
        // Nobody hears any more only when the link is lost.
        let _ = self.listeners.new.send(heard);
        self.round_trip().await
    }

    /// See [`Link::unlisten`](crate::remote::Link::unlisten).
    pub(super) fn unlisten(&self, pattern: &Arc<str>) {
        if let Some(handle) = lock(&self.listeners.table).remove(pattern) {
            // The subscription ends with what reads it.
            handle.abort();
        }
    }

    /// Hands on what is heard. All patterns in one place, and what has come together together: what a
    /// subscriber of one has seen, no later subscriber of another gets.
    pub(super) async fn hear(self: Arc<Self>, mut added: mpsc::UnboundedReceiver<Heard>) {
        let mut heard = SelectAll::new();
        let mut place = 0;
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                new = added.recv() => match new {
                    Some(Heard(new)) => heard.push(new),
                    None => return,
                },
                Some(first) = heard.next(), if !heard.is_empty() => batch.push(first),
            }
            while batch.len() < BATCH
                && !batch.is_empty()
                && let Some(Some(next)) = heard.next().now_or_never()
            {
                batch.push(next);
            }
            for (listener, message) in batch.drain(..) {
                place += 1;
                self.hand_on(&listener, message, place);
            }
        }
    }

    fn hand_on(&self, listener: &Listener, message: Message, place: u64) {
        let pattern = &*listener.pattern;
        let (headers, subjects) = (message.headers.as_ref(), &self.plan.subjects);
        let decoded = wire::decode(&message.subject, headers, message.payload, subjects);
        let Decoded { message, place: target, copies, redelivered, .. } = decoded;
        let Target::Topic(topic) = &target else { return };
        // Nothing is lost between copies here: the first that comes is the first.
        let counts = pattern_matches(pattern, topic)
            && (copies == Copies::One
                || copies.judge(topic, &[pattern], &mut lock(&listener.seen), place)
                    != Verdict::Leave);
        if counts {
            let targets = std::slice::from_ref(&target);
            self.topics.deliver_copy(pattern, &target, targets, &message, redelivered);
        }
    }
}

fn hear(pattern: Arc<str>, messages: Subscriber) -> (Heard, AbortHandle) {
    let (messages, handle) = abortable(messages);
    let listener = Arc::new(Listener { pattern, seen: Mutex::default() });
    let heard = messages.map(move |message| (Arc::clone(&listener), message));
    (Heard(heard.boxed()), handle)
}
