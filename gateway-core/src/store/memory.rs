mod change;
mod import;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::change::{IN_REPLY_TO, wiped_headers};
use super::keep::metadata;
use super::limits::{check, octets_of, octets_of_stored};
use super::message::expiry;
use super::search::text_of_stored;
use super::{
    Appended, ChangeError, ConversationCursor, ConversationSummary, Cut, DEDUPE_MILLIS, Epoch,
    Extent, Imported, Keep, Marker, Marks, MessageId, MessageKind, MessageStore, NewMessage,
    OutboxId, Page, Position, Search, SearchScope, StoreError, StoredMessage, Unpublished,
    UnreadRange,
};
use crate::clock::Clock;
use crate::names::{ConversationId, ConversationKind, UserName};

/// How much a [`MemoryStore`] keeps by default: 256 MiB
const DEFAULT_MAX_OCTETS: usize = 256 * 1024 * 1024;

/// A message store that forgets everything when the process ends
///
/// It also forgets the oldest messages, together with their idempotency keys, when it holds more octets than its bound
/// (256 MiB unless set); [`Position::first_seq`] tells. What is in the outbox is never forgotten: when that alone
/// exceeds the bound, appending fails with [`StoreError::Overloaded`].
pub struct MemoryStore {
    state: Mutex<State>,
    epoch: Epoch,
    clock: Clock,
    max_octets: usize,
}

impl MemoryStore {
    /// An empty store
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: Mutex::default(),
            epoch: Epoch::generate(),
            clock: Clock::system(),
            max_octets: DEFAULT_MAX_OCTETS,
        }
    }

    /// Takes the time from `clock`
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets how many octets of messages it keeps, headers and a share for bookkeeping included
    #[must_use]
    pub const fn with_max_octets(mut self, octets: usize) -> Self {
        self.max_octets = octets;
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics between two changes that belong together, so a poisoned state is a whole one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("max_octets", &self.max_octets).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    conversations: HashMap<ConversationId, Conversation>,
    /// The direct conversations of each user
    direct: HashMap<UserName, HashSet<ConversationId>>,
    keys: HashMap<(UserName, String), Appended>,
    /// One entry per kept message, in the order of storing
    oldest: VecDeque<ConversationId>,
    octets: usize,
    outbox: BTreeMap<OutboxId, Unpublished>,
    outbox_octets: usize,
    last_outbox: u64,
}

#[derive(Default)]
struct Conversation {
    messages: VecDeque<Kept>,
    last_seq: u64,
    last_time: u64,
    /// How many messages ever counted as unread
    counted: u64,
    /// How many of them are forgotten
    counted_forgotten: u64,
    /// The last message that was not stored as a whole
    gap: u64,
    /// Messages that no longer count as unread from this time on: recalled, or expired
    fading: BTreeMap<u64, u64>,
    marks: BTreeMap<UserName, Progress>,
}

struct Kept {
    message: StoredMessage,
    /// [`Conversation::counted`] as it was with this message
    counted: u64,
    /// As it was before its first edit
    original: Option<Box<StoredMessage>>,
}

#[derive(Clone, Copy, Default)]
struct Progress {
    read: u64,
    delivered: u64,
    /// [`Conversation::counted`] at `read`
    read_counted: u64,
}

impl Conversation {
    fn first_seq(&self) -> u64 {
        self.messages.front().map_or(self.last_seq + 1, |kept| kept.message.seq)
    }

    /// [`Conversation::counted`] as it was at `seq`
    fn counted_at(&self, seq: u64) -> u64 {
        match self.index_after(seq).checked_sub(1) {
            Some(last) => self.messages.get(last).map_or(self.counted, |kept| kept.counted),
            None => self.counted_forgotten,
        }
    }

    /// Where the first message with a greater `seq` is
    fn index_after(&self, seq: u64) -> usize {
        self.messages.partition_point(|kept| kept.message.seq <= seq)
    }

