//! Unread counts against a model, over random orders of what happens.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use gateway_core::{
    Clock, ConversationId, Destination, Gateway, GroupName, MemoryDirectory, MemoryStore,
    MessageId, SendRequest, Sent, UserName,
};
use proptest::prelude::*;

const START: u64 = 1_767_225_600_000;
const PEOPLE: [&str; 3] = ["alice", "bob", "carol"];

/// What happens; numbers choose among what there is.
#[derive(Clone, Debug)]
enum Event {
    Say { who: usize, group: bool },
    SayForAWhile { who: usize, group: bool },
    React { who: usize, to: usize },
    Recall { of: usize },
    Read { who: usize, group: bool, up_to: u64 },
    Join,
    Leave,
    Wait,
}

fn event() -> impl Strategy<Value = Event> {
    let who = 0..PEOPLE.len();
    prop_oneof![
        4 => (who.clone(), any::<bool>()).prop_map(|(who, group)| Event::Say { who, group }),
        1 => (who.clone(), any::<bool>()).prop_map(|(who, group)| Event::SayForAWhile { who, group }),
        1 => (who.clone(), 0..40_usize).prop_map(|(who, to)| Event::React { who, to }),
        2 => (0..40_usize).prop_map(|of| Event::Recall { of }),
        3 => (who, any::<bool>(), 0..30_u64)
            .prop_map(|(who, group, up_to)| Event::Read { who, group, up_to }),
        1 => Just(Event::Join),
        1 => Just(Event::Leave),
        1 => Just(Event::Wait),
    ]
}

/// A message of the model; what does not count is there for its number.
#[derive(Clone, Debug)]
struct Said {
    by: usize,
    counts: bool,
    until: u64,
    id: Option<MessageId>,
}

/// The group is the first conversation, that of alice and bob the second.
#[derive(Default)]
struct Model {
    said: [Vec<Said>; 2],
    read: [[u64; 3]; 2],
    carol_is_in: bool,
}

impl Model {
    fn add(&mut self, group: bool, said: Said) {
        let conversation = usize::from(!group);
        let by = said.by;
        self.said[conversation].push(said);
        self.read[conversation][by] = self.said[conversation].len() as u64;
    }

    fn plain(by: usize) -> Said {
        Said { by, counts: false, until: u64::MAX, id: None }
    }

    fn is_in(&self, who: usize, group: bool) -> bool {
        who < 2 || group && self.carol_is_in
    }

    fn unread(&self, who: usize, group: bool, now: u64) -> u64 {
        let conversation = usize::from(!group);
        let read = self.read[conversation][who];
        let new = self.said[conversation].iter().skip(read as usize);
        new.filter(|said| said.counts && said.until > now).count() as u64
    }

    /// The messages of both conversations that can be recalled.
    fn recallable(&self) -> Vec<(bool, usize)> {
        let of = |group: bool| {
            let said = self.said[usize::from(!group)].iter().enumerate();
            said.filter(|(_, said)| said.counts && said.id.is_some())
                .map(move |(at, _)| (group, at))
        };
        of(true).chain(of(false)).collect()
    }
}

struct World {
    gateway: Gateway,
    clock: Clock,
    people: [UserName; 3],
    model: Model,
}

fn id(group: bool) -> ConversationId {
    ConversationId::new(if group { "group:ops" } else { "direct:alice:bob" }).unwrap()
}

impl World {
    fn to(&self, who: usize, group: bool) -> Destination {
        let peer = ["bob", "alice"];
        let text = if group { "/group/ops".to_owned() } else { format!("/user/{}", peer[who]) };
        Destination::parse(&text).unwrap()
    }

    async fn send(&self, request: SendRequest) -> MessageId {
        match self.gateway.send(request).await.unwrap() {
            Sent::Stored(receipt) => receipt.message_id,
            other => panic!("{other:?}"),
        }
    }

    async fn say(&mut self, who: usize, group: bool, until: u64) {
        if !self.model.is_in(who, group) {
            return;
        }
        let request = SendRequest::new(self.people[who].clone(), self.to(who, group), "x");
        let request = request.with_header("expires", &until.to_string()).unwrap();
        let sent = self.send(request).await;
        self.model.add(group, Said { by: who, counts: true, until, id: Some(sent) });
    }

    async fn change(&mut self, who: usize, group: bool, at: usize, kind: &str, body: &'static str) {
        let target = self.model.said[usize::from(!group)][at].id.unwrap();
        let request = SendRequest::new(self.people[who].clone(), self.to(who, group), body);
        let request = request.with_kind(kind, None).unwrap();
        let request = request.with_header("in-reply-to", &target.to_string()).unwrap();
        self.send(request).await;
        self.model.add(group, Model::plain(who));
    }

