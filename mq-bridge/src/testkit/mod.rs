//! The conformance kit: one suite that every backend passes
//!
//! A backend runs it on itself with one macro and a [`Harness`] that can stop, kill and start the
//! broker:
//!
//! ```no_run
//! # use std::sync::Arc;
//! use mq_bridge::testkit::{self, Harness};
//! use mq_bridge::{Broker, Memory};
//!
//! struct MemoryHarness(Arc<Memory>);
//!
//! #[async_trait::async_trait]
//! impl Harness for MemoryHarness {
//!     fn broker(&self) -> Arc<dyn Broker> {
//!         Arc::<Memory>::clone(&self.0)
//!     }
//!     async fn stop(&mut self) {
//!         self.0.shutdown().await;
//!     }
//!     async fn kill(&mut self) {}
//!     async fn start(&mut self) {
//!         self.0 = Arc::default();
//!     }
//! }
//!
//! mod conformance {
//! #   use super::*;
//!     mq_bridge::testkit::suite!(async { super::MemoryHarness(Arc::default()) });
//! }
//! ```
//!
//! Every case of [`CASES`] becomes a test of its own name. Each starts from a fresh harness. The
//! cases check what the backend [declares](crate::Broker::capabilities): what it declares must
//! work, and what it does not declare must be absent.
//!
//! Where the broker is a server that may not be installed, the cases are ignored unless asked for,
//! and only so many of them run at once as the machine can bear:
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use mq_bridge::{Broker, testkit::Harness};
//! # struct RabbitMq;
//! # impl RabbitMq { async fn start() -> Self { Self } }
//! # #[async_trait::async_trait]
//! # impl Harness for RabbitMq {
//! #     fn broker(&self) -> Arc<dyn Broker> { unimplemented!() }
//! #     async fn stop(&mut self) {}
//! #     async fn kill(&mut self) {}
//! #     async fn start(&mut self) {}
//! # }
//! mod conformance {
//! #   use super::*;
//!     mq_bridge::testkit::suite!(ignore = "needs rabbitmq-server", at_once = 2, RabbitMq::start());
//! }
//! ```

mod cases;
mod gate;
mod harness;
mod load;
mod node;
mod proof;
#[cfg(feature = "servers")]
mod server_harness;
#[cfg(feature = "servers")]
pub mod servers;
mod steps;
#[cfg(feature = "storage")]
mod storage_harness;
mod watch;

use std::fmt;
use std::future::Future;
use std::pin::pin;

use futures::future::{BoxFuture, Either, select};

use crate::BrokerError;

pub use crate::__testkit_suite as suite;
pub use gate::Gate;
pub use harness::Harness;
pub use proof::{proofs, prove};
#[cfg(feature = "servers")]
pub use server_harness::ServerHarness;
#[cfg(feature = "storage")]
pub use storage_harness::StorageHarness;

/// What a case found
pub type Outcome = Result<(), Failure>;

/// Why a backend does not conform
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// What was expected and what happened instead.
    pub message: String,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<BrokerError> for Failure {
    fn from(error: BrokerError) -> Self {
        Self::new(format!("the broker refused: {error}"))
    }
}

/// One case of the suite
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Case {
    /// Its name, which says what it checks.
    pub name: &'static str,
    run: for<'a> fn(&'a mut dyn Harness) -> BoxFuture<'a, Outcome>,
}

impl Case {
    /// Checks a backend.
    ///
    /// # Errors
    ///
    /// [`Failure`] says what was expected and what happened instead.
    pub async fn check(&self, harness: &mut dyn Harness) -> Outcome {
        let spent = watch::Spent::default();
        let mut watched = watch::Watched { inner: harness, spent: spent.clone() };
        let times = steps::Times::new(watched.inner);
        let case = steps::TIMES.scope(times, (self.run)(&mut watched));
        match select(pin!(case), pin!(spent.deadline())).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right(_) => Err(Failure::new("it did not come to an end")),
        }
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Case").field(&self.name).finish()
    }
}

/// Runs one case on a runtime of its own, as soon as `gate` lets it; what [`suite!`] makes a test of.
///
/// # Panics
///
/// If the case fails, with its name and what it found.
#[allow(clippy::panic, reason = "this is how a test fails")]
pub fn run<H: Harness>(name: &str, gate: &Gate, start: impl Future<Output = H>) {
    let Some(case) = CASES.iter().find(|case| case.name == name) else {
        panic!("there is no case `{name}`");
    };
    let _place = gate.enter();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(async {
            let mut harness = start.await;
            case.check(&mut harness).await
        }),
        Err(error) => panic!("no runtime: {error}"),
    };
    if let Err(failure) = outcome {
        panic!("the broker does not conform to `{name}`: {failure}");
    }
}