    fn unread_of(&self, user: &UserName, now: u64) -> u64 {
        let progress = self.marks.get(user).copied().unwrap_or_default();
        let faded = self.fading.range(progress.read + 1..).filter(|(_, at)| **at <= now).count();
        self.counted - progress.read_counted.max(self.counted_forgotten) - faded as u64
    }

    fn marks(&self) -> Vec<Marks> {
        let marks = self.marks.iter();
        marks.map(|(user, at)| Marks::new(user.clone(), at.read, at.delivered)).collect()
    }
}

/// The conversation, which begins now if it is not there
fn begin<'a>(
    conversations: &'a mut HashMap<ConversationId, Conversation>,
    direct: &mut HashMap<UserName, HashSet<ConversationId>>,
    id: &ConversationId,
) -> &'a mut Conversation {
    let conversation = conversations.entry(id.clone()).or_default();
    if conversation.last_seq == 0
        && let ConversationKind::Direct(one, other) = id.kind()
    {
        for person in [one, other] {
            direct.entry(person).or_default().insert(id.clone());
        }
    }
    conversation
}

/// Takes away what a recalled message and its edits, which wait in the outbox, have said; gives the octets
fn wipe(outbox: &mut BTreeMap<OutboxId, Unpublished>, target: MessageId) -> usize {
    let text = target.to_string();
    let mut octets = 0;
    for message in outbox.values_mut().map(|entry| &mut entry.message) {
        let about = |(name, value): &(String, String)| name == IN_REPLY_TO && *value == text;
        let edits = message.kind == MessageKind::Edit && message.headers.iter().any(about);
        if edits || message.message_id == target {
            octets += octets_of_stored(message);
            message.headers = wiped_headers(std::mem::take(&mut message.headers));
            message.body.clear();
            octets -= octets_of_stored(message);
        }
    }
    octets
}

impl State {
    fn append(
        &mut self,
        message: NewMessage,
        now: u64,
        max_octets: usize,
    ) -> Result<Appended, StoreError> {
        check(&message)?;
        let key = message.idempotency_key.clone().map(|key| (message.sender.clone(), key));
        if let Some(first) = key.as_ref().and_then(|key| self.keys.get(key))
            && now < first.timestamp.saturating_add(DEDUPE_MILLIS)
        {
            let waiting = first.outbox.filter(|id| self.outbox.contains_key(id));
            return Ok(first.clone().with_outbox(waiting).as_duplicate());
        }
        let octets = octets_of(&message);
        if message.change.is_some() && !self.conversations.contains_key(&message.conversation) {
            return Err(ChangeError::NoTarget.into());
        }

        let targets = message.targets.clone();
        let id = message.conversation.clone();
        let conversation = begin(&mut self.conversations, &mut self.direct, &id);
        let seq = conversation.last_seq + 1;
        let (grown, shrunk) = conversation.change(&message, seq)?;
        self.octets = (self.octets + grown).saturating_sub(shrunk);
        if let Some(change) =
            message.change.as_ref().filter(|_| message.kind == MessageKind::Recall)
        {
            self.outbox_octets -= wipe(&mut self.outbox, change.target);
        }
        let timestamp = now.max(conversation.last_time);
        let (keep, counts) = (message.keep, message.counts_as_unread());
        let message = StoredMessage::new(message, seq, MessageId::generate(), timestamp);
        conversation.last_seq = seq;
        conversation.last_time = timestamp;
        if counts {
            conversation.counted += 1;
            conversation.fading.extend(expiry(&message.headers).map(|at| (seq, at)));
        }
        if keep != Keep::Everything {
            conversation.gap = seq;
        }
        let counted = conversation.counted;
        let progress = Progress { read: seq, delivered: seq, read_counted: counted };
        conversation.marks.insert(message.sender.clone(), progress);
        if keep != Keep::Nothing {
            let mut message = message.clone();
            if keep == Keep::Metadata {
                message.headers = metadata(&message.headers);
                message.body = Bytes::new();
            }
            self.octets += octets_of_stored(&message);
            conversation.messages.push_back(Kept { message, counted, original: None });
            self.oldest.push_back(id.clone());
        }

        let mut appended = Appended::new(id, seq, message.message_id, timestamp);
        if !targets.is_empty() {
            self.last_outbox += 1;
            let outbox = OutboxId::new(self.last_outbox);
            self.outbox_octets += octets;
            self.outbox.insert(outbox, Unpublished::new(outbox, message, targets));
            appended = appended.with_outbox(Some(outbox));
        }
        if let Some(key) = key {
            self.keys.insert(key, appended.clone());
        }
        self.forget(max_octets);
        Ok(appended)
    }

