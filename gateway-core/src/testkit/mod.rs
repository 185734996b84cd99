//! Conformance suites for [`MessageStore`](crate::MessageStore) and [`Directory`](crate::Directory) backends.
//!
//! A backend passes when every check of its suite passes. One macro per suite makes a test of each check:
//!
//! ```ignore
//! gateway_core::message_store_tests!(MyHarness::new());
//! gateway_core::directory_tests!(MyHarness::new());
//! gateway_core::blob_store_tests!(MyHarness::new());
//! ```
//!
//! The macros need `tokio` with the features `macros` and `rt-multi-thread` in the crate that uses them.

mod blob;
mod changes;
mod directory;
mod import;
mod keep;
mod message_store;
mod retention;
mod search;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;

use crate::clock::Clock;
use crate::names::{ConversationId, GroupName, UserName};

pub use blob::blob_store_checks;
pub use directory::directory_checks;
pub use message_store::message_store_checks;

/// How the kit gets at a backend; `S` is `dyn MessageStore`, `dyn Directory` or `dyn BlobStore`
#[async_trait]
pub trait Harness<S: ?Sized + Send + Sync + 'static>: Send {
    /// A new backend with nothing in it, which takes the time from `clock`
    ///
    /// It is used after the harness is asked for another.
    async fn create(&mut self, clock: Clock) -> Arc<S>;

    /// The backend as it is after its process was killed and started again, with the same clock
    ///
    /// `None` for a backend that promises to keep nothing: what must survive is then not checked.
    async fn restart(&mut self, backend: Arc<S>) -> Option<Arc<S>>;
}

/// A promise that a backend does not keep
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Failure {
    /// The name of the check
    pub check: &'static str,
    /// What it found
    pub found: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check, self.found)
    }
}

impl std::error::Error for Failure {}

/// One check of a suite
pub struct Check<S: ?Sized + Send + Sync + 'static> {
    name: &'static str,
    run: for<'a> fn(&'a mut dyn Harness<S>) -> BoxFuture<'a, Result<(), String>>,
}

impl<S: ?Sized + Send + Sync + 'static> Check<S> {
    /// The name of the check, which says what is promised
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Runs the check on new backends of `harness`
    ///
    /// # Errors
    ///
    /// [`Failure`] where the backend does not do what the name of the check says.
    pub async fn run(&self, harness: &mut dyn Harness<S>) -> Result<(), Failure> {
        (self.run)(harness).await.map_err(|found| Failure { check: self.name, found })
    }
}

impl<S: ?Sized + Send + Sync + 'static> fmt::Debug for Check<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Check").field(&self.name).finish()
    }
}

/// Fails the check unless two values are equal
macro_rules! same {
    ($found:expr, $wanted:expr, $($what:tt)+) => {
        match (&$found, &$wanted) {
            (found, wanted) => {
                if found != wanted {
                    let what = format_args!($($what)+);
                    return Err(format!("{what}: found {found:?}, wanted {wanted:?}"));
                }
            }
        }
    };
}

/// Fails the check unless the condition holds
macro_rules! holds {
    ($condition:expr, $($what:tt)+) => {
        if !$condition {
            return Err(format!($($what)+));
        }
    };
}

/// The checks of a suite as a table
macro_rules! table {
    ([] $($name:ident)*) => {
        vec![$(Check { name: stringify!($name), run: |harness| Box::pin($name(harness)) }),*]
    };
}

pub(crate) use {holds, same, table};

#[doc(hidden)]
#[macro_export]
macro_rules! __checks_as_tests {
    ([$attributes:tt, $checks:path, $harness:expr] $($name:ident)*) => {
        $($crate::__check_as_test! { $attributes, $checks, $harness, $name })*
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __check_as_test {
    ([$($attribute:tt)*], $checks:path, $harness:expr, $name:ident) => {
        $($attribute)*
        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn $name() -> Result<(), $crate::testkit::Failure> {
            let mut harness = $harness;
            for check in $checks() {
                if check.name() == stringify!($name) {
                    check.run(&mut harness).await?;
                }
            }
            Ok(())
        }
    };
}

/// Makes a test of each check of the suite for message stores; the argument makes a [`testkit::Harness`]
///
/// `message_store_tests!(ignore = "needs a server", harness)` marks the tests as ignored.
///
/// [`testkit::Harness`]: crate::testkit::Harness
#[macro_export]
macro_rules! message_store_tests {
    (ignore = $needs:literal, $harness:expr) => {
        $crate::__message_store_checks! {
            [$crate::__checks_as_tests]
            [[#[ignore = $needs]], $crate::testkit::message_store_checks, $harness]
        }
    };
    ($harness:expr) => {
        $crate::__message_store_checks! {
            [$crate::__checks_as_tests] [[], $crate::testkit::message_store_checks, $harness]
        }
    };
}

/// Makes a test of each check of the suite for directories; the argument makes a [`testkit::Harness`]
///
/// `directory_tests!(ignore = "needs a server", harness)` marks the tests as ignored.
///
/// [`testkit::Harness`]: crate::testkit::Harness
#[macro_export]
macro_rules! directory_tests {
    (ignore = $needs:literal, $harness:expr) => {
        $crate::__directory_checks! {
            [$crate::__checks_as_tests]
            [[#[ignore = $needs]], $crate::testkit::directory_checks, $harness]
        }
    };
    ($harness:expr) => {
        $crate::__directory_checks! {
            [$crate::__checks_as_tests] [[], $crate::testkit::directory_checks, $harness]
        }
    };
}

/// Makes a test of each check of the suite for stores of attachments; the argument makes a [`testkit::Harness`]
///
/// [`testkit::Harness`]: crate::testkit::Harness
#[macro_export]
macro_rules! blob_store_tests {
    ($harness:expr) => {
        $crate::__blob_store_checks! {
            [$crate::__checks_as_tests] [[], $crate::testkit::blob_store_checks, $harness]
        }
    };
}

/// When the clocks of the checks start: 2026-01-01
const START: u64 = 1_767_225_600_000;

fn clock() -> Clock {
    Clock::manual(START)
}

fn text(error: impl fmt::Display) -> String {
    error.to_string()
}

fn user(name: &str) -> Result<UserName, String> {
    UserName::new(name).map_err(text)
}

fn group(name: &str) -> Result<GroupName, String> {
    GroupName::new(name).map_err(text)
}

fn conversation(name: &str) -> Result<ConversationId, String> {
    ConversationId::new(name).map_err(text)
}
