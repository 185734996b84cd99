//! One connected session with RabbitMQ.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use futures::future::try_join_all;
use stomp_codec::Frame;
use stomp_codec::server::AckMode;

use crate::local::{lock, read};
use crate::remote::{Held, Inbox, Link, Outgoing, Settlement, Topics};
use crate::{
    BrokerError, Capability, Declaration, DeclarationKind, EndReason, Source, SourceStats,
};

use super::consumers::Consumers;
use super::nodes::Nodes;
use super::notice::Turn;
use super::parking::{Parked, Parking};
use super::registry::Declared;
use super::scratch::{Dial, Scratch};
use super::session::Session;
use super::{Handle, Ties, listening, names, routing};

pub(super) struct RabbitMqLink {
    publishing: Parking,
    scratch: Arc<Scratch>,
    consumers: Arc<Consumers>,
    nodes: Nodes,
    topics: Arc<Topics>,
    listening: Mutex<HashMap<Arc<str>, Parked>>,
    max_message: usize,
}

impl RabbitMqLink {
    pub(super) async fn open(
        publishing: Arc<Session>,
        consuming: Vec<Arc<Session>>,
        dial: Dial,
        topics: &Arc<Topics>,
        ties: &Ties,
        max_message: usize,
    ) -> Result<Self, BrokerError> {
        let node: Arc<str> = format!("mq-bridge.node.{}", names::random()).into();
        let idle = |number: usize| format!("{node}.idle.{number}");
        let publishing = Parking::open(publishing, &idle(0)).await?;
        let consuming = consuming.into_iter().enumerate();
        let consuming = consuming
            .map(|(number, one)| async move { Parking::open(one, &idle(number + 1)).await });
        let consumers = Arc::new(Consumers::new(try_join_all(consuming).await?));
        let scratch = Arc::new(Scratch::new(dial));
        let nodes = Nodes::join(&node, &publishing.session, &consumers, &scratch, ties).await?;
        let handler = listening::to_many(topics);
        publishing.subscribe(names::MANY, AckMode::Auto, &[], handler).await?;
        Ok(Self {
            publishing,
            scratch,
            consumers,
            nodes,
            topics: Arc::clone(topics),
            listening: Mutex::default(),
            max_message,
        })
    }

    /// Ends the consumers of the source on all other nodes, unless it ends `inbox` instead: one that
    /// was there before gives way to those that came later.
    async fn take_over(&self, inbox: &Arc<Inbox<Handle>>) -> Result<(), BrokerError> {
        let before = inbox.generation().parse::<Turn>().ok();
        let mut turn = before.unwrap_or_else(now);
        loop {
            self.consumers.announce(inbox, turn);
            match self.nodes.let_go(&inbox.source, turn).await? {
                None => break,
                Some(_) if before.is_some() => {
                    inbox.end(EndReason::TakenOver);
                    break;
                }
                // The clock over there is ahead.
                Some(later) => turn = later + 1,
            }
        }
        inbox.set_generation(&turn.to_string());
        // A newer one may have been announced: then this has ended.
        self.nodes.up_to_date().await.map(drop)
    }

    /// Writes what is published together, and has it completed when all of it is confirmed.
    fn write(&self, outgoing: Outgoing, frames: Vec<Frame>) {
        let receipts = self.publishing.session.write(|writer| {
            frames
                .into_iter()
                .map(|frame| writer.send_confirmed(frame))
                .collect::<Result<Vec<_>, _>>()
        });
        // Pending that is dropped says that nobody knows.
        let Ok(receipts) = receipts else { return };
        tokio::spawn(async move {
            let mut outcome = Ok(());
            for receipt in receipts {
                outcome = outcome.and(receipt.received().await);
            }
            outgoing.pending.complete(outcome);
        });
    }
}

fn now() -> Turn {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Turn::try_from(since.as_micros()).unwrap_or(Turn::MAX)
}

#[async_trait]
impl Link for RabbitMqLink {
    type Handle = Handle;