    fn forget(&mut self, max_octets: usize) {
        while self.octets > max_octets {
            let Some(id) = self.oldest.pop_front() else { return };
            let Some(conversation) = self.conversations.get_mut(&id) else { continue };
            let Some(kept) = conversation.messages.pop_front() else { continue };
            conversation.counted_forgotten = kept.counted;
            conversation.fading.remove(&kept.message.seq);
            self.octets = self.octets.saturating_sub(kept.octets());
            let message = kept.message;
            if let Some(key) = message.idempotency_key {
                let key = (message.sender, key);
                // The key may meanwhile stand for a later message.
                if self.keys.get(&key).is_some_and(|first| first.message_id == message.message_id) {
                    self.keys.remove(&key);
                }
            }
        }
    }

    /// Forgets the first messages of a conversation
    fn cut(&mut self, id: &ConversationId, cut: Cut, limit: usize) -> u64 {
        let waiting = self.outbox.values().map(|entry| &entry.message);
        let waiting = waiting.filter(|message| message.conversation == *id);
        let end = waiting.map(|message| message.seq).min().unwrap_or(u64::MAX);
        let Some(conversation) = self.conversations.get_mut(id) else { return 0 };
        let goes = |kept: &Kept| {
            let message = &kept.message;
            message.seq < end && cut.concerns(message.seq, message.timestamp)
        };
        let mut gone = 0;
        while gone < limit && conversation.messages.front().is_some_and(goes) {
            let Some(kept) = conversation.messages.pop_front() else { break };
            conversation.counted_forgotten = kept.counted;
            conversation.fading.remove(&kept.message.seq);
            self.octets = self.octets.saturating_sub(kept.octets());
            gone += 1;
        }
        let mut left = gone;
        self.oldest.retain(|other| {
            let goes = left > 0 && other == id;
            left -= usize::from(goes);
            !goes
        });
        gone as u64
    }

    /// The conversations of a user that exist, unordered
    fn of_user<'a>(
        &'a self,
        user: &UserName,
        others: &'a [ConversationId],
    ) -> impl Iterator<Item = (ConversationId, Option<&'a Conversation>)> {
        let direct = self.direct.get(user).into_iter().flatten().cloned();
        direct.chain(others.iter().cloned()).filter_map(|id| {
            let conversation = self.conversations.get(&id);
            (conversation.is_some() || !id.is_broadcast()).then_some((id, conversation))
        })
    }
}

#[async_trait]
impl MessageStore for MemoryStore {
    async fn append(&self, batch: Vec<NewMessage>) -> Vec<Result<Appended, StoreError>> {
        let now = self.clock.now_millis();
        let mut state = self.state();
        let octets: usize = batch.iter().map(octets_of).sum();
        if state.outbox_octets.saturating_add(octets) > self.max_octets {
            return batch.iter().map(|_| Err(StoreError::Overloaded)).collect();
        }
        batch.into_iter().map(|message| state.append(message, now, self.max_octets)).collect()
    }

