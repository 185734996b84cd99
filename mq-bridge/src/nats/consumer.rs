//! One consumer: fetches as far as there is room, keeps what it holds, gives it back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::{Message, Subject, Subscriber};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::local::lock;
use crate::remote::{Inbox, Incoming, Verdict};
use crate::{BrokerError, EndReason, Target};

use super::backlog::{self, Backlog, Owed};
use super::copies::{self, Copies, Seen};
use super::memory::{Fate, Memory, Ticket};
use super::plan::Address;
use super::pull::{EXPIRES, Ended, Pull};
use super::registry::Version;
use super::session::Session;
use super::takeover::Turn;
use super::wire::{self, Decoded};

pub(super) const ACK: Bytes = Bytes::from_static(b"+ACK");
pub(super) const NAK: Bytes = Bytes::from_static(b"-NAK");
const IN_PROGRESS: Bytes = Bytes::from_static(b"+WPI");

/// The most deliveries that are handed on at once.
const BATCH: usize = 512;

/// A consumer of a queue or durable subscription over one session.
pub(super) struct Consumer {
    pub(super) inbox: Arc<Inbox<u64>>,
    epoch: u64,
    pub(super) address: Address,
    /// The name for the memory.
    name: Arc<str>,
    pub(super) turn: Turn,
    /// When the consumer on the server was made: tells it from another one of its name.
    made: String,
    interest: Mutex<Interest>,
    hold: Mutex<Hold>,
    heard: Mutex<Instant>,
    /// Told to fetch again.
    poke: Notify,
    stop: Notify,
    task: Mutex<Option<JoinHandle<bool>>>,
}

/// What is wanted of the stream of topics.
#[derive(Default)]
struct Interest {
    version: Version,
    /// The last message that came before the version was asked for.
    asked_after: u64,
    seen: Seen,
}

/// What the server has delivered here and is not settled.
#[derive(Default)]
struct Hold {
    held: BTreeMap<u64, Held>,
    /// Nothing is taken any more.
    closed: bool,
}

struct Held {
    ticket: Ticket,
    /// When the server has last heard that it is held.
    told: Instant,
    /// Its settlement is on its way.
    settling: bool,
}

impl Consumer {
    pub(super) fn new(
        inbox: &Arc<Inbox<u64>>,
        epoch: u64,
        address: &Address,
        made: String,
        version: Version,
    ) -> Self {
        Self {
            inbox: Arc::clone(inbox),
            epoch,
            address: address.clone(),
            name: address.token.as_str().into(),
            turn: Turn::of(inbox),
            made,
            interest: Mutex::new(Interest { version, ..Interest::default() }),
            hold: Mutex::default(),
            heard: Mutex::new(Instant::now()),
            poke: Notify::new(),
            stop: Notify::new(),
            task: Mutex::default(),
        }
    }

    /// Begins to fetch: at once, where it is known what is owed first, or as soon as the server delivers
    /// to nobody else any more.
    pub(super) async fn start(
        self: &Arc<Self>,
        session: &Arc<Session>,
        owed: Option<Owed>,
    ) -> Result<(), BrokerError> {
        let replies = format!("{}.c.{}", session.base, session.next_id());
        let messages = session.subscribe(format!("{replies}.*")).await?;
        let (consumer, session) = (Arc::clone(self), Arc::clone(session));
        let task = tokio::spawn(async move {
            let owed = match owed {
                Some(owed) => owed,
                None => tokio::select! {
                    // What fails here fails again, and where it is told.
                    owed = session.wait_for_others(&consumer.address) => owed.unwrap_or_default(),
                    () = consumer.stop.notified() => return false,
                },
            };
            consumer.run(&session, &replies, messages, Backlog::of(owed)).await
        });
        *lock(&self.task) = Some(task);
        Ok(())
    }

