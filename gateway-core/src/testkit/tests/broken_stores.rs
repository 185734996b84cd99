//! Message stores that break one promise each, and the check that says so.

use async_trait::async_trait;

use super::super::*;
use crate::store::{
    Appended, ConversationCursor, ConversationSummary, Cut, Extent, Imported, Keep, Marker, Marks,
    MemoryStore, MessageId, MessageKind, MessageStore, NewMessage, OutboxId, Page, Position,
    Search, SearchScope, StoreError, StoredMessage, Unpublished, UnreadRange,
};

/// What is wrong with a [`Broken`] store
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    LosesOnCrash,
    LosesKeysOnCrash,
    LeavesGaps,
    NumbersOutsideTheLock,
    DoesNotDedupe,
    DedupesAcrossSenders,
    NeverForgetsKeys,
    MovesMarkersBack,
    ForgetsTheOutbox,
    ReordersTheOutbox,
    PutsNothingOut,
    FailsTheWholeBatch,
    IgnoresBefore,
    DropsHeaders,
    CountsOwnMessages,
    ShowsEverybodysConversations,
    ListsTheSamePage,
    FindsOthersMessages,
    IgnoresTheLimitOfASearch,
    IgnoresTheCursorOfASearch,
    FindsTheOldestFirst,
    FindsNoChinese,
    FindsInWhatIsNoText,
    IgnoresTheStartOfAScope,
    EditsOverTheOriginal,
    KeepsWhatWasRecalled,
    LetsEverybodyEdit,
    NeverTooLate,
    PilesUpReactions,
    IgnoresExpiry,
    ForgetsTooMuch,
    ForgetsWhatWaits,
    SurveysTheSamePage,
    CountsWhatIsForgotten,
    IgnoresThePolicy,
    KeepsTheNameless,
    PublishesWhatItStored,
    HidesGaps,
    ForgetsOriginalsOfImports,
    RenumbersImports,
    ImportsOverOthers,
}

/// A good store with one fault
#[derive(Debug)]
struct Broken {
    inner: MemoryStore,
    clock: Clock,
    fault: Fault,
}

impl Broken {
    fn of(inner: MemoryStore, clock: Clock, fault: Fault) -> Arc<dyn MessageStore> {
        Arc::new(Self { inner, clock, fault })
    }
}

#[async_trait]
impl MessageStore for Broken {
    async fn append(&self, mut batch: Vec<NewMessage>) -> Vec<Result<Appended, StoreError>> {
        let mut numbers = Vec::new();
        for message in &mut batch {
            match self.fault {
                Fault::DoesNotDedupe => message.idempotency_key = None,
                Fault::DedupesAcrossSenders => {
                    message.sender = UserName::new("everybody").unwrap();
                }
                Fault::NeverForgetsKeys => self.clock.set(START),
                Fault::DropsHeaders => message.headers.clear(),
                Fault::KeepsWhatWasRecalled if message.kind == MessageKind::Recall => {
                    message.change = None;
                }
                Fault::LetsEverybodyEdit => {
                    message.change.iter_mut().for_each(|change| change.author_only = false);
                }
                Fault::NeverTooLate => {
                    message.change.iter_mut().for_each(|change| change.not_before = 0);
                }
                Fault::PilesUpReactions if message.kind == MessageKind::Reaction => {
                    let sender = format!("{}{}", message.sender, message.body.len());
                    message.sender = UserName::new(&sender).unwrap();
                }
                Fault::IgnoresExpiry => message.headers.retain(|(name, _)| name != "expires"),
                Fault::IgnoresThePolicy => message.keep = Keep::Everything,
                Fault::KeepsTheNameless if message.keep == Keep::Nothing => {
                    message.keep = Keep::Metadata;
                }
                Fault::PutsNothingOut => message.targets.clear(),
                Fault::FindsInWhatIsNoText => {
                    message.headers.clear();
                    message.kind = MessageKind::Message;
                }
                Fault::LeavesGaps => {
                    let mut hole = message.clone();
                    hole.idempotency_key = None;
                    self.inner.append(vec![hole]).await;
                }
                Fault::NumbersOutsideTheLock => {
                    let position = self.inner.position(&message.conversation).await.unwrap();
                    tokio::task::yield_now().await;
                    numbers.push(position.last_seq + 1);
                }
                _ => {}
            }
        }
        let messages = batch.len();
        let mut answers = self.inner.append(batch).await;
        if self.fault == Fault::FailsTheWholeBatch && answers.iter().any(Result::is_err) {
            return vec![Err(StoreError::Refused("one of them".to_owned())); messages];
        }
        for (answer, number) in answers.iter_mut().zip(numbers) {
            if let Ok(appended) = answer {
                appended.seq = number;
            }
        }
        answers
    }