    async fn history(
        &self,
        conversation: &ConversationId,
        page: Page,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let state = self.state();
        let Some(conversation) = state.conversations.get(conversation) else {
            return Ok(Vec::new());
        };
        let start = page.after.map_or(0, |after| conversation.index_after(after));
        let end = page.before.map_or(conversation.messages.len(), |before| {
            conversation.index_after(before.saturating_sub(1))
        });
        if start >= end {
            return Ok(Vec::new());
        }
        let matching = conversation.messages.range(start..end).map(|kept| &kept.message);
        let mut octets = 0;
        let fits = |message: &&StoredMessage| {
            let fits = octets < page.max_octets.max(1);
            octets += octets_of_stored(message);
            fits
        };
        if page.after.is_some() {
            Ok(matching.take(page.limit).take_while(fits).cloned().collect())
        } else {
            let mut last: Vec<_> =
                matching.rev().take(page.limit).take_while(fits).cloned().collect();
            last.reverse();
            Ok(last)
        }
    }

    async fn find(
        &self,
        conversation: &ConversationId,
        message: MessageId,
        original: bool,
    ) -> Result<Option<StoredMessage>, StoreError> {
        let state = self.state();
        let kept = state.conversations.get(conversation).and_then(|c| c.find(message));
        Ok(kept.map(|kept| match &kept.original {
            Some(first) if original => StoredMessage::clone(first),
            _ => kept.message.clone(),
        }))
    }

    async fn position(&self, conversation: &ConversationId) -> Result<Position, StoreError> {
        let state = self.state();
        let of = |conversation: &Conversation| {
            (conversation.first_seq(), conversation.last_seq, conversation.gap)
        };
        let (first, last, gap) = state.conversations.get(conversation).map_or((1, 0, 0), of);
        Ok(Position::new(first, last, self.epoch.clone()).with_gap(gap))
    }

    async fn mark(
        &self,
        conversation: &ConversationId,
        user: &UserName,
        marker: Marker,
        up_to: u64,
    ) -> Result<Marks, StoreError> {
        let mut state = self.state();
        let Some(conversation) = state.conversations.get_mut(conversation) else {
            return Ok(Marks::new(user.clone(), 0, 0));
        };
        let up_to = up_to.min(conversation.last_seq);
        let before = conversation.marks.get(user).copied().unwrap_or_default();
        let mut after = before;
        after.delivered = before.delivered.max(up_to);
        if marker == Marker::Read && up_to > before.read {
            after.read = up_to;
            after.read_counted = conversation.counted_at(up_to);
        }
        let moved = (before.read, before.delivered) != (after.read, after.delivered);
        if moved {
            conversation.marks.insert(user.clone(), after);
        }
        Ok(Marks::new(user.clone(), after.read, after.delivered).with_moved(moved))
    }

    async fn markers(&self, conversation: &ConversationId) -> Result<Vec<Marks>, StoreError> {
        let state = self.state();
        Ok(state.conversations.get(conversation).map(Conversation::marks).unwrap_or_default())
    }

    async fn conversations(
        &self,
        user: &UserName,
        others: &[ConversationId],
        after: Option<&ConversationCursor>,
        limit: usize,
    ) -> Result<Vec<ConversationSummary>, StoreError> {
        let now = self.clock.now_millis();
        let state = self.state();
        let mut found: Vec<_> = state.of_user(user, others).collect();
        let time = |conversation: &Option<&Conversation>| conversation.map_or(0, |c| c.last_time);
        found.sort_by(|(a, one), (b, other)| time(other).cmp(&time(one)).then_with(|| a.cmp(b)));
        if let Some(after) = after {
            found.retain(|(id, conversation)| after.precedes(time(conversation), id));
        }
        found.truncate(limit);
        let summary = |(id, conversation): (ConversationId, Option<&Conversation>)| {
            let mut summary = ConversationSummary::new(id);
            if let Some(conversation) = conversation {
                summary.last_seq = conversation.last_seq;
                summary.last_time = conversation.last_time;
                summary.last_message =
                    conversation.messages.back().map(|kept| kept.message.clone());
                summary.unread = conversation.unread_of(user, now);
                summary.markers = conversation.marks();
                if summary.conversation.is_broadcast() {
                    summary.markers.retain(|marks| marks.user == *user);
                }
            }
            summary
        };
        Ok(found.into_iter().map(summary).collect())
    }

