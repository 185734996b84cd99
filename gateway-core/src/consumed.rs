//! The queues and durable subscriptions that sessions of this node consume: a broker does not list what it has.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::lock::lock;

/// Their names in the broker, and by how many subscriptions each is consumed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Consumed(Arc<Mutex<BTreeMap<String, usize>>>);

/// A consumer; dropping it leaves.
#[derive(Debug)]
pub(crate) struct Place {
    name: String,
    table: Consumed,
}

impl Consumed {
    pub(crate) fn enter(&self, name: &str) -> Place {
        *lock(&self.0).entry(name.to_owned()).or_default() += 1;
        Place { name: name.to_owned(), table: self.clone() }
    }

    /// All names, in order.
    #[cfg_attr(not(feature = "rest"), allow(dead_code, reason = "only REST shows it"))]
    pub(crate) fn names(&self) -> Vec<String> {
        lock(&self.0).keys().cloned().collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = lock(&self.table.0);
        if let Some(count) = table.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                table.remove(&self.name);
            }
        }
    }
}
