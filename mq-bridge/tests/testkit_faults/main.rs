//! The conformance kit is tested with brokers that are broken on purpose: each fault must be caught
//! by the cases that are about it, and every case must catch a fault.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod local;
mod remote;

use std::collections::BTreeSet;

use mq_bridge::testkit::{CASES, Harness};

/// Makes a test of every fault, and a table for the test that looks at all of them.
macro_rules! faults {
    (
        $Fault:ident, $start:path;
        $($test:ident: $fault:ident => [$($case:ident),+ $(,)?],)+
    ) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $Fault {
            None,
            $($fault,)+
        }

        impl $Fault {
            /// The cases that must catch a fault.
            pub(crate) const CAUGHT: &[&str] = &[$($(stringify!($case)),+),+];
        }

        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                tokio::join!($(async {
                    let harness = $start($Fault::$fault).await;
                    must_catch(stringify!($case), harness, stringify!($fault)).await;
                }),+);
            }
        )+
    };
}

mod in_this_process {
    use super::*;

    faults! { LocalFault, local::FaultyHarness::start;
        accepting_a_message_to_nowhere: AcceptsUndeclared => [
            publishing_to_an_undeclared_queue_fails
        ],
        acknowledging_early: AcksEarly => [
            unacknowledged_messages_come_back_in_order,
            consumers_that_die_leave_what_they_held_to_the_others,
        ],
        acknowledging_what_is_refused: RefusalAcks => [a_refused_message_comes_again],
        binding_once: IgnoresNewPatterns => [declaring_again_changes_nothing_and_adds_patterns],
        confirming_early: ConfirmsEarly => [
            a_confirmed_message_survives_a_kill, confirmed_messages_survive_kills_under_load
        ],
        counting_no_losses: CountsNoLosses => [
            a_slow_topic_subscriber_is_bounded_and_its_losses_are_counted,
            a_slow_consumer_costs_no_memory_beyond_its_bound,
        ],
        counting_wrongly: CountsWrongly => [
            unacknowledged_messages_come_back_marked,
            unacknowledged_messages_survive_a_restart_marked,
        ],
        cutting_large_bodies: CutsBodies => [a_large_message_is_carried_and_a_too_large_one_refused],
        declaring_priority: DeclaresPriority => [priority_is_what_is_declared],
        denying_counts: DeniesCount => [unacknowledged_messages_come_back_marked],
        denying_dead_letters: DeniesDeadLetter => [
            a_dead_lettered_message_goes_to_the_dead_letter_queue,
            a_poisonous_message_is_dead_lettered_after_its_last_delivery,
        ],
        denying_depth: DeniesDepth => [
            the_message_prefetch_is_kept,
            a_message_reaches_a_subscription_once_however_many_targets_lead_there,
        ],
        denying_durability: DeniesDurable => [a_confirmed_message_survives_a_kill],
        denying_expiry: DeniesExpiry => [expired_messages_are_not_delivered],
        denying_takeover: DeniesTakeover => [a_new_consumer_with_takeover_ends_the_older_one],
        duplicating_per_target: DuplicatesPerTarget => [
            a_message_reaches_a_subscription_once_however_many_targets_lead_there
        ],
        duplicating_unmarked: DuplicatesUnmarked => [
            unacknowledged_messages_come_back_marked, a_refused_message_comes_again,
            unacknowledged_messages_survive_a_restart_marked,
            consumers_that_die_leave_what_they_held_to_the_others,
        ],
        forgetting_acknowledgements: ForgetsAcks => [
            acknowledged_messages_never_come_back,
            consumers_that_die_leave_what_they_held_to_the_others,
        ],
        forgetting_the_absent: ForgetsAbsent => [
            a_durable_subscription_misses_nothing_while_nobody_consumes
        ],
        forgetting_the_last_of_many: ForgetsManyTargets => [
            one_call_reaches_a_thousand_durable_subscriptions
        ],
        ignoring_deletion: IgnoresDelete => [a_deleted_source_ends_its_consumers_and_forgets],
        ignoring_expiry: IgnoresExpiry => [expired_messages_are_not_delivered],
        ignoring_octets_of_prefetch: IgnoresBytePrefetch => [the_byte_prefetch_is_kept],
        ignoring_poison: IgnoresPoison => [
            a_poisonous_message_is_dead_lettered_after_its_last_delivery
        ],
        ignoring_prefetch: IgnoresPrefetch => [
            the_message_prefetch_is_kept, a_slow_consumer_costs_no_memory_beyond_its_bound
        ],
        ignoring_takeover: IgnoresTakeover => [a_new_consumer_with_takeover_ends_the_older_one],
        ignoring_wildcards: TakesHashForStar => [wildcards_match_words],
        keeping_everything_for_the_slow: IgnoresBuffer => [
            a_slow_topic_subscriber_is_bounded_and_its_losses_are_counted,
            a_slow_consumer_costs_no_memory_beyond_its_bound,
        ],
        losing_on_a_crash: LosesOnCrash => [
            a_confirmed_message_survives_a_kill, confirmed_messages_survive_kills_under_load,
            batches_keep_their_order_across_failures,
        ],
        losing_on_shutdown: LosesOnShutdown => [shutdown_finishes_what_was_taken],
        mangling_headers: ManglesHeaders => [empty_bodies_and_any_octets_are_carried],
        marking_everything: MarksEverything => [
            unacknowledged_messages_come_back_marked, a_confirmed_message_survives_a_kill
        ],
        publishing_half_a_batch: SplitsBatches => [a_batch_is_published_whole_or_not_at_all],
        reordering: Reorders => [
            delivery_is_in_the_order_of_the_calls, unacknowledged_messages_come_back_in_order
        ],
        starving_consumers: Starves => [competing_consumers_share_and_none_starves],
        subscribing_late: SubscribesLate => [a_subscription_is_live_when_it_is_returned],
        tiring_of_topics: TiresOfTopics => [ten_thousand_topics],
    }
}

