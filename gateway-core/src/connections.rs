//! How many connections there may be, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use crate::auth::network;
use crate::lock::lock;
use crate::metrics::Counter;

/// How many connections a gateway takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionLimits {
    /// In all; 0 for as many as come.
    pub total: usize,
    /// From one address, which of IPv6 is a /64; 0 for as many as come.
    pub per_address: usize,
}

impl ConnectionLimits {
    /// A hundred thousand in all, and as many of them from one address: it may be that of a proxy.
    pub const DEFAULT: Self = Self { total: 100_000, per_address: 0 };

    /// So many in all, and from one address; 0 for as many as come.
    #[must_use]
    pub const fn new(total: usize, per_address: usize) -> Self {
        Self { total, per_address }
    }
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Why a connection was not taken: there are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionRefused {
    /// In all.
    #[error("too many connections to this server; try again later")]
    Total,
    /// From one address.
    #[error("too many connections from your address")]
    Address,
}

/// The place that one connection takes among those that there may be; free again once all clones are dropped.
#[derive(Clone, Debug)]
#[must_use = "the place is free again when this is dropped"]
pub struct Admission(#[allow(dead_code, reason = "held, to be dropped")] Arc<Place>);

#[derive(Debug)]
struct Place {
    network: Option<[u8; 8]>,
    table: Arc<Connections>,
}

/// The connections that there are.
#[derive(Debug)]
pub(crate) struct Connections {
    limits: ConnectionLimits,
    taken: Mutex<Taken>,
    /// How many were refused, by why.
    pub(crate) over_total: Counter,
    pub(crate) over_address: Counter,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    /// Kept only where there is a limit for them.
    by_network: HashMap<[u8; 8], usize>,
}

impl Connections {
    pub(crate) fn new(limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            taken: Mutex::default(),
            over_total: Counter::default(),
            over_address: Counter::default(),
        })
    }

    /// Takes a place, and counts who gets none. Where the address is not known, only all are counted.
    pub(crate) fn admit(
        self: &Arc<Self>,
        address: Option<IpAddr>,
    ) -> Result<Admission, ConnectionRefused> {
        let ConnectionLimits { total, per_address } = self.limits;
        let network = address.filter(|_| per_address > 0).map(network);
        let mut taken = lock(&self.taken);
        if total > 0 && taken.total >= total {
            self.over_total.add(1);
            return Err(ConnectionRefused::Total);
        }
        if let Some(network) = network {
            let from_there = taken.by_network.entry(network).or_default();
            // An entry that is new holds none, and the limit is at least one.
            if *from_there >= per_address {
                self.over_address.add(1);
                return Err(ConnectionRefused::Address);
            }
            *from_there += 1;
        }
        taken.total += 1;
        drop(taken);
        Ok(Admission(Arc::new(Place { network, table: Arc::clone(self) })))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.table.taken);
        taken.total -= 1;
        if let Some(network) = self.network
            && let Some(count) = taken.by_network.get_mut(&network)
        {
            *count -= 1;
            if *count == 0 {
                taken.by_network.remove(&network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn places_are_counted_by_network_and_in_all_and_given_back() {
        let table = Connections::new(ConnectionLimits::new(3, 2));
        let first = table.admit(address("2001:db8::1")).unwrap();
        let second = table.admit(address("2001:db8::2")).unwrap();
        let refused = table.admit(address("2001:db8::3")).unwrap_err();
        assert_eq!(refused, ConnectionRefused::Address);
        let other = table.admit(address("192.0.2.1")).unwrap();
        assert_eq!(table.admit(None).unwrap_err(), ConnectionRefused::Total);
        assert_eq!((table.over_total.get(), table.over_address.get()), (1, 1));

        let clone = first.clone();
        drop(first);
        assert!(table.admit(address("192.0.2.2")).is_err(), "a clone holds the place");
        drop((clone, second, other));
        assert_eq!(lock(&table.taken).total, 0);
        assert!(lock(&table.taken).by_network.is_empty(), "nothing is kept of who has left");
    }

    #[test]
    fn without_limits_all_are_taken_and_no_address_is_kept() {
        let table = Connections::new(ConnectionLimits::new(0, 0));
        let all: Vec<_> = (0..100).map(|_| table.admit(address("192.0.2.1")).unwrap()).collect();
        assert!(lock(&table.taken).by_network.is_empty());
        assert_eq!(lock(&table.taken).total, all.len());
    }
}
