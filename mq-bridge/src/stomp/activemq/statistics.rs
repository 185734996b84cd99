//! Asking the broker's statistics plugin.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use stomp_codec::client::ClientError;
use stomp_codec::server::AckMode;
use stomp_codec::{Command, Frame, view};
use tokio::sync::oneshot;

use crate::local::lock;
use crate::{BrokerError, SourceStats};

use super::session::{Session, Writer};

const REPLIES: &str = "/temp-queue/mq-bridge";
/// Has the plugin say when it has said everything.
const WITH_END: &str = "ActiveMQ.Statistics.Destination.List.End.With.Null";

#[derive(Debug)]
pub(super) struct Statistics {
    session: Arc<Session>,
    asked: Arc<Mutex<Asked>>,
}

#[derive(Debug, Default)]
struct Asked {
    last: u64,
    waiting: HashMap<u64, Question>,
}

#[derive(Debug)]
struct Question {
    /// As the plugin writes it.
    queue: String,
    found: SourceStats,
    answer: oneshot::Sender<SourceStats>,
}

impl Statistics {
    pub(super) async fn open(session: &Arc<Session>) -> Result<Self, BrokerError> {
        let asked = Arc::<Mutex<Asked>>::default();
        let replies = Arc::clone(&asked);
        let handler = move |messages: Vec<view::Message>| {
            messages.iter().for_each(|message| lock(&replies).reply(message));
        };
        let subscribing = session
            .write(|writer| writer.subscribe(REPLIES, AckMode::Auto, &[], Box::new(handler)))?;
        subscribing.1.received().await?;
        Ok(Self { session: Arc::clone(session), asked })
    }

    /// The numbers of a queue; all are 0 where there is none.
    pub(super) async fn of(&self, destination: &str) -> Result<SourceStats, BrokerError> {
        let (answer, answered) = oneshot::channel();
        let name = destination.strip_prefix("/queue/").unwrap_or(destination);
        let queue = format!("queue://{name}");
        let number =
            lock(&self.asked).ask(Question { queue, found: SourceStats::default(), answer });
        let forget = Forget { asked: &self.asked, number };
        self.session.write(|writer| ask(writer, name, number))?;
        let outcome = tokio::select! {
            Ok(found) = answered => Ok(found),
            reason = self.session.lost() => Err(BrokerError::Disconnected { reason }),
        };
        drop(forget);
        outcome
    }
}

fn ask(writer: &mut Writer<'_>, name: &str, number: u64) -> Result<(), ClientError> {
    let frame = Frame::new(Command::Send)
        .with_header("destination", &format!("/queue/ActiveMQ.Statistics.Destination.{name}"))
        .with_header("reply-to", REPLIES)
        .with_header("correlation-id", &number.to_string())
        .with_header(WITH_END, "true");
    writer.send(frame)
}

/// Nobody waits any more.
struct Forget<'a> {
    asked: &'a Mutex<Asked>,
    number: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(self.asked).waiting.remove(&self.number);
    }
}

impl Asked {
    fn ask(&mut self, question: Question) -> u64 {
        self.last += 1;
        self.waiting.insert(self.last, question);
        self.last
    }

    fn reply(&mut self, message: &view::Message) {
        let number = message.header("correlation-id").and_then(|id| id.parse().ok());
        let Some((number, question)) =
            number.and_then(|number| self.waiting.get_mut(&number).map(|found| (number, found)))
        else {
            return;
        };
        let text = String::from_utf8_lossy(message.body());
        match value(&text, "destinationName") {
            Some(name) if name == question.queue => {
                let of = |name| value(&text, name).and_then(|value| value.parse().ok());
                question.found = SourceStats {
                    depth: of("size").unwrap_or_default(),
                    unacked: of("inflightCount").unwrap_or_default(),
                    consumers: of("consumerCount").unwrap_or_default(),
                };
            }
            // Another queue, with a name that is a pattern to the broker.
            Some(_) => {}
            None => {
                if let Some(Question { found, answer, .. }) = self.waiting.remove(&number) {
                    let _nobody_waits = answer.send(found);
                }
            }
        }
    }
}

/// The value of a key: `<entry><string>KEY</string><TYPE>VALUE</TYPE></entry>`.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<string>{key}</string>"))?;
    let (_, rest) = rest.split_once('>')?;
    rest.split_once('<').map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found() {
        let text = "<map>\n  <entry>\n    <string>size</string>\n    <long>7</long>\n  </entry>\n  \
                    <entry>\n    <string>destinationName</string>\n    \
                    <string>queue://q</string>\n  </entry>\n</map>";
        assert_eq!(value(text, "size"), Some("7"));
        assert_eq!(value(text, "destinationName"), Some("queue://q"));
        assert_eq!(value("<map/>", "size"), None);
    }
}
