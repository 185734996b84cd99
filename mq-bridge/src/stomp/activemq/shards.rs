//! Where the registry is kept: its entries are messages in a number of queues, which are read by
//! browsing.
//!
//! An entry that is covered is removed, though not always at once. It must not come to light again:
//! whoever covers an entry also covers what that one did, as far as it is still there.

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
/// How long to wait for entries that are to be removed: another node may be removing them.
const REMOVING: std::time::Duration = std::time::Duration::from_secs(1);

/// Reads all entries.
pub(super) async fn load(
    session: &Session,
    statistics: &Statistics,
) -> Result<Vec<Entry>, BrokerError> {
    let shards: Vec<String> = (0..SHARDS).map(names::registry).collect();
    let found = browse(session, &shards, None).await?;
    for (shard, messages) in shards.iter().zip(&found) {
        let browsed = messages.len();
        if browsed >= BROWSED && statistics.of(shard).await?.depth > browsed as u64 {
            let reason = "it does not let the whole registry be browsed: raise \
                          maxBrowsePageSize for mq-bridge.registry.>";
            return Err(BrokerError::Refused { reason: reason.into() });
        }
    }
    Ok(found.iter().flatten().filter_map(|message| Entry::decode(message.body_bytes())).collect())
}

/// The frame that keeps an entry.
pub(super) fn keep(entry: &Entry) -> Frame {
    Frame::new(Command::Send)
        .with_header("destination", &names::registry(shard(&entry.source)))
        .with_header("persistent", "true")
        .with_header(ID, &entry.id)
        .with_body(entry.encode())
}

/// Which of these entries are still kept.
pub(super) async fn kept(
    session: &Session,
    source: &Source,
    ids: &[Arc<str>],
) -> Result<Vec<Arc<str>>, BrokerError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let shard = names::registry(shard(source));
    let found = browse(session, &[shard], Some(&selector(ids))).await?;
    let id = |message: &view::Message| message.header(ID).map(|id| Arc::from(&*id));
    Ok(found.iter().flatten().filter_map(id).collect())
}

/// Removes entries, as far as it can; says whether none of them is left.
pub(super) async fn remove(
    session: &Session,
    source: &Source,
    ids: &[Arc<str>],
) -> Result<bool, BrokerError> {
    let kept_ids = kept(session, source, ids).await?;
    if kept_ids.is_empty() {
        return Ok(true);
    }
    let (sender, mut removed) = mpsc::unbounded_channel();
    let handler = move |messages: Vec<view::Message>| {
        for _ in messages {
            let _given_up = sender.send(());
        }
    };
    let (subscription, _) = session.write(|writer| {
        let selector = selector(&kept_ids);
        let headers = [("selector", selector.as_str())];
        let destination = names::registry(shard(source));
        writer.subscribe(&destination, AckMode::Auto, &headers, Box::new(handler))
    })?;
    let removing = async {
        for _ in &kept_ids {
            removed.recv().await;
        }
    };
    let _some_may_stay = timeout(REMOVING, removing).await;
    session.write(|writer| writer.unsubscribe(subscription, &[]))?.received().await?;
    Ok(kept(session, source, ids).await?.is_empty())
}

fn selector(ids: &[Arc<str>]) -> String {
    let list: Vec<String> = ids.iter().map(|id| format!("'{id}'")).collect();
    format!("{ID} IN ({})", list.join(","))
}

/// What is in each of some queues.
async fn browse(
    session: &Session,
    queues: &[String],
    selector: Option<&str>,
) -> Result<Vec<Vec<view::Message>>, BrokerError> {
    let (sender, mut ended) = mpsc::unbounded_channel();
    let found = Arc::new(Mutex::new(vec![Vec::new(); queues.len()]));
    let mut headers = vec![("browser", "true"), ("activemq.prefetchSize", "10000")];
    headers.extend(selector.map(|selector| ("selector", selector)));
    let mut subscriptions = Vec::with_capacity(queues.len());
    session.write(|writer| {
        for (index, queue) in queues.iter().enumerate() {
            let (found, ended) = (Arc::clone(&found), sender.clone());
            let handler = move |messages: Vec<view::Message>| {
                for message in messages {
                    if message.header("browser").is_some_and(|value| value == "end") {
                        let _given_up = ended.send(());
                    } else if let Some(queue) = lock(&found).get_mut(index) {
                        queue.push(message);
                    }
                }
            };
            let (subscription, _) =
                writer.subscribe(queue, AckMode::Auto, &headers, Box::new(handler))?;
            subscriptions.push(subscription);
        }
        Ok(())
    })?;
    for _ in queues {
        tokio::select! {
            _ = ended.recv() => {}
            reason = session.lost() => return Err(BrokerError::Disconnected { reason }),
        }
    }
    session.write(|writer| {
        subscriptions.into_iter().try_for_each(|one| writer.unsubscribe(one, &[]).map(drop))
    })?;
    let found = std::mem::take(&mut *lock(&found));
    Ok(found)
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