    async fn unread(
        &self,
        user: &UserName,
        others: &[ConversationId],
    ) -> Result<Vec<UnreadRange>, StoreError> {
        let state = self.state();
        let mut found: Vec<_> = state
            .of_user(user, others)
            .filter_map(|(id, conversation)| {
                let conversation = conversation?;
                let read = conversation.marks.get(user).map_or(0, |progress| progress.read);
                (read < conversation.last_seq).then(|| {
                    (conversation.last_time, UnreadRange::new(id, read, conversation.last_seq))
                })
            })
            .collect();
        found.sort_by(|(one, a), (other, b)| {
            one.cmp(other).then_with(|| a.conversation.cmp(&b.conversation))
        });
        Ok(found.into_iter().map(|(_, range)| range).collect())
    }

    async fn search(&self, search: Search) -> Result<Vec<StoredMessage>, StoreError> {
        let state = self.state();
        let direct = search.direct_of.as_ref().and_then(|user| state.direct.get(user));
        let direct = direct.into_iter().flatten().cloned().map(SearchScope::new);
        let mut found = Vec::new();
        for scope in search.within.iter().cloned().chain(direct) {
            let Some(conversation) = state.conversations.get(&scope.conversation) else { continue };
            let after = search.after.as_ref();
            let bounds = after.map_or((u64::MAX, u64::MAX), |at| at.bounds(&scope.conversation));
            let (latest, before) = bounds;
            let messages = conversation.messages.iter().rev().map(|kept| &kept.message);
            let matching = messages.filter(|message| {
                message.timestamp <= latest
                    && (scope.after_seq + 1..before).contains(&message.seq)
                    && text_of_stored(message).is_some_and(|text| search.terms.match_text(text))
            });
            found.extend(matching.take(search.limit));
        }
        found.sort_by(|one, other| other.place().cmp(&one.place()));
        let mut octets = 0;
        let fits = |message: &&StoredMessage| {
            let fits = octets < search.max_octets.max(1);
            octets += octets_of_stored(message);
            fits
        };
        Ok(found.into_iter().take(search.limit).take_while(fits).cloned().collect())
    }

    async fn unpublished(
        &self,
        after: Option<OutboxId>,
        limit: usize,
    ) -> Result<Vec<Unpublished>, StoreError> {
        let state = self.state();
        let start = OutboxId::new(after.map_or(0, |after| after.get().saturating_add(1)));
        Ok(state.outbox.range(start..).take(limit).map(|(_, entry)| entry.clone()).collect())
    }

    async fn mark_published(&self, ids: &[OutboxId]) -> Result<(), StoreError> {
        let mut state = self.state();
        for id in ids {
            if let Some(entry) = state.outbox.remove(id) {
                state.outbox_octets -= octets_of_stored(&entry.message);
            }
        }
        Ok(())
    }

    async fn survey(
        &self,
        after: Option<&ConversationId>,
        limit: usize,
    ) -> Result<Vec<Extent>, StoreError> {
        let state = self.state();
        let mut found: Vec<_> = state
            .conversations
            .iter()
            .filter(|(id, _)| after.is_none_or(|after| *id > after))
            .filter_map(|(id, conversation)| {
                let first = &conversation.messages.front()?.message;
                Some(Extent::new(id.clone(), first.seq, first.timestamp, conversation.last_seq))
            })
            .collect();
        found.sort_by(|one, other| one.conversation.cmp(&other.conversation));
        found.truncate(limit);
        Ok(found)
    }

    async fn forget(
        &self,
        conversation: &ConversationId,
        cut: Cut,
        limit: usize,
    ) -> Result<u64, StoreError> {
        Ok(self.state().cut(conversation, cut, limit))
    }

    async fn import(
        &self,
        conversation: &ConversationId,
        batch: Vec<Imported>,
    ) -> Result<u64, StoreError> {
        self.state().import(conversation, batch, self.max_octets)
    }

    async fn health(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
