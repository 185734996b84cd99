//! What the cases are made of.

use std::future::Future;
use std::ops::Range;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    Broker, BrokerError, Capability, Confirm, Declaration, Delivery, Message, Publish, Source,
    SourceStats, SubscribeOptions, Subscription,
};

use super::{Failure, Harness, Outcome};

/// How long a case waits.
#[derive(Clone, Copy)]
pub(super) struct Times {
    /// For something that must happen.
    pub(super) patience: Duration,
    /// That something does not happen.
    pub(super) quiet: Duration,
    /// With a broker that is gone.
    pub(super) outage: Duration,
}

tokio::task_local! {
    pub(super) static TIMES: Times;
}

impl Times {
    /// The times of this task's case.
    pub(super) fn get() -> Self {
        TIMES.get()
    }

    pub(super) fn new(harness: &dyn Harness) -> Self {
        let patience = harness.patience();
        // What is on its way over a network takes longer to show.
        let longest = Duration::from_millis(if harness.reconnects() { 500 } else { 150 });
        let quiet = (patience / 60).clamp(Duration::from_millis(150), longest);
        Self { patience, quiet, outage: patience / 10 }
    }
}

/// Runs a part of the case beside the rest of it.
pub(super) fn spawn<T: Send + 'static>(
    part: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    tokio::spawn(TIMES.scope(Times::get(), part))
}

pub(super) fn patience() -> Duration {
    Times::get().patience
}

/// How often to look whether something has happened.
pub(super) const POLL: Duration = Duration::from_millis(2);

/// Fails the case unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)*) => {
        if !$condition {
            return Err(crate::testkit::Failure::new(format!($($message)*)));
        }
    };
}
pub(super) use ensure;

pub(super) fn numbered(number: u64) -> Message {
    Message::new(number.to_string())
}

/// The number that a message was made with.
pub(super) fn number(delivery: &Delivery) -> u64 {
    std::str::from_utf8(&delivery.message.body)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(u64::MAX)
}

pub(super) fn numbers(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(number).collect()
}

pub(super) fn tags(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(|delivery| delivery.tag).collect()
}

/// Numbers as a message shows them.
pub(super) fn few(numbers: &[u64]) -> String {
    match numbers.get(..30) {
        Some(first) => format!("{first:?} and more, {} in all", numbers.len()),
        None => format!("{numbers:?}"),
    }
}

pub(super) fn is(deliveries: &[Delivery], expected: Range<u64>, what: &str) -> Outcome {
    let found = numbers(deliveries);
    ensure!(
        found.iter().copied().eq(expected.clone()),
        "{what}: expected {expected:?}, got {}",
        few(&found)
    );
    Ok(())
}

pub(super) async fn queue(broker: &dyn Broker, name: &str) -> Outcome {
    Ok(broker.declare(&Declaration::queue(name)).await?)
}

pub(super) async fn durable(broker: &dyn Broker, name: &str, pattern: &str) -> Outcome {
    Ok(broker.declare(&Declaration::durable(name, [pattern])).await?)
}

/// Awaits a confirmation, but not for ever.
pub(super) async fn confirmed(confirm: Confirm) -> Result<Result<(), BrokerError>, Failure> {
    timeout(patience(), confirm)
        .await
        .map_err(|_| Failure::new("a confirmation neither came nor failed"))
}

/// Publishes numbers one after the other without waiting between, then waits for all.
pub(super) async fn send(
    broker: &dyn Broker,
    make: impl Fn(Message) -> Publish,
    range: Range<u64>,
) -> Outcome {
    let confirms = range.map(|number| broker.publish(make(numbered(number)))).collect();
    Ok(confirmed(Confirm::all(confirms)).await??)
}

pub(super) async fn send_queue(broker: &dyn Broker, name: &str, range: Range<u64>) -> Outcome {
    send(broker, |message| Publish::to_queue(name, message), range).await
}

pub(super) async fn send_topic(broker: &dyn Broker, name: &str, range: Range<u64>) -> Outcome {
    send(broker, |message| Publish::to_topic(name, message), range).await
}

