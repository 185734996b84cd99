//! What nodes tell each other, over one topic.

use std::sync::Arc;

use stomp_codec::{Command, Frame, view};

use crate::Source;

use super::registry::Entry;
use super::{names, wire};

const NOTICE: &str = "mq-notice";
const ID: &str = "mq-id";
const AGAIN: &str = "mq-again";
/// Whom a notice is for: a name that a selector can hold.
const NODE: &str = "mqnode";

/// What a node says to all, or to itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// The registry has a new entry.
    Entry(Entry),
    /// The consumers of a source are to end, but for the one that `id` names and those that take
    /// over after it. Said `again` for those that came meanwhile.
    Takeover { source: Source, id: Arc<str>, again: bool },
    /// To itself: what others have said before has arrived.
    Sync { number: u64 },
}

impl Notice {
    pub(super) fn encode(&self, node: &str) -> Frame {
        let frame = Frame::new(Command::Send).with_header("destination", names::CONTROL);
        match self {
            Self::Entry(entry) => frame.with_header(NOTICE, "entry").with_body(entry.encode()),
            Self::Takeover { source, id, again } => {
                wire::with_source(frame.with_header(NOTICE, "takeover"), source)
                    .with_header(ID, id)
                    .with_header(AGAIN, if *again { "true" } else { "false" })
            }
            Self::Sync { number } => frame
                .with_header(NOTICE, "sync")
                .with_header(NODE, node)
                .with_header(ID, &number.to_string()),
        }
    }

    pub(super) fn decode(message: &view::Message) -> Option<Self> {
        match &*message.header(NOTICE)? {
            "entry" => Entry::decode(message.body_bytes()).map(Self::Entry),
            "takeover" => {
                let source = wire::source(message)?;
                let again = message.header(AGAIN).is_some_and(|value| value == "true");
                Some(Self::Takeover { source, id: (&*message.header(ID)?).into(), again })
            }
            "sync" => Some(Self::Sync { number: message.header(ID)?.parse().ok()? }),
            _ => None,
        }
    }
}

/// Selects what is for everyone, or for this node.
pub(super) fn selector(node: &str) -> String {
    format!("{NODE} IS NULL OR {NODE} = '{node}'")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn notices_come_back_as_they_were() {
        let entry = Entry {
            id: "1".into(),
            covers: vec!["0".into()],
            source: Source::queue("q"),
            declared: None,
        };
        for notice in [
            Notice::Entry(entry),
            Notice::Takeover {
                source: Source::durable("d: \u{1f980}"),
                id: "7".into(),
                again: true,
            },
            Notice::Sync { number: 7 },
        ] {
            let mut frame = Frame::new(Command::Message).with_header("message-id", "1");
            let sent = notice.encode("n");
            for (name, value) in sent.headers() {
                frame.push_header(&name, &value);
            }
            let message = frame.with_body(sent.body_bytes()).try_into().unwrap();
            assert_eq!(Notice::decode(&message), Some(notice));
        }
    }
}
