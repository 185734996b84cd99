//! Where the registry is kept: its entries are messages in a number of queues, which are read by
//! browsing.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use stomp_codec::server::AckMode;
use stomp_codec::{Command, Frame, view};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::local::lock;
use crate::{BrokerError, Source};

use super::names;
use super::registry::Entry;
use super::session::Session;
use super::statistics::Statistics;

/// How many queues there are. Never to be changed: every node has to look in the same one.
const SHARDS: usize = 256;
/// As many as the broker lets be browsed unless it is set otherwise (`maxBrowsePageSize`): where
/// there seem to be no more, there may be.
const BROWSED: usize = 400;
/// The name of an entry, in a header that a selector can hold.
const ID: &str = "mqentry";
/// How long to wait for entries that are to be removed: another node may be doing it.
const REMOVING: std::time::Duration = std::time::Duration::from_secs(1);

/// Reads all entries.
pub(super) async fn load(
    session: &Session,
    statistics: &Statistics,
) -> Result<Vec<Entry>, BrokerError> {
    let (sender, mut ended) = mpsc::unbounded_channel();
    let entries = Arc::new(Mutex::new(vec![Vec::new(); SHARDS]));
    let mut subscriptions = Vec::with_capacity(SHARDS);
    session.write(|writer| {
        for shard in 0..SHARDS {
            let (entries, ended) = (Arc::clone(&entries), sender.clone());
            let handler = move |messages: Vec<view::Message>| {
                for message in messages {
                    if message.header("browser").is_some_and(|value| value == "end") {
                        let _given_up = ended.send(());
                    } else if let Some(shard) = lock(&entries).get_mut(shard) {
                        shard.push(message.body().clone());
                    }
                }
            };
            let headers = [("browser", "true"), ("activemq.prefetchSize", "10000")];
            let destination = names::registry(shard);
            let (subscription, _) =
                writer.subscribe(&destination, AckMode::Auto, &headers, Box::new(handler))?;
            subscriptions.push(subscription);
        }
        Ok(())
    })?;
    for _ in 0..SHARDS {
        tokio::select! {
            _ = ended.recv() => {}
            reason = session.lost() => return Err(BrokerError::Disconnected { reason }),
        }
    }
    session.write(|writer| {
        subscriptions.into_iter().try_for_each(|one| writer.unsubscribe(one).map(drop))
    })?;
    let shards = std::mem::take(&mut *lock(&entries));
    for (number, shard) in shards.iter().enumerate() {
        if shard.len() >= BROWSED
            && statistics.of(&names::registry(number)).await?.depth > shard.len() as u64
        {
            let reason = "it does not let the whole registry be browsed: raise \
                          maxBrowsePageSize for mq-bridge.registry.>";
            return Err(BrokerError::Refused { reason: reason.into() });
        }
    }
    Ok(shards.iter().flatten().filter_map(Entry::decode).collect())
}

/// The frame that keeps an entry.
pub(super) fn keep(entry: &Entry) -> Frame {
    Frame::new(Command::Send)
        .with_header("destination", &names::registry(shard(&entry.source)))
        .with_header("persistent", "true")
        .with_header(ID, &entry.id)
        .with_body(entry.encode())
}

/// Removes entries that are covered. Those that cannot be found stay, harmless; says whether there
/// are none.
pub(super) async fn remove(
    session: &Session,
    source: &Source,
    ids: &[Arc<str>],
) -> Result<bool, BrokerError> {
    if ids.is_empty() {
        return Ok(true);
    }
    let (sender, mut removed) = mpsc::unbounded_channel();
    let list: Vec<String> = ids.iter().map(|id| format!("'{id}'")).collect();
    let selector = format!("{ID} IN ({})", list.join(","));
    let handler = move |messages: Vec<view::Message>| {
        for message in messages {
            let _given_up = sender.send(message.header(ID).map(|id| id.into_owned()));
        }
    };
    let (subscription, _) = session.write(|writer| {
        let headers = [("selector", selector.as_str())];
        let destination = names::registry(shard(source));
        writer.subscribe(&destination, AckMode::Auto, &headers, Box::new(handler))
    })?;
    let mut left: HashSet<&str> = ids.iter().map(|id| &**id).collect();
    let removing = async {
        while !left.is_empty() {
            let Some(id) = removed.recv().await else { return };
            left.remove(id.unwrap_or_default().as_str());
        }
    };
    let _some_stay = timeout(REMOVING, removing).await;
    session.write(|writer| writer.unsubscribe(subscription))?.received().await?;
    Ok(left.is_empty())
}

/// The same in every process and version: FNV-1a.
fn shard(source: &Source) -> usize {
    let mut hash: u32 = 0x811c_9dc5;
    for octet in source.name().bytes() {
        hash = (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193);
    }
    hash as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_an_entry_never_changes() {
        let places = ["", "a", "inbox.alice"].map(|name| shard(&Source::queue(name)));
        assert_eq!(places, [197, 44, 89]);
    }
}
