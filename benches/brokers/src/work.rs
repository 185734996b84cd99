//! The scenarios.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use crate::contender::{Contender, Outcome, Pair};

pub(crate) struct Size {
    pub(crate) rounds: usize,
    pub(crate) messages: usize,
    pub(crate) body: usize,
    pub(crate) window: usize,
    pub(crate) fan_out: usize,
}

impl Size {
    fn body(&self) -> Bytes {
        vec![b'x'; self.body].into()
    }
}

#[derive(Clone, Copy)]
enum Scenario {
    /// Many publishes at a time to one queue.
    Publish,
    /// One publish at a time.
    PublishAlone,
    /// A queue that is full is emptied.
    Deliver,
    /// Published and consumed at once, many at a time.
    Through,
    /// One message at a time, from publish to delivery.
    Hop,
    /// One message to many durable subscriptions.
    FanOut,
}

impl Scenario {
    const ALL: [Self; 6] =
        [Self::Publish, Self::PublishAlone, Self::Deliver, Self::Through, Self::Hop, Self::FanOut];

    const fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish, window full",
            Self::PublishAlone => "publish, one at a time",
            Self::Deliver => "deliver and acknowledge",
            Self::Through => "publish and deliver at once",
            Self::Hop => "publish to delivery, one at a time",
            Self::FanOut => "one message to many",
        }
    }

    /// Whether a figure is a time per message, or else messages per second.
    const fn is_latency(self) -> bool {
        matches!(self, Self::PublishAlone | Self::Hop | Self::FanOut)
    }

    /// Gives messages per second, or the median time of one in microseconds.
    async fn measure(self, side: &dyn Contender, size: &Size) -> Outcome<f64> {
        const QUEUE: &str = "bench";
        side.fresh_queue(QUEUE).await?;
        let alone = (size.messages / 20).max(20);
        match self {
            Self::Publish => rate(size.messages, fill(side, QUEUE, size)).await,
            Self::PublishAlone => {
                let mut times = Vec::with_capacity(alone);
                for _ in 0..alone {
                    let begin = Instant::now();
                    side.publish(QUEUE, size.body()).await?;
                    times.push(begin.elapsed());
                }
                Ok(median_micros(times))
            }
            Self::Deliver => {
                fill(side, QUEUE, size).await?;
                rate(size.messages, empty(side, QUEUE, size)).await
            }
            Self::Through => {
                let both = async {
                    let (filled, emptied) =
                        tokio::join!(fill(side, QUEUE, size), empty(side, QUEUE, size));
                    filled.and(emptied)
                };
                rate(size.messages, both).await
            }
            Self::Hop => {
                let mut consumer = side.consume(QUEUE, size.window).await?;
                let mut times = Vec::with_capacity(alone);
                for _ in 0..alone {
                    let begin = Instant::now();
                    let (published, taken) =
                        tokio::join!(side.publish(QUEUE, size.body()), consumer.take());
                    published?;
                    taken?;
                    times.push(begin.elapsed());
                }
                consumer.finish().await?;
                Ok(median_micros(times))
            }
            Self::FanOut => {
                side.subscriptions(size.fan_out).await?;
                let mut times = Vec::new();
                for _ in 0..20 {
                    let begin = Instant::now();
                    side.publish_to_all(size.fan_out, size.body()).await?;
                    times.push(begin.elapsed());
                }
                side.subscriptions(0).await?;
                Ok(median_micros(times))
            }
        }
    }
}

async fn fill(side: &dyn Contender, queue: &str, size: &Size) -> Outcome {
    stream::iter(0..size.messages)
        .map(|_| side.publish(queue, size.body()))
        .buffer_unordered(size.window)
        .try_for_each(|()| std::future::ready(Ok(())))
        .await
}

async fn empty(side: &dyn Contender, queue: &str, size: &Size) -> Outcome {
    let mut consumer = side.consume(queue, size.window).await?;
    let mut taken = 0;
    while taken < size.messages {
        taken += consumer.take().await?;
    }
    consumer.finish().await
}

async fn rate(messages: usize, work: impl Future<Output = Outcome>) -> Outcome<f64> {
    let begin = Instant::now();
    work.await?;
    Ok(messages as f64 / begin.elapsed().as_secs_f64())
}

fn median_micros(times: Vec<Duration>) -> f64 {
    median(times.into_iter().map(|time| time.as_secs_f64() * 1e6).collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Measures both sides by turns, and prints a row for every scenario.
pub(crate) async fn compare(name: &str, pair: &Pair, size: &Size) -> Outcome {
    for scenario in Scenario::ALL {
        let (mut bridge, mut bare, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..size.rounds {
            let through = scenario.measure(&*pair.bridge, size).await?;
            let direct = scenario.measure(&*pair.bare, size).await?;
            ratios.push(through / direct);
            bridge.push(through);
            bare.push(direct);
        }
        let unit = if scenario.is_latency() { "µs" } else { "/s" };
        let (bridge, bare, ratio) = (median(bridge), median(bare), median(ratios));
        println!(
            "| {name} | {} | {bridge:.0} {unit} | {bare:.0} {unit} | {ratio:.2} |",
            scenario.name()
        );
    }
    Ok(())
}
