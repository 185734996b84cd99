//! What the bridge costs: each broker through `mq-bridge` beside the same broker driven by its bare client library, by turns
//! in one run.
//!
//! Both do what it takes for the same safety: a publish counts when the broker has confirmed it, a delivery when its
//! acknowledgement is made. The servers are started privately (Debian packages, see `.ci/install`).

#[cfg(feature = "activemq")]
mod activemq;
mod bridge;
mod contender;
#[cfg(feature = "embedded")]
mod embedded;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
#[cfg(feature = "redis")]
mod redis;
mod work;

use clap::{Parser, ValueEnum};

use contender::{Outcome, Pair};
use work::{Size, compare};

#[derive(Parser)]
#[command(about = "Compares brokers through mq-bridge with their bare client libraries")]
struct Arguments {
    /// Which brokers; all of them if none is named
    brokers: Vec<Kind>,
    /// How often each scenario is measured on each side; medians are shown
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Messages of a round
    #[arg(long, default_value_t = 10_000)]
    messages: usize,
    /// Octets of a body
    #[arg(long, default_value_t = 256)]
    body: usize,
    /// Publishes that wait for their confirmation at a time, and the prefetch of the consumer
    #[arg(long, default_value_t = 256)]
    window: usize,
    /// Durable subscriptions that one message goes to
    #[arg(long, default_value_t = 1000)]
    fan_out: usize,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    #[cfg(feature = "embedded")]
    Embedded,
    #[cfg(feature = "nats")]
    Nats,
    /// RabbitMQ with quorum queues
    #[cfg(feature = "rabbitmq")]
    #[value(name = "rabbitmq")]
    RabbitMq,
    /// RabbitMQ with classic queues
    #[cfg(feature = "rabbitmq")]
    #[value(name = "rabbitmq-classic")]
    RabbitMqClassic,
    #[cfg(feature = "redis")]
    Redis,
    #[cfg(feature = "activemq")]
    #[value(name = "activemq")]
    ActiveMq,
}

impl Kind {
    async fn start(self) -> Outcome<Pair> {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded => embedded::start().await,
            #[cfg(feature = "nats")]
            Self::Nats => nats::start().await,
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq => rabbitmq::start(mq_bridge::QueueType::Quorum).await,
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMqClassic => rabbitmq::start(mq_bridge::QueueType::Classic).await,
            #[cfg(feature = "redis")]
            Self::Redis => redis::start().await,
            #[cfg(feature = "activemq")]
            Self::ActiveMq => activemq::start().await,
        }
    }
}

#[tokio::main]
async fn main() -> Outcome {
    let arguments = Arguments::parse();
    let kinds = match &arguments.brokers[..] {
        [] => Kind::value_variants(),
        named => named,
    };
    let size = Size {
        rounds: arguments.rounds.max(1),
        messages: arguments.messages.max(1),
        body: arguments.body,
        window: arguments.window.max(1),
        fan_out: arguments.fan_out.max(1),
    };
    println!("| broker | scenario | bridge | bare client | bridge / bare |");
    println!("|---|---|---|---|---|");
    for kind in kinds {
        let pair = kind.start().await?;
        let name = kind.to_possible_value();
        let name = name.as_ref().map_or("", |value| value.get_name());
        compare(name, &pair, &size).await?;
    }
    Ok(())
}
