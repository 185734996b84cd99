//! Where the registry is kept: its entries are messages of one queue.
//!
//! A queue is not to be browsed, so who reads it consumes it, up to a mark of its own, and lets the
//! broker take it all back by leaving. One node does so at a time, which holds a lock. The broker
//! may be late to take back what one held that died; but it takes it back at once, and the
//! first message, which is never acknowledged, is among it. So who gets that one first gets all.
//!
//! Who reads also removes what is covered.

use std::collections::HashSet;
use std::time::Duration;

use stomp_codec::server::AckMode;
use stomp_codec::{Command, Frame, view};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::BrokerError;

use super::names;
use super::registry::Entry;
use super::scratch::{Dial, alone};
use super::session::Session;

const KIND: &str = "mq-registry";
const ID: &str = "mq-id";
/// What kinds of messages there are.
const FIRST: &str = "first";
const ENTRY: &str = "entry";
const END: &str = "end";

/// How long to wait until another node has read, or the broker has taken back what one held.
const AGAIN: Duration = Duration::from_millis(50);
/// After how many attempts a registry without its first message is taken as it is: it is new, or
/// somebody has taken that message away.
const ATTEMPTS: usize = 40;

/// What an attempt found.
enum Found {
    /// Another node reads.
    Locked,
    /// Without its first message.
    Headless,
    Whole(Vec<Entry>),
}

/// The frame that keeps an entry.
pub(super) fn keep(entry: &Entry) -> Frame {
    frame(ENTRY, &entry.id).with_header("persistent", "true").with_body(entry.encode())
}

fn frame(kind: &str, id: &str) -> Frame {
    Frame::new(Command::Send)
        .with_header("destination", &names::to(names::REGISTRY))
        .with_header(KIND, kind)
        .with_header(ID, id)
}

/// Reads all entries. `id` is that of no other reader.
pub(super) async fn load(dial: &Dial, id: &str) -> Result<Vec<Entry>, BrokerError> {
    let mut headless = 0;
    loop {
        let session = dial.connect().await?;
        let found = read(&session, id, headless > ATTEMPTS).await?;
        session.close().await;
        match found {
            Found::Whole(entries) => return Ok(entries),
            Found::Headless => headless += 1,
            Found::Locked => {}
        }
        sleep(AGAIN).await;
    }
}

async fn read(session: &Session, id: &str, as_it_is: bool) -> Result<Found, BrokerError> {
    let (_, locked) = session.write(|writer| {
        let headers = names::own(names::LOCK);
        writer.subscribe(names::UNUSED, AckMode::Auto, &headers, Box::new(drop))
    })?;
    match alone(session, locked).await {
        Err(BrokerError::Refused { reason }) if reason.starts_with("RESOURCE_LOCKED") => {
            return Ok(Found::Locked);
        }
        other => other?,
    }
    let messages = up_to_mark(session, id).await?;
    let kind = |message: &view::Message| message.header(KIND).unwrap_or_default().into_owned();
    let is_whole =
        messages.iter().find(|one| kind(one) != END).is_some_and(|one| kind(one) == FIRST);
    if !is_whole {
        if !as_it_is {
            return Ok(Found::Headless);
        }
        let first = frame(FIRST, id).with_header("persistent", "true");
        let made = session.write(|writer| writer.send_confirmed(first))?;
        alone(session, made).await?;
    }
    let mut entries = Vec::new();
    let mut kept = Vec::new();
    let mut past = Vec::new();
    for message in messages {
        match (kind(&message).as_str(), Entry::decode(message.body_bytes())) {
            (ENTRY, Some(entry)) => {
                kept.push((message, entry.clone()));
                entries.push(entry);
            }
            (END, _) => past.push(message),
            _ => {}
        }
    }
    let covered: HashSet<_> = entries.iter().flat_map(|entry| &entry.covers).collect();
    // What deletes goes last: were the others left they would hold again.
    kept.sort_by_key(|(_, entry)| entry.declared.is_none());
    let removed = kept
        .into_iter()
        .filter(|(_, entry)| entry.declared.is_none() || covered.contains(&entry.id));
    past.extend(removed.map(|(message, _)| message));
    let gone = session.write(|writer| {
        past.iter().try_for_each(|message| writer.ack(message))?;
        writer.nothing()
    })?;
    alone(session, gone).await?;
    Ok(Found::Whole(entries))
}

/// All messages up to one that is sent now.
async fn up_to_mark(session: &Session, id: &str) -> Result<Vec<view::Message>, BrokerError> {
    let (sender, mut read) = mpsc::unbounded_channel();
    let mut headers = vec![("id", "mq-registry")];
    headers.extend(names::kept(names::REGISTRY));
    let handler = move |messages: Vec<view::Message>| {
        messages.into_iter().for_each(|message| {
            let _given_up = sender.send(message);
        });
    };
    let (_, live) = session.write(|writer| {
        let ack = AckMode::ClientIndividual;
        writer.subscribe(names::UNUSED, ack, &headers, Box::new(handler))
    })?;
    alone(session, live).await?;
    let marked = session.write(|writer| writer.send_confirmed(frame(END, id)))?;
    alone(session, marked).await?;
    let mut messages = Vec::new();
    loop {
        let message = tokio::select! {
            Some(message) = read.recv() => message,
            reason = session.lost() => return Err(BrokerError::Disconnected { reason }),
        };
        let is = |name, value: &str| message.header(name).is_some_and(|found| found == value);
        let is_last = is(KIND, END) && is(ID, id);
        messages.push(message);
        if is_last {
            return Ok(messages);
        }
    }
}
