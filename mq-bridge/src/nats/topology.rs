//! Streams, and the consumers in them that are queues and durable subscriptions.

use serde_json::{Value, json};

use crate::{BrokerError, Declaration, DeclarationKind, Source, SourceStats, Target};

use super::api::{ApiError, ConsumerInfo, Done, Refusal, StreamInfo};
use super::copies::{Seen, Verdict};
use super::filters::cover;
use super::names;
use super::plan::Address;
use super::registry::Record;
use super::session::Session;
use super::wire::{self, Decoded};
use crate::remote::Held;

/// A consumer of topics that is there as long as all others are; no name of ours becomes this.
pub(super) const SENTINEL: &str = "=sentinel";
/// How many waiting messages are looked at to count them exactly.
const MAX_COUNTED: u64 = 100;

/// What the streams are made like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retention {
    /// Until the one consumer has acknowledged.
    WorkQueue,
    /// Until all consumers that want it have acknowledged.
    Interest,
    /// The last message of each subject.
    Last,
}

impl Session {
    /// Makes the streams that are not there; gives when those that are were made.
    pub(super) async fn ensure_streams(&self) -> Result<Vec<String>, BrokerError> {
        let plan = &self.plan;
        let below = |prefix: &str| vec![format!("{prefix}.>")];
        let queues = below(&plan.subjects.queues);
        let topics = below(&plan.subjects.topics);
        let registry = vec![plan.records(), plan.owners()];
        let (queues, topics, _) = futures::try_join!(
            self.ensure_stream(&plan.queues, queues, Retention::WorkQueue),
            self.ensure_stream(&plan.topics, topics, Retention::Interest),
            self.ensure_stream(&plan.registry, registry, Retention::Last),
        )?;
        if self.is_old {
            let filter = self.nothing();
            self.make_consumer(&plan.topics, SENTINEL, "", "new", &[filter]).await?;
        }
        Ok(vec![queues, topics])
    }

    /// A filter that lets no topic through.
    fn nothing(&self) -> String {
        format!("{}.{}", self.plan.subjects.topics, names::END)
    }