    async fn apply(&mut self, event: &Event) {
        let now = self.clock.now_millis();
        let ops = GroupName::new("ops").unwrap();
        match *event {
            Event::Say { who, group } => self.say(who, group, now + 1_000_000_000).await,
            Event::SayForAWhile { who, group } => self.say(who, group, now + 1000).await,
            Event::React { who, to } => {
                let all = self.model.recallable();
                let Some((group, at)) = all.get(to % all.len().max(1)).copied() else { return };
                if self.model.is_in(who, group) {
                    self.change(who, group, at, "reaction", "+").await;
                }
            }
            Event::Recall { of } => {
                let all = self.model.recallable();
                let Some((group, at)) = all.get(of % all.len().max(1)).copied() else { return };
                // Alice owns the group; of the others' direct messages each is its author's.
                let by = self.model.said[usize::from(!group)][at].by;
                self.change(if group { 0 } else { by }, group, at, "recall", "").await;
                self.model.said[usize::from(!group)][at].counts = false;
            }
            Event::Read { who, group, up_to } => {
                if !self.model.is_in(who, group) {
                    return;
                }
                let request = SendRequest::new(self.people[who].clone(), self.to(who, group), "");
                let request = request.with_kind("read", Some(&up_to.to_string())).unwrap();
                self.gateway.send(request).await.unwrap();
                let conversation = usize::from(!group);
                let last = self.model.said[conversation].len() as u64;
                let read = &mut self.model.read[conversation][who];
                *read = (*read).max(up_to.min(last));
            }
            Event::Join if !self.model.carol_is_in => {
                self.gateway.add_member(&self.people[0], &ops, &self.people[2]).await.unwrap();
                self.model.read[0][2] = self.model.said[0].len() as u64;
                self.model.carol_is_in = true;
                self.model.add(true, Model::plain(0));
            }
            Event::Leave if self.model.carol_is_in => {
                self.gateway.remove_member(&self.people[2], &ops, &self.people[2]).await.unwrap();
                self.model.carol_is_in = false;
                self.model.add(true, Model::plain(2));
            }
            Event::Wait => self.clock.advance(Duration::from_millis(700)),
            _ => {}
        }
    }

    async fn check(&self) -> Result<(), TestCaseError> {
        let now = self.clock.now_millis();
        for (who, name) in self.people.iter().enumerate() {
            let list = self.gateway.conversations(name, None, 10).await.unwrap();
            for group in [true, false] {
                let line = list.iter().find(|line| line.conversation == id(group));
                let found = line.map_or(0, |line| line.unread);
                let wanted = if self.model.is_in(who, group) {
                    self.model.unread(who, group, now)
                } else {
                    0
                };
                prop_assert_eq!(found, wanted, "unread of {} in {}", name, id(group));
            }
        }
        Ok(())
    }
}

async fn run(mut world: World, events: &[Event]) -> Result<(), TestCaseError> {
    // The group's creation is its first message.
    world.model.add(true, Model::plain(0));
    for event in events {
        world.apply(event).await;
        world.check().await?;
    }
    world.gateway.shutdown().await;
    Ok(())
}

fn in_runtime<F: Future<Output = Result<(), TestCaseError>>>(test: F) -> Result<(), TestCaseError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

async fn world(clock: Clock, builder: gateway_core::GatewayBuilder) -> World {
    let gateway = populated(builder.clock(clock.clone())).await;
    World { gateway, clock, people: PEOPLE.map(user), model: Model::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn unread_is_right_after_any_order_of_events(events in prop::collection::vec(event(), 1..40)) {
        in_runtime(async {
            let clock = Clock::manual(START);
            let store = Arc::new(MemoryStore::new().with_clock(clock.clone()));
            let directory = Arc::new(MemoryDirectory::new().with_clock(clock.clone()));
            let builder = builder().store(store).directory(directory);
            run(world(clock, builder).await, &events).await
        })?;
    }
}

#[cfg(feature = "sqlite")]
proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn unread_is_right_after_any_order_of_events_in_sqlite(
        events in prop::collection::vec(event(), 1..40),
    ) {
        in_runtime(async {
            let folder = tempfile::tempdir().unwrap();
            let clock = Clock::manual(START);
            let options = gateway_core::SqliteOptions::new(folder.path().join("im.db"));
            let store = Arc::new(options.with_clock(clock.clone()).open().unwrap());
            let builder = builder().store(store.clone()).directory(store);
            run(world(clock, builder).await, &events).await
        })?;
    }
}