mod over_a_network {
    use super::*;

    faults! { RemoteFault, remote::ServerHarness::start;
        being_deaf_to_deletion: DeafToDeletion => [
            deleting_on_one_node_ends_consumers_on_another
        ],
        being_up_without_a_broker: HealthStaysUp => [
            an_outage_under_load_loses_nothing_that_was_confirmed
        ],
        confirming_what_was_cut: ConfirmsWhatWasCut => [
            confirmed_messages_survive_kills_under_load
        ],
        confirming_what_waited: ConfirmsWhatWaited => [
            an_outage_under_load_loses_nothing_that_was_confirmed
        ],
        copying_to_each_node: CopiesToNodes => [two_nodes_share_a_queue],
        deleting_only_here: DeletesOnlyHere => [
            what_is_deleted_during_an_outage_does_not_come_back
        ],
        forgetting_consumers: ForgetsConsumers => [
            subscriptions_resume_by_themselves, confirmed_messages_survive_kills_under_load,
            an_outage_under_load_loses_nothing_that_was_confirmed,
        ],
        forgetting_subscribers: ForgetsSubscribers => [subscriptions_resume_by_themselves],
        forgetting_what_hung: ForgetsWhatHung => [a_broker_that_hangs_and_goes_on_loses_nothing],
        giving_up_for_good: RefusesForGood => [
            what_is_asked_during_an_outage_waits_or_may_be_tried_again
        ],
        giving_up_on_a_broker: HealthStaysDown => [
            an_outage_under_load_loses_nothing_that_was_confirmed
        ],
        holding_for_the_dead: HoldsForTheDead => [
            a_node_that_dies_leaves_what_it_held_to_the_others
        ],
        isolating_nodes: IsolatesNodes => [topics_and_durable_subscriptions_span_nodes],
        making_the_deleted_again: DeclaresDeleted => [
            what_is_deleted_during_an_outage_does_not_come_back
        ],
        publishing_again_unmarked: PublishesAgain => [
            an_outage_under_load_loses_nothing_that_was_confirmed
        ],
        publishing_again_what_failed: PublishesTheFailed => [
            an_outage_that_outlasts_the_bridge_fails_what_waits
        ],
        reordering_what_waited: ReordersWhatWaited => [
            an_outage_under_load_loses_nothing_that_was_confirmed
        ],
        splitting_batches_at_a_cut: SplitsBatches => [batches_keep_their_order_across_failures],
        starving_a_node: StarvesNodes => [two_nodes_share_a_queue],
        taking_over_only_here: TakesOverOnlyHere => [a_consumer_takes_over_from_another_node],
        unmarking_the_dead: UnmarksTheDead => [a_node_that_dies_leaves_what_it_held_to_the_others],
        waiting_for_ever: WaitsForEver => [an_outage_that_outlasts_the_bridge_fails_what_waits],
        waiting_without_bound: WaitsUnbounded => [
            an_outage_that_outlasts_the_bridge_fails_what_waits
        ],
    }
}

async fn must_catch(name: &str, mut harness: impl Harness, fault: &str) {
    let case = CASES.iter().find(|case| case.name == name).expect("a case of the kit");
    let outcome = case.check(&mut harness).await;
    assert!(outcome.is_err(), "`{name}` did not catch {fault}");
    eprintln!("{name} of {fault}: {}", outcome.unwrap_err());
}

#[test]
fn every_case_catches_a_fault() {
    let caught = [in_this_process::LocalFault::CAUGHT, over_a_network::RemoteFault::CAUGHT];
    let caught: BTreeSet<&str> = caught.into_iter().flatten().copied().collect();
    let all: BTreeSet<&str> = CASES.iter().map(|case| case.name).collect();
    assert_eq!(caught, all);
}

/// What catches the faults is the fault, not what is around it.
mod without_a_fault {
    use super::*;

    mod in_this_process {
        mq_bridge::testkit::suite!(super::local::FaultyHarness::start(
            crate::in_this_process::LocalFault::None
        ));
    }

    mod over_a_network {
        mq_bridge::testkit::suite!(super::remote::ServerHarness::start(
            crate::over_a_network::RemoteFault::None
        ));
    }
}