    async fn history(
        &self,
        conversation: &ConversationId,
        mut page: Page,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        if self.fault == Fault::IgnoresBefore {
            page.before = None;
        }
        self.inner.history(conversation, page).await
    }

    async fn find(
        &self,
        conversation: &ConversationId,
        message: MessageId,
        original: bool,
    ) -> Result<Option<StoredMessage>, StoreError> {
        let original = original && self.fault != Fault::EditsOverTheOriginal;
        self.inner.find(conversation, message, original).await
    }

    async fn position(&self, conversation: &ConversationId) -> Result<Position, StoreError> {
        let position = self.inner.position(conversation).await?;
        Ok(if self.fault == Fault::HidesGaps { position.with_gap(0) } else { position })
    }

    async fn mark(
        &self,
        conversation: &ConversationId,
        user: &UserName,
        marker: Marker,
        up_to: u64,
    ) -> Result<Marks, StoreError> {
        let mut marks = self.inner.mark(conversation, user, marker, up_to).await?;
        if self.fault == Fault::MovesMarkersBack && marker == Marker::Read {
            marks.read = up_to.min(marks.delivered);
        }
        Ok(marks)
    }

    async fn markers(&self, conversation: &ConversationId) -> Result<Vec<Marks>, StoreError> {
        self.inner.markers(conversation).await
    }

    async fn conversations(
        &self,
        user: &UserName,
        others: &[ConversationId],
        after: Option<&ConversationCursor>,
        limit: usize,
    ) -> Result<Vec<ConversationSummary>, StoreError> {
        let user = match self.fault {
            Fault::ShowsEverybodysConversations => UserName::new("alice").unwrap(),
            _ => user.clone(),
        };
        let after = after.filter(|_| self.fault != Fault::ListsTheSamePage);
        let mut list = self.inner.conversations(&user, others, after, limit).await?;
        if self.fault == Fault::CountsOwnMessages {
            for line in &mut list {
                line.unread = line.last_seq;
            }
        }
        if self.fault == Fault::CountsWhatIsForgotten {
            for line in &mut list {
                let first = self.inner.position(&line.conversation).await?.first_seq;
                line.unread += first - 1;
            }
        }
        Ok(list)
    }

    async fn unread(
        &self,
        user: &UserName,
        others: &[ConversationId],
    ) -> Result<Vec<UnreadRange>, StoreError> {
        self.inner.unread(user, others).await
    }

    async fn search(&self, mut search: Search) -> Result<Vec<StoredMessage>, StoreError> {
        match self.fault {
            Fault::FindsOthersMessages => {
                let others = SearchScope::new(ConversationId::new("direct:alice:carol").unwrap());
                search.within.push(others);
            }
            Fault::IgnoresTheLimitOfASearch => search.limit = usize::MAX,
            Fault::IgnoresTheCursorOfASearch => search.after = None,
            Fault::IgnoresTheStartOfAScope => {
                search.within.iter_mut().for_each(|scope| scope.after_seq = 0);
            }
            Fault::FindsNoChinese if !format!("{:?}", search.terms).is_ascii() => {
                return Ok(Vec::new());
            }
            _ => {}
        }
        let mut found = self.inner.search(search).await?;
        if self.fault == Fault::FindsTheOldestFirst {
            found.reverse();
        }
        Ok(found)
    }

