//! The queues and durable subscriptions that sessions of this node consume: a broker does not list what it has.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use mq_bridge::Delivery;

use crate::lock::lock;
use crate::metrics::Counter;

/// Their names in the broker, and what is known of each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Consumed(Arc<Mutex<BTreeMap<String, Consumers>>>);

#[derive(Debug, Default)]
struct Consumers {
    count: usize,
    taken: Arc<Counter>,
}

/// A consumer; dropping it leaves.
#[derive(Debug)]
pub(crate) struct Place {
    name: String,
    table: Consumed,
    taken: Arc<Counter>,
}

impl Place {
    /// Counts what the consumer was given.
    pub(crate) fn took(&self, batch: &[Delivery]) {
        self.taken.add(batch.len() as u64);
    }
}

impl Consumed {
    pub(crate) fn enter(&self, name: &str) -> Place {
        let mut table = lock(&self.0);
        let consumers = table.entry(name.to_owned()).or_default();
        consumers.count += 1;
        let taken = Arc::clone(&consumers.taken);
        Place { name: name.to_owned(), table: self.clone(), taken }
    }

    /// All names, in order.
    #[cfg_attr(not(feature = "rest"), allow(dead_code, reason = "only REST shows it"))]
    pub(crate) fn names(&self) -> Vec<String> {
        lock(&self.0).keys().cloned().collect()
    }

    /// How many messages its consumers were given since there is one.
    #[cfg_attr(not(feature = "rest"), allow(dead_code, reason = "only REST shows it"))]
    pub(crate) fn taken(&self, name: &str) -> u64 {
        lock(&self.0).get(name).map_or(0, |consumers| consumers.taken.get())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = lock(&self.table.0);
        if let Some(consumers) = table.get_mut(&self.name) {
            consumers.count -= 1;
            if consumers.count == 0 {
                table.remove(&self.name);
            }
        }
    }
}