    fn max_message(&self) -> usize {
        self.max_message
    }

    async fn lost(&self) -> Arc<str> {
        tokio::select! {
            reason = self.publishing.session.lost() => reason,
            reason = self.consumers.lost() => reason,
        }
    }

    async fn publish(&self, batch: Vec<Outgoing>) {
        let Ok(registry) = self.nodes.up_to_date().await else { return };
        for outgoing in batch {
            let routed =
                routing::route_all(&read(registry), &outgoing.publishes, routing::RABBITMQ);
            match routed {
                Ok(frames) => {
                    self.write(outgoing, frames);
                    self.publishing.session.room().await;
                }
                Err(error) => outgoing.pending.complete(Err(error)),
            }
        }
    }

    async fn declare(&self, declaration: &Declaration) -> Result<(), BrokerError> {
        if let DeclarationKind::Durable { patterns } = &declaration.kind {
            patterns.iter().try_for_each(|one| names::pattern(one).map(drop))?;
        }
        let source = declaration.source();
        let queue = names::queue(&source)?;
        if !read(self.nodes.up_to_date().await?).has(&source) {
            self.scratch.make(&queue).await?;
        }
        self.nodes.declare(&source, &Declared::of(declaration)).await
    }

    async fn delete(&self, source: &Source) -> Result<(), BrokerError> {
        let queue = names::queue(source)?;
        // What is not declared may be left of a deletion that was interrupted, or be another
        // program's queue.
        if !self.nodes.delete(source).await? && matches!(source, Source::Queue(_)) {
            return Ok(());
        }
        self.scratch.delete(&queue).await?;
        // Another node may have declared it meanwhile.
        if read(self.nodes.up_to_date().await?).has(source) {
            self.scratch.make(&queue).await?;
        }
        Ok(())
    }

    async fn stats(&self, source: &Source, _: Held) -> Result<SourceStats, BrokerError> {
        if read(self.nodes.up_to_date().await?).has(source) {
            Err(BrokerError::Unsupported(Capability::Depth))
        } else {
            Err(BrokerError::not_declared(source))
        }
    }

    async fn consume(&self, inbox: &Arc<Inbox<Handle>>) -> Result<(), BrokerError> {
        let source = &inbox.source;
        let declared = read(self.nodes.up_to_date().await?).get(source);
        let declared = declared.ok_or_else(|| BrokerError::not_declared(source))?;
        inbox.set_settings(declared.settings);
        if inbox.options.takeover {
            self.take_over(inbox).await?;
        }
        self.consumers.attach(inbox).await
    }

    async fn stop(&self, inbox: &Arc<Inbox<Handle>>) -> Result<(), BrokerError> {
        self.consumers.detach(inbox.id).await
    }

    async fn settle(&self, batch: Vec<Settlement<Handle>>) -> Result<(), BrokerError> {
        self.consumers.settle(batch).await
    }

    async fn listen(&self, pattern: &Arc<str>) -> Result<(), BrokerError> {
        if lock(&self.listening).contains_key(pattern) {
            return Ok(());
        }
        let destination = names::pattern(pattern)?;
        let handler = listening::to_pattern(&self.topics, pattern, names::topic_of);
        let subscription =
            self.publishing.subscribe(&destination, AckMode::Auto, &[], handler).await?;
        lock(&self.listening).insert(Arc::clone(pattern), subscription);
        Ok(())
    }

    async fn unlisten(&self, pattern: &Arc<str>) -> Result<(), BrokerError> {
        let subscription = lock(&self.listening).remove(pattern);
        let Some(subscription) = subscription else { return Ok(()) };
        let ended = self.publishing.end(subscription, AckMode::Auto, Box::new(drop)).await?;
        self.publishing.forget(ended).await
    }

    async fn close(&self) {
        // Others find out by themselves if that fails.
        let _ = self.nodes.leave().await;
        futures::join!(self.publishing.session.close(), self.consumers.close());
    }
}
