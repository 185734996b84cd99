//! Which cases show that a backend can what it declares.

use std::future::Future;

use crate::{Capabilities, Capability};

use super::{CASES, Failure, Harness};

/// The names of the cases that check a capability: that it works where it is declared and, as far as
/// absence can be seen, that it is absent where it is not
///
/// A backend that does not declare [`DurableAck`](Capability::DurableAck),
/// [`Order`](Capability::Order) or [`AtomicBatch`](Capability::AtomicBatch) may keep to them all the
/// same, whenever it likes: of those three there is nothing to see.
#[must_use]
pub const fn proofs(capability: Capability) -> &'static [&'static str] {
    match capability {
        Capability::Durable => &[
            "a_confirmed_message_survives_a_kill",
            "confirmed_messages_survive_kills_under_load",
            "unacknowledged_messages_survive_a_restart_marked",
        ],
        Capability::DurableAck => &["acknowledged_messages_never_come_back"],
        Capability::Order => {
            &["delivery_is_in_the_order_of_the_calls", "unacknowledged_messages_come_back_in_order"]
        }
        Capability::DeliveryCount => &["unacknowledged_messages_come_back_marked"],
        Capability::DeadLetter => &[
            "a_dead_lettered_message_goes_to_the_dead_letter_queue",
            "a_poisonous_message_is_dead_lettered_after_its_last_delivery",
        ],
        Capability::Priority => &["priority_is_what_is_declared"],
        Capability::Expiry => &["expired_messages_are_not_delivered"],
        Capability::Takeover => &[
            "a_consumer_takes_over_from_another_node",
            "a_new_consumer_with_takeover_ends_the_older_one",
        ],
        Capability::AtomicBatch => &[
            "a_batch_is_published_whole_or_not_at_all",
            "batches_keep_their_order_across_failures",
        ],
        Capability::Depth => &[
            "a_message_reaches_a_subscription_once_however_many_targets_lead_there",
            "the_message_prefetch_is_kept",
        ],
    }
}

/// What a backend declares, when the [proofs] have shown that it is so.
///
/// `start` gives a fresh harness for every case.
///
/// # Errors
///
/// [`Failure`] names the capability and the case, and says what was found.
pub async fn prove<H: Harness, F: Future<Output = H>>(
    start: impl Fn() -> F,
) -> Result<Capabilities, Failure> {
    for capability in Capability::ALL {
        for case in CASES.iter().filter(|case| proofs(capability).contains(&case.name)) {
            case.check(&mut start().await).await.map_err(|failure| {
                Failure::new(format!("`{capability}` is not what it is, {}: {failure}", case.name))
            })?;
        }
    }
    Ok(start().await.broker().capabilities())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_capability_has_proofs_among_the_cases() {
        for capability in Capability::ALL {
            let names = proofs(capability);
            let is_case = |name: &&str| CASES.iter().any(|case| case.name == *name);
            assert!(!names.is_empty() && names.iter().all(is_case), "{capability}: {names:?}");
        }
    }
}
