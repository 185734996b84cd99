use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mq_bridge::Message;
use serde::{Deserialize, Serialize};

/// What a webhook may be told
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum EventKind {
    /// A message was sent
    Message,
    /// A message was changed
    Edit,
    /// A message was taken back
    Recall,
    /// Somebody reacted to a message
    Reaction,
    /// The members of a group changed
    Member,
    /// Somebody came or went
    Presence,
    /// A message was sent to people who are away
    Offline,
}

impl EventKind {
    fn of_kind(kind: &str) -> Option<Self> {
        Some(match kind {
            "message" => Self::Message,
            "edit" => Self::Edit,
            "recall" => Self::Recall,
            "reaction" => Self::Reaction,
            "member" => Self::Member,
            "presence" => Self::Presence,
            _ => return None,
        })
    }
}

/// An event as it is sent
#[derive(Debug, Serialize)]
pub(super) struct Event<'a> {
    #[serde(rename = "type")]
    pub(super) kind: EventKind,
    /// In milliseconds since 1970 (UTC)
    pub(super) timestamp: u64,
    pub(super) data: &'a Data,
}

/// What happened: a message as REST shows it, or a change of presence
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Data {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    from: String,
    timestamp: u64,
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_encoding: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence: Option<String>,
    headers: BTreeMap<String, String>,
    /// Who of the conversation is away, for [`EventKind::Offline`]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) users: Vec<String>,
}

impl Data {
    /// What a message of the broker tells; `None` where it is no event.
    pub(super) fn of(message: &Message) -> Option<(EventKind, Self)> {
        let mut data = Self::default();
        for (name, value) in &message.headers {
            let Ok(value) = std::str::from_utf8(value) else { continue };
            match name {
                "message-id" => value.clone_into(&mut data.id),
                "conversation" => data.conversation = Some(value.to_owned()),
                "seq" => data.seq = value.parse().ok(),
                "from" => value.clone_into(&mut data.from),
                "timestamp" => data.timestamp = value.parse().unwrap_or_default(),
                "kind" => value.clone_into(&mut data.kind),
                "content-type" => data.content_type = Some(value.to_owned()),
                "presence" => data.presence = Some(value.to_owned()),
                "destination" => {}
                // What the gateway keeps for itself.
                _ if name.starts_with("im.") => {}
                _ => {
                    data.headers.insert(name.to_owned(), value.to_owned());
                }
            }
        }
        let kind = EventKind::of_kind(&data.kind)?;
        if kind != EventKind::Presence {
            let (body, encoding) = match std::str::from_utf8(&message.body) {
                Ok(text) => (text.to_owned(), "utf8"),
                Err(_) => (STANDARD.encode(&message.body), "base64"),
            };
            data.body = Some(body);
            data.body_encoding = Some(encoding);
        }
        Some((kind, data))
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn from(&self) -> &str {
        &self.from
    }

    pub(super) const fn timestamp(&self) -> u64 {
        self.timestamp
    }

    /// A header that travelled with the message.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(super) fn conversation(&self) -> Option<&str> {
        self.conversation.as_deref()
    }
}

/// What must stay in order: the events of a conversation, or of a person's presence.
pub(super) fn lane(message: &Message) -> String {
    let header = |name| message.headers.get_str(name);
    header("conversation").or_else(|| header("from")).unwrap_or_default().to_owned()
}
