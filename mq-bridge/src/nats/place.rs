//! The queues and durable subscriptions that a session consumes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::{Mutex as AsyncMutex, Notify};

use crate::local::lock;

use super::consumer::Consumer;
use super::plan::Address;

/// All of a session, by what they consume and by their inboxes.
#[derive(Default)]
pub(super) struct Places {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// With the number of those who use it.
    places: HashMap<String, (Arc<Place>, usize)>,
    consumers: HashMap<u64, Arc<Consumer>>,
}

/// A queue or durable subscription that is consumed here.
pub(super) struct Place {
    pub(super) address: Address,
    /// Held while a consumer comes or goes.
    pub(super) state: AsyncMutex<PlaceState>,
}

#[derive(Default)]
pub(super) struct PlaceState {
    pub(super) consumers: Vec<Arc<Consumer>>,
    /// Tells the one that listens to takeovers that nobody is here any more.
    pub(super) listening: Option<Arc<Notify>>,
}

impl Places {
    /// A place, which stays until [`leave`](Self::leave).
    pub(super) fn enter(&self, address: &Address) -> Arc<Place> {
        let mut table = lock(&self.table);
        let (place, users) = table.places.entry(address.token.clone()).or_insert_with(|| {
            let place = Place { address: address.clone(), state: AsyncMutex::default() };
            (Arc::new(place), 0)
        });
        *users += 1;
        Arc::clone(place)
    }

    pub(super) fn leave(&self, address: &Address) {
        let mut table = lock(&self.table);
        if let Some((_, users)) = table.places.get_mut(&address.token) {
            *users -= 1;
            if *users == 0 {
                table.places.remove(&address.token);
            }
        }
    }

    pub(super) fn insert(&self, consumer: &Arc<Consumer>) {
        lock(&self.table).consumers.insert(consumer.inbox.id, Arc::clone(consumer));
    }

    /// The consumer of an inbox.
    pub(super) fn consumer(&self, inbox: u64) -> Option<Arc<Consumer>> {
        lock(&self.table).consumers.get(&inbox).cloned()
    }

    /// Takes the consumer of an inbox out; its place is to be left then.
    pub(super) fn remove(&self, inbox: u64) -> Option<Arc<Consumer>> {
        lock(&self.table).consumers.remove(&inbox)
    }

    pub(super) fn consumers(&self) -> Vec<Arc<Consumer>> {
        lock(&self.table).consumers.values().cloned().collect()
    }

    /// Those that consume the source with this token.
    pub(super) fn consumers_of(&self, token: &str) -> Vec<Arc<Consumer>> {
        let table = lock(&self.table);
        if !table.places.contains_key(token) {
            return Vec::new();
        }
        table.consumers.values().filter(|one| one.address.token == token).cloned().collect()
    }
}