    /// Fetches until it is stopped or the link is lost; says whether something may still have been
    /// on its way then.
    async fn run(
        &self,
        session: &Session,
        replies: &str,
        mut messages: Subscriber,
        mut backlog: Backlog,
    ) -> bool {
        let mut pull = Pull::default();
        let mut ended = false;
        loop {
            let wanting = pull.is_over() && !ended;
            let resting = pull.rest();
            tokio::select! {
                biased;
                () = self.stop.notified() => break,
                message = messages.next() => {
                    let Some(message) = message else { return true };
                    self.handle(session, message, &mut messages, &mut pull, &mut backlog).await;
                }
                () = self.poke.notified() => pull.give_up(),
                () = sleep_until(resting.unwrap_or_else(Instant::now)), if resting.is_some() => {
                    pull.rested();
                }
                room = self.inbox.wait_for_room(self.epoch),
                    if wanting && resting.is_none() || backlog.is_ready() && !ended =>
                {
                    match room {
                        Some(_) if backlog.is_ready() => backlog.flow(&self.inbox, self.epoch),
                        Some(room) => {
                            self.fetch(session, replies, &mut pull, room, &backlog).await;
                        }
                        None => ended = true,
                    }
                }
            }
        }
        let open = !pull.is_over();
        // The server sends nothing after this; what comes still is held as well.
        if messages.drain().await.is_ok() {
            while let Some(message) = messages.next().await {
                self.handle(session, message, &mut messages, &mut pull, &mut backlog).await;
            }
        }
        if open {
            // Asked this, the server forgets the request, which nobody waits for any more. Otherwise
            // it would do so when it has a message for it, which then goes to the end of those that
            // are given back.
            let Address { stream, consumer, .. } = &self.address;
            let _ = session.consumer_info(stream, consumer).await;
        }
        open
    }

