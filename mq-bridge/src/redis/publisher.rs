//! Writes publishes: many in one go, each atomic, all in order.

use std::collections::VecDeque;

use ::redis::{Cmd, Pipeline, Value, cmd};
use tokio::sync::Mutex as AsyncMutex;

use crate::remote::{Outbound, Outgoing};
use crate::{BrokerError, Source, Target};

use super::attributes::Attributes;
use super::config::RedisConfig;
use super::connection::Connection;
use super::entry::{self, target_key};
use super::error::Fault;
use super::payload;
use super::registry::Registry;
use super::script::{PUBLISH, REGISTRY};
use super::value::{number, text};

/// The most octets in one go, so that one answer does not take too long; one publish always goes.
const OCTETS: usize = 4 << 20;

pub(super) struct Publisher {
    connection: Connection,
    prefix: String,
    /// Names publishes to several topics.
    session: String,
    /// How many replicas confirm, and how long they may take in milliseconds.
    replicas: Option<(u32, u128)>,
    state: AsyncMutex<State>,
}

#[derive(Default)]
struct State {
    registry: Registry,
    last: u64,
}

impl Publisher {
    pub(super) fn new(
        connection: Connection,
        prefix: String,
        session: String,
        config: &RedisConfig,
    ) -> Self {
        let replicas =
            (config.replicas > 0).then_some((config.replicas, config.replica_timeout.as_millis()));
        Self { connection, prefix, session, replicas, state: AsyncMutex::default() }
    }

    pub(super) const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Learns where messages go, so that the first publish need not.
    pub(super) async fn prepare(&self) -> Result<(), Fault> {
        self.update(&mut *self.state.lock().await).await
    }

    async fn update(&self, state: &mut State) -> Result<(), Fault> {
        let mut call = REGISTRY.call(&self.prefix);
        call.arg(state.registry.version());
        state.registry.update(self.connection.run(&call).await?);
        Ok(())
    }

    /// Writes and awaits the answers. What is dropped undecided fails as `Disconnected`.
    pub(super) async fn publish(&self, batch: Vec<Outgoing>) {
        let mut state = self.state.lock().await;
        let mut waiting = VecDeque::from(batch);
        while !waiting.is_empty() {
            if let Err(fault) = self.write(&mut state, &mut waiting).await {
                let error = fault.into_error();
                waiting.into_iter().for_each(|one| one.pending.complete(Err(error.clone())));
                return;
            }
        }
    }

    /// Writes as much as goes in one go, and takes out what is decided.
    async fn write(
        &self,
        state: &mut State,
        waiting: &mut VecDeque<Outgoing>,
    ) -> Result<(), Fault> {
        let (call, count) = self.call(state, waiting);
        let mut calls = Pipeline::new();
        calls.add_command(call);
        if let Some((replicas, millis)) = self.replicas {
            calls.add_command(cmd("WAIT").arg(replicas).arg(millis.to_string()).take());
        }
        let mut answers = self.connection.all(&calls).await?.into_iter();
        let answer = answers.next().unwrap_or_default();
        let missing = self.missing(answers.next().as_ref());
        match answer {
            Value::Array(outcomes) => {
                for (one, outcome) in waiting.drain(..count).zip(outcomes) {
                    let outcome = self.outcome(outcome);
                    one.pending
                        .complete(outcome.and_then(|()| missing.clone().map_or(Ok(()), Err)));
                }
                Ok(())
            }
            Value::ServerError(error) => match self.connection.noted(Fault::from(&error)) {
                Fault::NoScript => self.connection.load_scripts().await,
                Fault::Refused(error) => {
                    let refused = waiting.drain(..count);
                    refused.for_each(|one| one.pending.complete(Err(error.clone())));
                    Ok(())
                }
                lost @ Fault::Lost(_) => Err(lost),
            },
            // Nothing was done: the registry is old.
            _ => self.update(state).await,
        }
    }

    /// What success is worth without the replicas.
    fn missing(&self, copies: Option<&Value>) -> Option<BrokerError> {
        let (wanted, _) = self.replicas?;
        let copies = copies.map_or(0, number);
        (copies < i64::from(wanted)).then(|| BrokerError::Disconnected {
            reason: format!("{copies} of {wanted} replicas have it").into(),
        })
    }

    fn outcome(&self, answer: Value) -> Result<(), BrokerError> {
        match answer {
            Value::Int(_) => Ok(()),
            Value::ServerError(error) => {
                Err(self.connection.noted(Fault::from(&error)).into_error())
            }
            missing => {
                let key = text(missing);
                let queue = Source::queue(key.strip_prefix("q:").unwrap_or(&key));
                Err(BrokerError::not_declared(&queue))
            }
        }
    }

    /// A call for the first so many.
    fn call(&self, state: &mut State, waiting: &VecDeque<Outgoing>) -> (Cmd, usize) {
        let mut call = PUBLISH.call(&self.prefix);
        call.arg(state.registry.version());
        let (mut count, mut octets) = (0, 0);
        for outgoing in waiting {
            octets += outgoing.publishes.iter().map(|one| one.message.cost()).sum::<usize>();
            if count > 0 && octets > OCTETS {
                break;
            }
            count += 1;
            self.write_batch(state, &outgoing.publishes, &mut call);
        }
        (call, count)
    }

    fn write_batch(&self, state: &mut State, publishes: &[Outbound], call: &mut Cmd) {
        call.arg(publishes.len());
        for publish in publishes {
            let attributes = Attributes::of(publish);
            entry::write(&publish.message, attributes.block, call);
            let origin = publish.dead_letter.as_ref().map(|letter| target_key(&letter.target));
            call.arg(attributes.encode()).arg(origin.unwrap_or_default());
            let is_topic = |target: &&Target| matches!(target, Target::Topic(_));
            let head = match publish.targets.iter().filter(is_topic).count() {
                0 => Vec::new(),
                1 => payload::head(&publish.message, &attributes, None),
                _ => {
                    state.last += 1;
                    let name = format!("{}.{}", self.session, state.last);
                    payload::head(&publish.message, &attributes, Some(&name))
                }
            };
            call.arg(head).arg(publish.targets.len());
            for target in &publish.targets {
                call.arg(target_key(target));
                let matching = match target {
                    Target::Queue(_) => Vec::new(),
                    Target::Topic(topic) => state.registry.matching(topic),
                };
                call.arg(matching.len());
                for name in matching {
                    call.arg(&**name);
                }
            }
        }
    }
}
