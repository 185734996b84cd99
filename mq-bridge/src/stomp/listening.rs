//! Hands what arrives from topics to those who listen.

use std::sync::Arc;

use stomp_codec::view;

use crate::Target;
use crate::remote::Topics;

use super::session::Handler;
use super::wire;

/// For messages that name their topics in a header.
pub(super) fn to_many(topics: &Arc<Topics>) -> Handler {
    let topics = Arc::clone(topics);
    Box::new(move |messages| {
        for message in messages {
            let arrived = wire::arrived(&message);
            let targets = wire::targets(&message);
            topics.deliver(&targets, &arrived.message, arrived.redelivered);
        }
    })
}

/// For the subscription of a pattern; `topic_of` tells the topic of a destination.
pub(super) fn to_pattern(
    topics: &Arc<Topics>,
    pattern: &Arc<str>,
    topic_of: fn(&str) -> Option<String>,
) -> Handler {
    let (topics, pattern) = (Arc::clone(topics), Arc::clone(pattern));
    Box::new(move |messages: Vec<view::Message>| {
        for message in messages {
            let destination = message.destination().unwrap_or_default();
            let Some(topic) = topic_of(&destination) else { continue };
            let arrived = wire::arrived(&message);
            let targets = [Target::topic(topic)];
            let [target] = &targets;
            topics.deliver_copy(&pattern, target, &targets, &arrived.message, arrived.redelivered);
        }
    })
}