    /// Asks for what is owed, else for what there is room for.
    async fn fetch(
        &self,
        session: &Session,
        replies: &str,
        pull: &mut Pull,
        room: usize,
        backlog: &Backlog,
    ) {
        let (number, body) = match backlog.owed() {
            0 => pull.begin(room, self.inbox.room_bytes(), EXPIRES),
            owed => pull.begin(owed, backlog::MAX_BYTES, backlog::COMING),
        };
        *lock(&self.heard) = Instant::now();
        let Address { stream, consumer, .. } = &self.address;
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}");
        let reply = format!("{replies}.{number}");
        if let Err(error) = session.client.publish_with_reply(subject, reply, body).await {
            session.fail(&error.to_string());
        }
    }

    /// Takes a message and what has come with it.
    async fn handle(
        &self,
        session: &Session,
        first: Message,
        messages: &mut Subscriber,
        pull: &mut Pull,
        backlog: &mut Backlog,
    ) {
        *lock(&self.heard) = Instant::now();
        let mut deliveries = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next {
            match message.reply.as_ref().and_then(Ticket::read) {
                Some(ticket) => {
                    pull.delivered();
                    deliveries.push((message, ticket));
                }
                None => match pull.status(&message) {
                    Ended::Deleted => self.inbox.end(EndReason::Deleted),
                    Ended::Unknown => self.find_out(session).await,
                    Ended::Not => {}
                },
            }
            if deliveries.len() == BATCH {
                break;
            }
            next = messages.next().now_or_never().flatten();
        }
        if !deliveries.is_empty() {
            self.deliver(session, deliveries, backlog).await;
        }
        if pull.is_over() {
            // It asked for all.
            backlog.give_up();
        }
    }

    /// Finds out whether the consumer was deleted, perhaps to be made anew.
    pub(super) async fn find_out(&self, session: &Session) {
        let Address { stream, consumer, .. } = &self.address;
        match session.consumer_info(stream, consumer).await {
            Ok(Some(info)) if info.created == self.made => {}
            Ok(_) => self.inbox.end(EndReason::Deleted),
            Err(_) => {}
        }
    }

    async fn deliver(
        &self,
        session: &Session,
        deliveries: Vec<(Message, Ticket)>,
        backlog: &mut Backlog,
    ) {
        let mut wanted = Vec::with_capacity(deliveries.len());
        let mut unwanted = Vec::new();
        for (message, mut ticket) in deliveries {
            backlog.came(ticket.seq);
            match session.memory.fate(&self.name, &ticket) {
                Some(Fate::Acknowledged) => {
                    unwanted.push(ticket.reply);
                    continue;
                }
                Some(Fate::Delivered(count)) => ticket.count = count,
                None => {}
            }
            let subjects = &session.plan.subjects;
            let headers = message.headers.as_ref();
            let decoded = wire::decode(&message.subject, headers, message.payload, subjects);
            wanted.push((decoded, ticket));
        }
        let asked = self.ask_again(session, &wanted).await;
        let mut incoming = Vec::with_capacity(wanted.len());
        {
            let mut interest = lock(&self.interest);
            let mut hold = lock(&self.hold);
            if hold.closed || asked.is_err() {
                // The link is lost; the server delivers it again.
                return;
            }
            for (decoded, ticket) in wanted {
                let marked = match interest.judge(&decoded, &ticket) {
                    copies::Verdict::Take => false,
                    copies::Verdict::TakeMarked => true,
                    copies::Verdict::Leave => {
                        unwanted.push(ticket.reply);
                        continue;
                    }
                };
                let (seq, count) = (ticket.seq, ticket.count);
                if hold.take(ticket) {
                    incoming.push(incoming_of(seq, count, marked, decoded));
                }
            }
            backlog.hand_on(&self.inbox, self.epoch, incoming);
        }
        for reply in unwanted {
            if session.send(reply.into_string(), ACK).await.is_err() {
                return;
            }
        }
    }

    /// Another node may have declared a pattern that this one does not know yet: what seems unwanted
    /// is so only if the registry says so now.
    async fn ask_again(
        &self,
        session: &Session,
        deliveries: &[(Decoded, Ticket)],
    ) -> Result<(), BrokerError> {
        let last = deliveries.iter().map(|(_, ticket)| ticket.seq).max().unwrap_or_default();
        let doubtful = {
            let interest = lock(&self.interest);
            deliveries.iter().any(|(decoded, ticket)| interest.doubts(decoded, ticket))
        };
        if doubtful {
            let version = session.record(&self.address).await?;
            self.update(&version);
            let mut interest = lock(&self.interest);
            interest.asked_after = interest.asked_after.max(last);
        }
        Ok(())
    }

    /// Something else is declared now.
    pub(super) fn update(&self, version: &Version) {
        let mut interest = lock(&self.interest);
        if version.revision > interest.version.revision {
            self.inbox.set_settings(version.record.settings());
            interest.version = version.clone();
        }
    }

    /// Stops to fetch and gives back everything that is held, in order. Says whether something that
    /// the server has sent may be missing there.
    pub(super) async fn stop(&self, session: &Session) -> Result<bool, BrokerError> {
        self.stop.notify_one();
        let task = lock(&self.task).take();
        let open = match task {
            Some(task) => task.await.unwrap_or(true),
            None => false,
        };
        let held = lock(&self.hold).close();
        self.inbox.give_back();
        let tickets: Vec<_> = held.into_iter().map(|held| held.ticket).collect();
        session.settle_all(replies(&tickets), NAK).await?;
        session.memory.given_back(&self.name, tickets);
        Ok(open)
    }

    /// The tickets of deliveries that are settled now.
    pub(super) fn begin_settling(&self, deliveries: &[u64]) -> Vec<Ticket> {
        let mut hold = lock(&self.hold);
        let tickets = deliveries.iter().filter_map(|seq| {
            let held = hold.held.get_mut(seq)?;
            held.settling = true;
            Some(held.ticket.clone())
        });
        let mut tickets: Vec<_> = tickets.collect();
        // What is given back goes to the front in this order.
        tickets.sort_unstable_by_key(|one| one.seq);
        tickets
    }

    pub(super) fn abort(&self) {
        if let Some(task) = &*lock(&self.task) {
            task.abort();
        }
    }

    /// The server has confirmed a settlement.
    pub(super) fn settled(&self, tickets: Vec<Ticket>, verdict: Verdict, memory: &Memory) {
        let mut hold = lock(&self.hold);
        if hold.closed {
            return;
        }
        for ticket in &tickets {
            // A message that was refused may have come again already.
            if hold.held.get(&ticket.seq).is_some_and(|held| held.settling) {
                hold.held.remove(&ticket.seq);
            }
        }
        match verdict {
            Verdict::Ack => memory.acknowledged(&self.name, tickets),
            Verdict::Requeue => memory.given_back(&self.name, tickets),
        }
    }

    /// The link is lost: what is held here is for the memory.
    pub(super) fn remember(&self, memory: &Memory) {
        for held in lock(&self.hold).close() {
            memory.held(&self.name, held.ticket);
        }
    }

    /// Tells the server what is still held, and fetches again if it says nothing any more.
    pub(super) async fn tick(&self, session: &Session) -> Result<(), BrokerError> {
        if lock(&self.heard).elapsed() > Pull::SILENCE {
            *lock(&self.heard) = Instant::now();
            self.poke.notify_one();
        }
        let due = lock(&self.hold).due(session.plan.ack_wait / 3);
        for reply in due {
            session.send(reply.into_string(), IN_PROGRESS).await?;
        }
        Ok(())
    }
}