    async fn ensure_stream(
        &self,
        name: &str,
        subjects: Vec<String>,
        retention: Retention,
    ) -> Result<String, BrokerError> {
        let found = match self.stream_info(name).await? {
            Some(info) => info,
            None => {
                let body = stream_config(name, &subjects, retention, self.plan.replicas);
                match self.api(format!("STREAM.CREATE.{name}"), &body).await {
                    Ok(info) => info,
                    // Another node was quicker.
                    Err(ApiError::Refused(refusal)) if refusal.err_code == Refusal::NAME_IN_USE => {
                        let info = self.stream_info(name).await?;
                        info.ok_or_else(|| BrokerError::from(refusal))?
                    }
                    Err(ApiError::Refused(refusal)) => {
                        return Err(BrokerError::Refused { reason: refusal.to_string().into() });
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        };
        if found.config.retention != retention.name() || found.config.subjects != subjects {
            let reason = format!("stream {name} exists and is made for something else");
            return Err(BrokerError::Refused { reason: reason.into() });
        }
        Ok(found.created)
    }

    pub(super) async fn stream_info(&self, name: &str) -> Result<Option<StreamInfo>, BrokerError> {
        match self.api(format!("STREAM.INFO.{name}"), &json!({})).await {
            Ok(info) => Ok(Some(info)),
            Err(ApiError::Refused(refusal)) if refusal.err_code == Refusal::STREAM_NOT_FOUND => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// See [`Link::declare`](crate::remote::Link::declare).
    pub(super) async fn declare(&self, declaration: &Declaration) -> Result<(), BrokerError> {
        let address = self.plan.declared(&declaration.name, &declaration.kind);
        let durable = matches!(declaration.kind, DeclarationKind::Durable { .. });
        let mut last = None;
        let mut overlooked = Record::default();
        loop {
            let (info, found) = futures::try_join!(
                self.consumer_info(&address.stream, &address.consumer),
                self.record(&address),
            )?;
            // What is registered without a consumer is left from one that was deleted.
            let before = if info.is_some() { found.record.clone() } else { Record::default() };
            let mut record = before.clone().with(declaration, last.unwrap_or_default());
            record.adopt(&overlooked);
            let filters = self.filters(&address, &record);
            let exists = info.is_some();
            let bound = info.is_some_and(|info| same(&info.config.filters(), &filters));
            if bound && record == before {
                return Ok(());
            }
            let Some(last) = last else {
                // What is to be done depends on the messages that came before: with their number,
                // look again.
                last = Some(self.last_message(&address.stream).await?);
                continue;
            };
            let Some(revision) = self.put_record(&address, &record, found.revision).await? else {
                // Another node was quicker.
                continue;
            };
            let replaced = !exists && found.revision > 0;
            if replaced && self.consumer_info(&address.stream, &address.consumer).await?.is_some() {
                // It was of one that another node was just making.
                overlooked.adopt(&found.record);
                continue;
            }
            if !bound {
                if !durable {
                    // Published by a node that had not yet heard that it was deleted.
                    self.purge(&address.stream, &filters[0], last).await?;
                }
                let Address { stream, consumer, source, .. } = &address;
                let from = if durable { "new" } else { "all" };
                self.make_consumer(stream, consumer, source.name(), from, &filters).await?;
                // Another node may have made it for fewer patterns meanwhile.
                if self.record(&address).await?.revision != revision {
                    continue;
                }
            }
            return Ok(());
        }
    }

    fn filters(&self, address: &Address, record: &Record) -> Vec<String> {
        let subjects = &self.plan.subjects;
        match &address.source {
            Source::Queue(name) => vec![names::queue(&subjects.queues, name)],
            // A consumer without a filter would get everything.
            _ if record.patterns.is_empty() => cover([self.nothing()], !self.is_old),
            _ => {
                let patterns = record.patterns.iter();
                let filters = patterns.map(|one| names::filter(&subjects.topics, &one.pattern));
                cover(filters, !self.is_old)
            }
        }
    }

    async fn last_message(&self, stream: &str) -> Result<u64, BrokerError> {
        let info: StreamInfo = self.api(format!("STREAM.INFO.{stream}"), &json!({})).await?;
        Ok(info.state.last_seq)
    }

    async fn make_consumer(
        &self,
        stream: &str,
        consumer: &str,
        description: &str,
        from: &str,
        filters: &[String],
    ) -> Result<(), BrokerError> {
        let mut config = json!({
            "durable_name": consumer,
            "name": consumer,
            "description": description,
            "ack_policy": "explicit",
            "ack_wait": u64::try_from(self.plan.ack_wait.as_nanos()).unwrap_or(u64::MAX),
            "deliver_policy": from,
            "max_ack_pending": -1,
            "max_deliver": -1,
            "replay_policy": "instant",
        });
        match filters {
            [one] => config["filter_subject"] = json!(one),
            several => config["filter_subjects"] = json!(several),
        }
        let body = json!({ "stream_name": stream, "config": config });
        let call = format!("CONSUMER.DURABLE.CREATE.{stream}.{consumer}");
        let _: ConsumerInfo = self.api(call, &body).await?;
        Ok(())
    }

    /// See [`Link::delete`](crate::remote::Link::delete).
    pub(super) async fn delete(&self, source: &Source) -> Result<(), BrokerError> {
        let address = self.plan.address(source);
        let Address { stream, consumer, .. } = &address;
        // What comes after this belongs to one that is made anew.
        let (last, last_registered) =
            futures::try_join!(self.last_message(stream), self.last_message(&self.plan.registry),)?;
        let call = format!("CONSUMER.DELETE.{stream}.{consumer}");
        match self.api::<Done>(call, &json!({})).await {
            Ok(Done {}) => {}
            Err(ApiError::Refused(refusal)) if refusal.err_code == Refusal::CONSUMER_NOT_FOUND => {}
            Err(error) => return Err(error.into()),
        }
        if let Source::Queue(name) = source {
            self.forget_queue(consumer);
            self.purge(stream, &names::queue(&self.plan.subjects.queues, name), last).await?;
        }
        self.unregister(&address, last_registered).await
    }

    /// See [`Link::stats`](crate::remote::Link::stats).
    pub(super) async fn stats(
        &self,
        source: &Source,
        held: Held,
    ) -> Result<SourceStats, BrokerError> {
        let address = self.plan.address(source);
        let info = self.consumer_info(&address.stream, &address.consumer).await?;
        let info = info.ok_or_else(|| BrokerError::not_declared(source))?;
        let mut waiting = info.num_pending;
        if matches!(source, Source::Durable(_)) && (1..=MAX_COUNTED).contains(&waiting) {
            waiting = self.count_waiting(&address, &info).await?;
        }
        Ok(SourceStats {
            depth: waiting + info.num_ack_pending,
            unacked: info.num_ack_pending,
            consumers: held.consumers.max(info.num_waiting),
        })
    }

    /// How many messages will be delivered: not all that a filter lets through are wanted, and of
    /// several copies only one is.
    async fn count_waiting(
        &self,
        address: &Address,
        info: &ConsumerInfo,
    ) -> Result<u64, BrokerError> {
        let record = self.record(address).await?.record;
        if let [one] = record.patterns.as_slice()
            && !one.pattern.contains(['*', '#'])
        {
            return Ok(info.num_pending);
        }
        let (mut count, mut seen) = (0, Seen::default());
        let mut kept = Vec::new();
        for filter in info.config.filters() {
            let mut from = info.delivered.stream_seq + 1;
            while let Some(next) = self.next_kept(&address.stream, filter, from).await? {
                from = next.seq + 1;
                kept.push(next);
                if kept.len() as u64 > 2 * MAX_COUNTED {
                    return Ok(info.num_pending);
                }
            }
        }
        kept.sort_unstable_by_key(|one| one.seq);
        for one in kept {
            let (headers, subjects) = (one.headers(), &self.plan.subjects);
            let body = one.payload().into();
            let decoded = wire::decode(&one.subject, Some(&headers), body, subjects);
            let Decoded { place: Target::Topic(topic), copies, .. } = decoded else { continue };
            if let Some(patterns) = record.patterns_for(&topic, one.seq)
                && copies.judge(&topic, &patterns, &mut seen, one.seq) != Verdict::Leave
            {
                count += 1;
            }
        }
        Ok(count)
    }
}

impl Retention {
    const fn name(self) -> &'static str {
        match self {
            Self::WorkQueue => "workqueue",
            Self::Interest => "interest",
            Self::Last => "limits",
        }
    }
}

fn stream_config(name: &str, subjects: &[String], retention: Retention, replicas: usize) -> Value {
    json!({
        "name": name,
        "subjects": subjects,
        "retention": retention.name(),
        "storage": "file",
        "num_replicas": replicas,
        "discard": if retention == Retention::Last { "old" } else { "new" },
        "max_msgs_per_subject": if retention == Retention::Last { 1 } else { -1 },
        "max_consumers": -1,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "max_msg_size": -1,
    })
}

fn same(found: &[&str], wanted: &[String]) -> bool {
    found.len() == wanted.len() && wanted.iter().all(|one| found.contains(&one.as_str()))
}