/// Hands the list of cases to another macro, so that it exists once.
#[doc(hidden)]
#[macro_export]
macro_rules! __testkit_cases {
    ($then:ident ! ($($arguments:tt)*)) => {
        $crate::$then! { ($($arguments)*)
            a_batch_is_published_whole_or_not_at_all,
            a_broker_that_hangs_and_goes_on_loses_nothing,
            a_confirmed_message_survives_a_kill,
            a_consumer_takes_over_from_another_node,
            a_dead_lettered_message_goes_to_the_dead_letter_queue,
            a_deleted_source_ends_its_consumers_and_forgets,
            a_durable_subscription_misses_nothing_while_nobody_consumes,
            a_large_message_is_carried_and_a_too_large_one_refused,
            a_message_reaches_a_subscription_once_however_many_targets_lead_there,
            a_new_consumer_with_takeover_ends_the_older_one,
            a_node_that_dies_leaves_what_it_held_to_the_others,
            a_poisonous_message_is_dead_lettered_after_its_last_delivery,
            a_refused_message_comes_again,
            a_slow_consumer_costs_no_memory_beyond_its_bound,
            a_slow_topic_subscriber_is_bounded_and_its_losses_are_counted,
            a_subscription_is_live_when_it_is_returned,
            acknowledged_messages_never_come_back,
            an_outage_that_outlasts_the_bridge_fails_what_waits,
            an_outage_under_load_loses_nothing_that_was_confirmed,
            batches_keep_their_order_across_failures,
            competing_consumers_share_and_none_starves,
            confirmed_messages_survive_kills_under_load,
            consumers_that_die_leave_what_they_held_to_the_others,
            declaring_again_changes_nothing_and_adds_patterns,
            deleting_on_one_node_ends_consumers_on_another,
            delivery_is_in_the_order_of_the_calls,
            empty_bodies_and_any_octets_are_carried,
            expired_messages_are_not_delivered,
            one_call_reaches_a_thousand_durable_subscriptions,
            priority_is_what_is_declared,
            publishing_to_an_undeclared_queue_fails,
            shutdown_finishes_what_was_taken,
            subscriptions_resume_by_themselves,
            ten_thousand_topics,
            the_byte_prefetch_is_kept,
            the_message_prefetch_is_kept,
            topics_and_durable_subscriptions_span_nodes,
            two_nodes_share_a_queue,
            unacknowledged_messages_come_back_in_order,
            unacknowledged_messages_come_back_marked,
            unacknowledged_messages_survive_a_restart_marked,
            what_is_asked_during_an_outage_waits_or_may_be_tried_again,
            what_is_deleted_during_an_outage_does_not_come_back,
            wildcards_match_words
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __testkit_table {
    (() $($case:ident),*) => {
        /// All cases, in alphabetical order
        pub const CASES: &[Case] = &[$(
            Case { name: stringify!($case), run: |harness| Box::pin(cases::$case(harness)) },
        )*];
    };
}

__testkit_cases!(__testkit_table!());

/// Makes a test of every case: `suite!(future)` where each evaluation of the expression gives a
/// future of a fresh [`Harness`](crate::testkit::Harness). `suite!(ignore = "needs …", future)`
/// makes tests that are ignored, and `suite!(ignore = "needs …", at_once = 2, future)` runs only so
/// many of them at once
#[doc(hidden)]
#[macro_export]
macro_rules! __testkit_suite {
    (ignore = $reason:literal, at_once = $most:expr, $start:expr $(,)?) => {
        $crate::__testkit_cases!(__testkit_tests!([#[ignore = $reason]] $most, $start));
    };
    (ignore = $reason:literal, $start:expr $(,)?) => {
        $crate::__testkit_cases!(__testkit_tests!([#[ignore = $reason]] usize::MAX, $start));
    };
    ($start:expr $(,)?) => {
        $crate::__testkit_cases!(__testkit_tests!([] usize::MAX, $start));
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __testkit_tests {
    (($attributes:tt $most:expr, $start:expr) $($case:ident),*) => {
        static GATE: $crate::testkit::Gate = $crate::testkit::Gate::new($most);
        $($crate::__testkit_test!($attributes $case, $start);)*
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __testkit_test {
    ([$($attribute:tt)*] $case:ident, $start:expr) => {
        #[test]
        $($attribute)*
        fn $case() {
            $crate::testkit::run(stringify!($case), &GATE, $start);
        }
    };
}