pub(super) async fn consume(
    broker: &dyn Broker,
    source: Source,
    prefetch: u32,
) -> Result<Subscription, Failure> {
    let options = SubscribeOptions::new().with_prefetch(prefetch, usize::MAX);
    Ok(broker.subscribe(source, options).await?)
}

/// The next batch of a subscription that must have one.
pub(super) async fn batch(subscription: &mut Subscription) -> Result<Vec<Delivery>, Failure> {
    match timeout(patience(), subscription.recv()).await {
        Ok(Some(batch)) => {
            ensure!(!batch.is_empty(), "a batch was empty");
            Ok(batch)
        }
        Ok(None) => {
            let reason = subscription.end_reason();
            Err(Failure::new(format!("the subscription ended: {reason:?}")))
        }
        Err(_) => Err(Failure::new("nothing was delivered any more")),
    }
}

/// Exactly `count` deliveries.
pub(super) async fn take(
    subscription: &mut Subscription,
    count: usize,
) -> Result<Vec<Delivery>, Failure> {
    let mut all: Vec<Delivery> = Vec::new();
    while all.len() < count {
        match batch(subscription).await {
            Ok(batch) => all.extend(batch),
            Err(failure) => {
                let found = few(&numbers(&all));
                return Err(Failure::new(format!("{failure}; expected {count}, got {found}")));
            }
        }
    }
    ensure!(all.len() == count, "expected {count} deliveries, got {}", few(&numbers(&all)));
    Ok(all)
}

/// Acknowledges and waits for the confirmation.
pub(super) async fn ack(subscription: &Subscription, deliveries: &[Delivery]) -> Outcome {
    Ok(confirmed(subscription.acker().ack(&tags(deliveries))).await??)
}

/// What is delivered within the time that nothing is watched for.
pub(super) async fn soon(subscription: &mut Subscription) -> Option<Vec<Delivery>> {
    timeout(Times::get().quiet, subscription.recv()).await.ok().flatten()
}

/// Watches that nothing is delivered.
pub(super) async fn quiet(subscription: &mut Subscription, why: &str) -> Outcome {
    if let Some(batch) = soon(subscription).await {
        let found = few(&numbers(&batch));
        return Err(Failure::new(format!("{why}, but {found} was delivered")));
    }
    Ok(())
}

/// The subscription must end.
pub(super) async fn ended(subscription: &mut Subscription) -> Outcome {
    loop {
        match timeout(patience(), subscription.recv()).await {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(()),
            Err(_) => return Err(Failure::new("the subscription did not end")),
        }
    }
}

/// Waits until something is so.
pub(super) async fn until(what: &str, condition: impl Fn() -> bool) -> Outcome {
    let deadline = Instant::now() + patience();
    while !condition() {
        ensure!(Instant::now() < deadline, "{what}");
        sleep(POLL).await;
    }
    Ok(())
}

/// Waits until the source keeps `depth` messages.
pub(super) async fn depth(broker: &dyn Broker, source: &Source, depth: u64) -> Outcome {
    stats(broker, source, &format!("should keep {depth} messages"), |one| one.depth == depth).await
}

/// Waits until the numbers of the source are as they should be; a server may count belatedly. A
/// broker that does not declare that it knows them must say so.
pub(super) async fn stats(
    broker: &dyn Broker,
    source: &Source,
    should: &str,
    reached: impl Fn(&SourceStats) -> bool,
) -> Outcome {
    if !broker.capabilities().has(Capability::Depth) {
        let refused = broker.stats(source).await;
        ensure!(
            refused == Err(BrokerError::Unsupported(Capability::Depth)),
            "`depth` is not declared, but the numbers of {source} are {refused:?}"
        );
        return Ok(());
    }
    let deadline = Instant::now() + patience();
    loop {
        let found = broker.stats(source).await?;
        if reached(&found) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{source} {should}, but has {found:?}");
        sleep(POLL).await;
    }
}
