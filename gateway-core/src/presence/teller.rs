//! Tells everybody who came and who went.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use mq_bridge::{Broker, Publish};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::table::Changes;
use super::{Presence, PresenceStore, PresenceTable};
use crate::address;
use crate::clock::Clock;
use crate::names::UserName;
use crate::outgoing;

/// People told of at a time.
const BATCH: usize = 256;
/// How often it is looked for nodes that are gone.
const LOOK: Duration = Duration::from_secs(2);
/// How soon the store is tried again that has failed.
const AGAIN: Duration = Duration::from_millis(500);
/// How often a change is said again that was overtaken by another one, at a time.
const ROUNDS: usize = 4;

/// Between the sessions of this node, the store that knows of all nodes, and whoever listens.
#[derive(Debug)]
pub(super) struct Teller {
    pub(super) table: Arc<PresenceTable>,
    pub(super) store: Arc<dyn PresenceStore>,
    pub(super) broker: Arc<dyn Broker>,
    pub(super) clock: Clock,
}

impl Teller {
    /// Works until `left`, when all sessions have ended. The users of one node among several are on their way to
    /// another when it is `stopping`, and the others say so if they do not arrive.
    pub(super) async fn run(self, stopping: CancellationToken, left: CancellationToken) {
        let mut node = self.store.node();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stopping.cancelled(), if node.is_some() => return,
                () = left.cancelled() => break,
                _ = look.tick(), if node.is_some() => {
                    let now = self.store.node();
                    if node != now {
                        node = now;
                        self.table.tell_all();
                    }
                    self.bury_the_dead().await;
                }
                () = self.table.changed() => self.tell(BATCH).await,
            }
        }
        self.tell(usize::MAX).await;
    }

    async fn tell(&self, limit: usize) {
        let changes = self.table.take(limit);
        if changes == Changes::default() {
            return;
        }
        match self.store.update(&changes.here, &changes.away, &changes.gone).await {
            Ok(news) => self.announce(news).await,
            Err(error) => {
                tracing::warn!(%error, "who came and went could not be noted; trying again");
                self.table.put_back(changes);
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    async fn bury_the_dead(&self) {
        match self.store.forget_the_dead().await {
            Ok(people) => {
                for people in people.chunks(BATCH) {
                    self.announce(people.to_vec()).await;
                }
            }
            Err(error) => tracing::debug!(%error, "nodes that are gone could not be looked for"),
        }
    }

    /// Says of each what is true now. What another node says at the same time may be overtaken by it, so the last to
    /// speak looks again.
    async fn announce(&self, mut people: Vec<UserName>) {
        let mut said: Vec<Option<&str>> = vec![None; people.len()];
        for _ in 0..ROUNDS {
            let states = match self.store.presence(&people).await {
                Ok(states) => states,
                Err(error) => {
                    tracing::warn!(%error, "who is there could not be read");
                    return;
                }
            };
            let news: Vec<(UserName, Presence)> = people
                .iter()
                .zip(states)
                .zip(&said)
                .filter(|((_, now), said)| **said != Some(now.as_str()))
                .map(|((user, now), _)| (user.clone(), now))
                .collect();
            if news.is_empty() {
                return;
            }
            let now = self.clock.now_millis();
            let confirms = news.iter().map(|(user, presence)| {
                let message = outgoing::presence(user, *presence, now);
                self.broker.publish(Publish::to_topic(address::presence(user), message))
            });
            // Nobody waits for it: whoever subscribes later is told the state then.
            join_all(confirms).await;
            said = news.iter().map(|(_, presence)| Some(presence.as_str())).collect();
            people = news.into_iter().map(|(user, _)| user).collect();
        }
    }
}
