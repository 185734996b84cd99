use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::AuthError;
use crate::clock::Clock;

/// How many accounts, and as many addresses, are told apart; those that share a slot are slowed down together
const SLOTS: usize = 16 * 1024;

/// How wrong attempts add up: so many at once, then one in every step
#[derive(Clone, Copy)]
struct Rate {
    burst: u64,
    step_millis: u64,
}

/// A person mistypes; nobody mistypes ten times in a row
const PER_ACCOUNT: Rate = Rate { burst: 10, step_millis: 5000 };

/// Many people may come from one address
const PER_ADDRESS: Rate = Rate { burst: 100, step_millis: 500 };

/// Slows down the guessing of passwords, per account and per address
///
/// Ten wrong attempts on an account may come at once, then one in five seconds; from one address (from one /64 of IPv6) a
/// hundred, then two in a second. Right attempts cost nothing. Who is too fast is refused without a look at the
/// password, so nobody learns from the answer whether a guess was right.
///
/// The memory it takes is fixed (256 KiB).
pub struct AttemptLimiter {
    tables: Mutex<Tables>,
    hashing: RandomState,
    clock: Clock,
}

struct Tables {
    accounts: Box<[u64]>,
    addresses: Box<[u64]>,
}

/// When the debt of a slot is paid, in milliseconds since 1970
fn charge(slot: &mut u64, rate: Rate, now: u64) -> Result<(), Duration> {
    let most = rate.burst * rate.step_millis;
    // Were the clock set back, the debt would grow.
    let debt = slot.saturating_sub(now).min(most);
    if debt + rate.step_millis > most {
        return Err(Duration::from_millis(debt + rate.step_millis - most));
    }
    *slot = now.saturating_add(debt + rate.step_millis);
    Ok(())
}

impl AttemptLimiter {
    /// A limiter that has seen nobody yet
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let tables = Tables {
            accounts: vec![0; SLOTS].into_boxed_slice(),
            addresses: vec![0; SLOTS].into_boxed_slice(),
        };
        Self { tables: Mutex::new(tables), hashing: RandomState::new(), clock }
    }

    /// Counts an attempt as wrong until it is [forgiven](Attempt::forgive); one without an account, by its address alone
    ///
    /// # Errors
    ///
    /// [`AuthError::Throttled`] where there were too many: then the password must not be looked at.
    pub(crate) fn begin(
        &self,
        account: Option<&str>,
        address: Option<IpAddr>,
    ) -> Result<Attempt<'_>, AuthError> {
        let account = account.map(|account| self.slot(account.as_bytes()));
        let address = address.map(|address| self.slot(&network(address)));
        let now = self.clock.now_millis();
        let throttled = |retry_after| AuthError::Throttled { retry_after };
        let mut tables = self.tables();
        if let Some(slot) = address.and_then(|slot| tables.addresses.get_mut(slot)) {
            charge(slot, PER_ADDRESS, now).map_err(throttled)?;
        }
        if let Some(slot) = account.and_then(|slot| tables.accounts.get_mut(slot)) {
            charge(slot, PER_ACCOUNT, now).map_err(throttled)?;
        }
        Ok(Attempt { limiter: self, account, address })
    }

    #[allow(clippy::cast_possible_truncation, reason = "any part of the hash will do")]
    fn slot(&self, of: &[u8]) -> usize {
        self.hashing.hash_one(of) as usize % SLOTS
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one customer of a provider has: an address of IPv4, 64 bits of IPv6
pub(crate) fn network(address: IpAddr) -> [u8; 8] {
    let octets = match address.to_canonical() {
        IpAddr::V4(address) => Ipv6Addr::from_bits(u128::from(address.to_bits()) << 64).octets(),
        IpAddr::V6(address) => address.octets(),
    };
    let mut network = [0; 8];
    network.copy_from_slice(octets.split_at(8).0);
    network
}

impl fmt::Debug for AttemptLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttemptLimiter").finish_non_exhaustive()
    }
}

/// An attempt that counts as wrong
pub(crate) struct Attempt<'a> {
    limiter: &'a AttemptLimiter,
    account: Option<usize>,
    address: Option<usize>,
}

impl Attempt<'_> {
    /// It was right, or could not be checked
    pub(crate) fn forgive(self) {
        let mut tables = self.limiter.tables();
        if let Some(slot) = self.account.and_then(|slot| tables.accounts.get_mut(slot)) {
            *slot = slot.saturating_sub(PER_ACCOUNT.step_millis);
        }
        if let Some(slot) = self.address.and_then(|slot| tables.addresses.get_mut(slot)) {
            *slot = slot.saturating_sub(PER_ADDRESS.step_millis);
        }
    }
}
