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

/// What became of a publish.
enum Fate {
    Decided(Result<(), BrokerError>),
    /// Nothing was done: the registry is old.
    Stale,
    /// Nothing was done: somebody has flushed the scripts.
    NoScript,
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

    /// Writes as much as goes in one go, takes out what is decided.
    async fn write(
        &self,
        state: &mut State,
        waiting: &mut VecDeque<Outgoing>,
    ) -> Result<(), Fault> {
        let mut calls = Pipeline::new();
        let mut octets = 0;
        for outgoing in waiting.iter() {
            octets += outgoing.publishes.iter().map(|one| one.message.cost()).sum::<usize>();
            if octets > OCTETS && !calls.is_empty() {
                break;
            }
            let call = self.call(state, &outgoing.publishes);
            calls.add_command(call);
        }
        let count = calls.len();
        if let Some((replicas, millis)) = self.replicas {
            calls.add_command(cmd("WAIT").arg(replicas).arg(millis.to_string()).take());
        }
        let mut answers = self.connection.all(&calls).await?;
        let copies = answers.split_off(count.min(answers.len()));
        let missing = match (self.replicas, copies.first()) {
            (Some((wanted, _)), Some(copies)) if number(copies) < i64::from(wanted) => {
                let reason = format!("{} of {wanted} replicas have it", number(copies));
                Some(BrokerError::Disconnected { reason: reason.into() })
            }
            _ => None,
        };
        let mut fates: Vec<Fate> = Vec::with_capacity(answers.len());
        for answer in answers {
            match self.fate(answer) {
                Ok(fate) => fates.push(fate),
                Err(fault) => {
                    decide(fates, waiting, missing.as_ref());
                    return Err(fault);
                }
            }
        }
        match decide(fates, waiting, missing.as_ref()) {
            Some(Fate::Stale) => self.update(state).await,
            Some(Fate::NoScript) => self.connection.load_scripts().await,
            Some(Fate::Decided(_)) | None => Ok(()),
        }
    }

    fn fate(&self, answer: Value) -> Result<Fate, Fault> {
        Ok(match answer {
            Value::Int(0) => Fate::Decided(Ok(())),
            Value::Int(_) => Fate::Stale,
            Value::ServerError(error) => match self.connection.noted(Fault::from(&error)) {
                Fault::Refused(error) => Fate::Decided(Err(error)),
                Fault::NoScript => Fate::NoScript,
                lost @ Fault::Lost(_) => return Err(lost),
            },
            missing => {
                let key = text(missing);
                let queue = Source::queue(key.strip_prefix("q:").unwrap_or(&key));
                Fate::Decided(Err(BrokerError::not_declared(&queue)))
            }
        })
    }

    fn call(&self, state: &mut State, publishes: &[Outbound]) -> Cmd {
        let mut call = PUBLISH.call(&self.prefix);
        call.arg(state.registry.version());
        for publish in publishes {
            let attributes = Attributes::of(publish);
            entry::write(&publish.message, attributes.block, &mut call);
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
        call
    }
}

/// Tells who waits what is decided; `missing` is what success is worth without replicas. What was
/// not done stays, and is written again, unless something after it was done: the order would not be
/// kept. Gives the first fate that stays.
fn decide(
    mut fates: Vec<Fate>,
    waiting: &mut VecDeque<Outgoing>,
    missing: Option<&BrokerError>,
) -> Option<Fate> {
    let is_decided = |fate: &Fate| matches!(fate, Fate::Decided(_));
    let decided = fates.iter().rposition(is_decided).map_or(0, |last| last + 1);
    for (fate, done) in fates.drain(..decided).zip(waiting.drain(..decided)) {
        done.pending.complete(match fate {
            Fate::Decided(Ok(())) => missing.map_or(Ok(()), |error| Err(error.clone())),
            Fate::Decided(error) => error,
            Fate::Stale | Fate::NoScript => {
                Err(BrokerError::Storage { reason: "the server was changed meanwhile".into() })
            }
        });
    }
    fates.into_iter().next()
}