    async fn unpublished(
        &self,
        after: Option<OutboxId>,
        limit: usize,
    ) -> Result<Vec<Unpublished>, StoreError> {
        let mut entries = self.inner.unpublished(after, limit).await?;
        match self.fault {
            Fault::ForgetsTheOutbox => entries.clear(),
            Fault::ReordersTheOutbox => entries.reverse(),
            Fault::PublishesWhatItStored => {
                for entry in &mut entries {
                    let id = entry.message.message_id;
                    let found = self.inner.find(&entry.message.conversation, id, false).await?;
                    entry.message.body = found.map(|found| found.body).unwrap_or_default();
                }
            }
            _ => {}
        }
        Ok(entries)
    }

    async fn mark_published(&self, ids: &[OutboxId]) -> Result<(), StoreError> {
        self.inner.mark_published(ids).await
    }

    async fn survey(
        &self,
        after: Option<&ConversationId>,
        limit: usize,
    ) -> Result<Vec<Extent>, StoreError> {
        let after = after.filter(|_| self.fault != Fault::SurveysTheSamePage);
        self.inner.survey(after, limit).await
    }

    async fn forget(
        &self,
        conversation: &ConversationId,
        mut cut: Cut,
        limit: usize,
    ) -> Result<u64, StoreError> {
        match self.fault {
            Fault::ForgetsTooMuch => cut.before_seq += 1,
            Fault::ForgetsWhatWaits => {
                let all = self.inner.unpublished(None, 100).await?;
                let ids: Vec<_> = all.iter().map(|entry| entry.id).collect();
                self.inner.mark_published(&ids).await?;
            }
            _ => {}
        }
        self.inner.forget(conversation, cut, limit).await
    }

    async fn import(
        &self,
        conversation: &ConversationId,
        mut batch: Vec<Imported>,
    ) -> Result<u64, StoreError> {
        let last = self.inner.position(conversation).await?.last_seq;
        match self.fault {
            Fault::ForgetsOriginalsOfImports => {
                batch.iter_mut().for_each(|one| one.original = None);
            }
            Fault::RenumbersImports => {
                for (one, seq) in batch.iter_mut().zip(last + 1..) {
                    one.message.seq = seq;
                }
            }
            Fault::ImportsOverOthers => batch.retain(|one| one.message.seq > last),
            _ => {}
        }
        self.inner.import(conversation, batch).await
    }

    async fn health(&self) -> Result<(), StoreError> {
        self.inner.health().await
    }
}

struct Breaking {
    fault: Fault,
    clock: Clock,
}

#[async_trait]
impl Harness<dyn MessageStore> for Breaking {
    async fn create(&mut self, clock: Clock) -> Arc<dyn MessageStore> {
        self.clock = clock.clone();
        Broken::of(MemoryStore::new().with_clock(clock.clone()), clock, self.fault)
    }

    async fn restart(&mut self, store: Arc<dyn MessageStore>) -> Option<Arc<dyn MessageStore>> {
        let next = MemoryStore::new().with_clock(self.clock.clone());
        match self.fault {
            Fault::LosesOnCrash => {}
            Fault::LosesKeysOnCrash => {
                let id = ConversationId::new("group:a").unwrap();
                for message in store.history(&id, Page::after(0, 100)).await.unwrap() {
                    next.append(vec![NewMessage::new(id.clone(), message.sender, message.body)])
                        .await;
                }
            }
            // The fault is elsewhere: the same store goes on.
            _ => return Some(store),
        }
        Some(Broken::of(next, self.clock.clone(), self.fault))
    }
}

