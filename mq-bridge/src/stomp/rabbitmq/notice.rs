//! What nodes say to each other.

use std::sync::Arc;

use stomp_codec::{Command, Frame, view};

use crate::Source;

use super::registry::Entry;
use super::{names, wire};

const NOTICE: &str = "mq-notice";
const ID: &str = "mq-id";
const NODE: &str = "mq-node";
const TURN: &str = "mq-turn";

/// When a consumer took over, in microseconds since 1970; of two the later one stays, and of two at
/// the same time that of the node whose name is greater.
pub(super) type Turn = u64;

/// What a node says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// To all: the registry has a new entry. Where that deletes something, `node` waits for the
    /// answers of all to the id of the entry.
    Entry { entry: Entry, node: Arc<str> },
    /// To all: the consumers of a source are to end, but for those that took over later. `node`
    /// waits for the answers of all to this id.
    LetGo { source: Source, turn: Turn, id: Arc<str>, node: Arc<str> },
    /// To one: this node has let go, or has a consumer that took over later.
    Answer { id: Arc<str>, node: Arc<str>, later: Option<Turn> },
    /// To itself: what others have said before has arrived.
    Sync { number: u64 },
}

impl Notice {
    /// To all nodes.
    pub(super) fn to_all(&self) -> Frame {
        self.frame(names::CONTROL)
    }

    /// To one.
    pub(super) fn to_node(&self, node: &str) -> Frame {
        self.frame(&names::to(node))
    }

    fn frame(&self, destination: &str) -> Frame {
        let frame = Frame::new(Command::Send).with_header("destination", destination);
        match self {
            Self::Entry { entry, node } => {
                frame.with_header(NOTICE, "entry").with_header(NODE, node).with_body(entry.encode())
            }
            Self::LetGo { source, turn, id, node } => {
                wire::with_source(frame.with_header(NOTICE, "let-go"), source)
                    .with_header(TURN, &turn.to_string())
                    .with_header(ID, id)
                    .with_header(NODE, node)
            }
            Self::Answer { id, node, later } => {
                let frame =
                    frame.with_header(NOTICE, "answer").with_header(ID, id).with_header(NODE, node);
                match later {
                    Some(turn) => frame.with_header(TURN, &turn.to_string()),
                    None => frame,
                }
            }
            Self::Sync { number } => {
                frame.with_header(NOTICE, "sync").with_header(ID, &number.to_string())
            }
        }
    }

    pub(super) fn decode(message: &view::Message) -> Option<Self> {
        let text = |name| message.header(name).map(|value| Arc::<str>::from(&*value));
        let turn = || message.header(TURN).and_then(|turn| turn.parse().ok());
        match &*message.header(NOTICE)? {
            "entry" => {
                let entry = Entry::decode(message.body_bytes())?;
                Some(Self::Entry { entry, node: text(NODE)? })
            }
            "let-go" => {
                let source = wire::source(message)?;
                Some(Self::LetGo { source, turn: turn()?, id: text(ID)?, node: text(NODE)? })
            }
            "answer" => Some(Self::Answer { id: text(ID)?, node: text(NODE)?, later: turn() }),
            "sync" => Some(Self::Sync { number: message.header(ID)?.parse().ok()? }),
            _ => None,
        }
    }
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
        let (id, node) = (Arc::<str>::from("7"), Arc::<str>::from("n"));
        for notice in [
            Notice::Entry { entry, node: Arc::clone(&node) },
            Notice::LetGo {
                source: Source::durable("d: \u{1f980}"),
                turn: 7,
                id: Arc::clone(&id),
                node: Arc::clone(&node),
            },
            Notice::Answer { id: Arc::clone(&id), node: Arc::clone(&node), later: None },
            Notice::Answer { id, node, later: Some(9) },
            Notice::Sync { number: 7 },
        ] {
            let mut frame = Frame::new(Command::Message).with_header("message-id", "1");
            let sent = notice.to_all();
            for (name, value) in sent.headers() {
                frame.push_header(&name, &value);
            }
            let message = frame.with_body(sent.body_bytes()).try_into().unwrap();
            assert_eq!(Notice::decode(&message), Some(notice));
        }
    }
}