impl Interest {
    fn wants(&self, decoded: &Decoded, ticket: &Ticket) -> Option<Vec<&str>> {
        self.version.record.patterns_for(decoded.place.name(), ticket.seq)
    }

    fn doubts(&self, decoded: &Decoded, ticket: &Ticket) -> bool {
        matches!(decoded.place, Target::Topic(_))
            && ticket.seq > self.asked_after
            && self.wants(decoded, ticket).is_none()
    }

    fn judge(&mut self, decoded: &Decoded, ticket: &Ticket) -> copies::Verdict {
        let Target::Topic(topic) = &decoded.place else { return copies::Verdict::Take };
        let Self { version, seen, .. } = self;
        match version.record.patterns_for(topic, ticket.seq) {
            None => copies::Verdict::Leave,
            Some(_) if decoded.copies == Copies::One => copies::Verdict::Take,
            Some(patterns) => decoded.copies.judge(topic, &patterns, seen, ticket.seq),
        }
    }
}

impl Hold {
    /// Holds a delivery; `false` if it is held already, and the server believed that it was not.
    fn take(&mut self, ticket: Ticket) -> bool {
        let told = Instant::now();
        if let Some(held) = self.held.get_mut(&ticket.seq)
            && !held.settling
        {
            (held.ticket, held.told) = (ticket, told);
            return false;
        }
        self.held.insert(ticket.seq, Held { ticket, told, settling: false });
        true
    }

    fn close(&mut self) -> Vec<Held> {
        self.closed = true;
        std::mem::take(&mut self.held).into_values().collect()
    }

    /// All that is held if something was not told for so long: what is told together comes back
    /// together, and so in order, should this node die.
    fn due(&mut self, every: Duration) -> Vec<Subject> {
        let now = Instant::now();
        if !self.held.values().any(|held| now.saturating_duration_since(held.told) >= every) {
            return Vec::new();
        }
        let unsettled = self.held.values_mut().filter(|held| !held.settling);
        unsettled
            .map(|held| {
                held.told = now;
                held.ticket.reply.clone()
            })
            .collect()
    }
}

/// Where deliveries are settled.
pub(super) fn replies(tickets: &[Ticket]) -> Vec<Subject> {
    tickets.iter().map(|one| one.reply.clone()).collect()
}

fn incoming_of(seq: u64, count: u32, marked: bool, decoded: Decoded) -> Incoming<u64> {
    let Decoded { message, place, redelivered, dead_letter, .. } = decoded;
    let (target, dead_letter) = match dead_letter {
        Some(letter) => (letter.target, Some(letter.reason)),
        None => (place, None),
    };
    Incoming {
        handle: seq,
        message,
        target,
        redelivered: redelivered || marked || count > 1,
        delivery_count: count,
        dead_letter,
    }
}