/// Each broken store is caught by the check that is named after what it breaks.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_suite_catches_broken_stores_by_name() {
    let cases = [
        (Fault::LosesOnCrash, "what_was_answered_survives_a_restart"),
        (Fault::LosesKeysOnCrash, "a_key_is_remembered_over_a_restart"),
        (Fault::LeavesGaps, "seqs_start_at_one_and_have_no_gaps"),
        (Fault::NumbersOutsideTheLock, "concurrent_appends_leave_no_gaps_and_no_doubles"),
        (Fault::DoesNotDedupe, "a_repeated_key_gives_the_first_answer_and_no_second_message"),
        (Fault::DoesNotDedupe, "concurrent_uses_of_a_key_store_one_message"),
        (Fault::DedupesAcrossSenders, "the_same_key_of_another_sender_is_another_key"),
        (Fault::NeverForgetsKeys, "a_key_is_forgotten_after_24_hours"),
        (Fault::MovesMarkersBack, "markers_move_forward_only"),
        (Fault::ForgetsTheOutbox, "the_outbox_keeps_the_order_of_storing"),
        (Fault::ReordersTheOutbox, "the_outbox_keeps_the_order_of_storing"),
        (
            Fault::PutsNothingOut,
            "a_repeated_key_says_whether_the_first_message_waits_in_the_outbox",
        ),
        (Fault::FailsTheWholeBatch, "a_refused_message_leaves_the_rest_of_its_batch_alone"),
        (Fault::IgnoresBefore, "history_gives_the_page_that_was_asked_for"),
        (Fault::DropsHeaders, "a_message_is_kept_as_it_was_given"),
        (Fault::CountsOwnMessages, "unread_counts_what_others_said_after_the_marker"),
        (Fault::EditsOverTheOriginal, "an_edit_shows_its_body_and_the_original_is_kept"),
        (Fault::KeepsWhatWasRecalled, "a_recall_leaves_nothing_of_what_was_said"),
        (Fault::KeepsWhatWasRecalled, "what_is_recalled_or_has_expired_is_not_unread"),
        (Fault::LetsEverybodyEdit, "only_what_may_be_changed_is_changed"),
        (Fault::NeverTooLate, "only_what_may_be_changed_is_changed"),
        (Fault::PilesUpReactions, "a_user_has_one_reaction_to_a_message"),
        (Fault::IgnoresExpiry, "what_is_recalled_or_has_expired_is_not_unread"),
        (Fault::ShowsEverybodysConversations, "conversations_are_those_of_the_user_latest_first"),
        (Fault::ListsTheSamePage, "conversations_come_in_pages"),
        (Fault::ForgetsTooMuch, "the_oldest_are_forgotten_as_far_as_the_cut_goes"),
        (Fault::ForgetsWhatWaits, "what_waits_in_the_outbox_is_not_forgotten"),
        (Fault::SurveysTheSamePage, "survey_says_what_there_is_page_by_page"),
        (Fault::CountsWhatIsForgotten, "what_is_forgotten_is_not_unread"),
        (Fault::FindsOthersMessages, "search_looks_only_where_it_is_told"),
        (Fault::IgnoresTheStartOfAScope, "search_looks_only_where_it_is_told"),
        (Fault::IgnoresTheLimitOfASearch, "search_gives_the_newest_first_page_by_page"),
        (Fault::IgnoresTheCursorOfASearch, "search_gives_the_newest_first_page_by_page"),
        (Fault::FindsTheOldestFirst, "search_gives_the_newest_first_page_by_page"),
        (Fault::FindsNoChinese, "search_finds_parts_of_texts_without_spaces"),
        (Fault::IgnoresThePolicy, "of_metadata_only_no_content_is_stored"),
        (Fault::IgnoresThePolicy, "what_is_not_stored_has_a_number_only"),
        (Fault::IgnoresThePolicy, "changes_follow_what_is_stored_of_them"),
        (Fault::KeepsTheNameless, "what_is_not_stored_has_a_number_only"),
        (Fault::PublishesWhatItStored, "the_outbox_has_all_of_what_is_not_stored"),
        (Fault::HidesGaps, "position_tells_the_last_gap"),
        (Fault::ForgetsOriginalsOfImports, "what_is_imported_is_as_it_was"),
        (Fault::RenumbersImports, "what_is_imported_is_as_it_was"),
        (Fault::ImportsOverOthers, "an_import_over_other_messages_is_refused"),
        (Fault::FindsInWhatIsNoText, "search_finds_texts_of_plain_messages_only"),
    ];
    for (fault, name) in cases {
        let check = message_store_checks().into_iter().find(|check| check.name() == name).unwrap();
        let mut harness = Breaking { fault, clock: Clock::system() };
        let caught = check.run(&mut harness).await;
        assert!(caught.is_err(), "{fault:?} passes {name}");
    }
}
