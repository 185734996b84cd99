//! What is asked of the server and not yet delivered.

use std::time::Duration;

use async_nats::{Message, StatusCode};
use bytes::Bytes;
use tokio::time::Instant;

/// How long the server keeps a request before it says that it is over. As long it goes on to deliver
/// to a node that hangs.
pub(super) const EXPIRES: Duration = Duration::from_secs(15);
/// The most messages of one request.
const MAX_BATCH: usize = 4096;
/// How long to wait after the server has refused a request.
const REST: Duration = Duration::from_millis(200);

/// The one request of a consumer.
#[derive(Debug, Default)]
pub(super) struct Pull {
    number: u64,
    left: usize,
    /// The next message is larger than there is room for: it may come all the same, alone.
    alone: bool,
    rest: Option<Instant>,
}

/// What a message of the server says about the consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Not,
    Deleted,
    /// Nobody is there to answer.
    Unknown,
}

impl Pull {
    /// A server that has a request says something more often than this.
    pub(super) const SILENCE: Duration = Duration::from_secs(20);

    /// Whether another request is to be made.
    pub(super) const fn is_over(&self) -> bool {
        self.left == 0
    }

    /// Until when there shall be none.
    pub(super) const fn rest(&self) -> Option<Instant> {
        self.rest
    }

    pub(super) fn rested(&mut self) {
        self.rest = None;
    }

    pub(super) fn give_up(&mut self) {
        self.left = 0;
    }

    /// A request for as many messages as there is room for, which the server keeps for so long; gives
    /// its number and body.
    pub(super) fn begin(
        &mut self,
        messages: usize,
        bytes: usize,
        expires: Duration,
    ) -> (u64, Bytes) {
        self.number += 1;
        let alone = std::mem::take(&mut self.alone);
        self.left = if alone { 1 } else { messages.min(MAX_BATCH) };
        let (batch, expires) = (self.left, expires.as_nanos());
        let mut body = format!(r#"{{"batch":{batch},"expires":{expires}"#);
        // The server counts in 32 bits.
        if let (false, Ok(bytes)) = (alone, i32::try_from(bytes)) {
            body.push_str(&format!(r#","max_bytes":{bytes}"#));
        }
        body.push('}');
        (self.number, body.into())
    }

    /// A message has come.
    pub(super) fn delivered(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// The server says something about a request.
    pub(super) fn status(&mut self, message: &Message) -> Ended {
        let number = message.subject.rsplit_once('.').and_then(|(_, number)| number.parse().ok());
        let of_now = number == Some(self.number);
        let said = message.description.as_deref().unwrap_or_default();
        match message.status {
            Some(StatusCode::TIMEOUT) => {}
            Some(StatusCode::NO_RESPONDERS) => {
                self.refused();
                return Ended::Unknown;
            }
            _ if said.contains("Consumer Deleted") => return Ended::Deleted,
            _ if said.contains("MaxBytes") => self.alone = of_now,
            _ => {
                tracing::debug!(?message.status, said, "a request for messages was refused");
                self.refused();
                return Ended::Not;
            }
        }
        if of_now {
            self.left = 0;
        }
        Ended::Not
    }

    fn refused(&mut self) {
        self.left = 0;
        self.rest = Some(Instant::now() + REST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(number: u64, status: u16, description: &str) -> Message {
        Message {
            subject: format!("_INBOX.x.c.1.{number}").into(),
            reply: None,
            payload: Bytes::new(),
            headers: None,
            status: StatusCode::from_u16(status).ok(),
            description: Some(description.to_owned()),
            length: 0,
        }
    }

    #[test]
    fn a_request_is_over_when_all_has_come_or_the_server_says_so() {
        let mut pull = Pull::default();
        let (first, body) = pull.begin(2, 1000, EXPIRES);
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&body["batch"], &body["max_bytes"]), (&2.into(), &1000.into()));
        pull.delivered();
        assert!(!pull.is_over());
        pull.delivered();
        assert!(pull.is_over());
        let (second, _) = pull.begin(2, 1000, EXPIRES);
        pull.status(&said(first, 408, "Request Timeout"));
        assert!(!pull.is_over());
        pull.status(&said(second, 408, "Request Timeout"));
        assert!(pull.is_over() && pull.rest().is_none());
    }

    #[test]
    fn a_message_that_is_too_large_comes_alone() {
        let mut pull = Pull::default();
        let (number, _) = pull.begin(100, 10, EXPIRES);
        pull.status(&said(number, 409, "Message Size Exceeds MaxBytes"));
        let (_, body) = pull.begin(100, 10, EXPIRES);
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&body["batch"], &body["max_bytes"]), (&1.into(), &serde_json::Value::Null));
        pull.delivered();
        let (_, body) = pull.begin(100, usize::MAX, EXPIRES);
        assert!(!body.windows(9).any(|part| part == b"max_bytes"));
    }

    #[test]
    fn after_a_refusal_it_rests_and_a_deletion_is_told() {
        let mut pull = Pull::default();
        let (number, _) = pull.begin(1, 10, EXPIRES);
        assert_eq!(pull.status(&said(number, 409, "Consumer Deleted")), Ended::Deleted);
        assert_eq!(pull.status(&said(number, 409, "Leadership Change")), Ended::Not);
        assert!(pull.is_over() && pull.rest().is_some());
        assert_eq!(pull.status(&said(number, 503, "")), Ended::Unknown);
    }
}
