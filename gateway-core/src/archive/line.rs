//! The lines of an archive: JSON objects, each of which tells what it is.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::directory::{GroupSettings, Member};
use crate::names::{ConversationId, UserName};
use crate::store::{Imported, Marks, MessageId, NewMessage, Position, Reaction, StoredMessage};

/// What a line is about; one without `record` is a message
#[derive(Debug, Deserialize)]
pub(super) struct Peek {
    pub(super) record: Option<Record>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Record {
    Conversation,
    Member,
    Marker,
}

/// The first line: which conversation, and how its group is run
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConversationLine {
    record: Record,
    pub(super) id: ConversationId,
    /// The first message: whoever has another one has another conversation
    pub(super) first: Option<First>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) group: Option<GroupLine>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct First {
    pub(super) seq: u64,
    pub(super) id: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupLine {
    title: String,
    open: bool,
    history: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MemberLine {
    record: Record,
    pub(super) user: UserName,
    role: String,
    since: u64,
    muted_until: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MarkerLine {
    record: Record,
    pub(super) user: UserName,
    pub(super) read: u64,
    pub(super) delivered: u64,
}

/// A stored message.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "rest", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "rest", schema(as = Message))]
#[serde(deny_unknown_fields)]
pub(crate) struct MessageLine {
    id: String,
    #[cfg_attr(feature = "rest", schema(value_type = String))]
    pub(super) conversation: ConversationId,
    /// Its number in the conversation, from 1.
    seq: u64,
    #[cfg_attr(feature = "rest", schema(value_type = String))]
    from: UserName,
    /// When it was stored, in milliseconds since 1970 (UTC).
    timestamp: u64,
    kind: String,
    body: String,
    /// How `body` is written: `utf8`, or `base64` where it is no text.
    body_encoding: String,
    content_type: Option<String>,
    /// What travelled with it.
    headers: BTreeMap<String, String>,
    /// The `seq` of its last edit.
    edited: Option<u64>,
    /// The `seq` of its recall.
    recalled: Option<u64>,
    /// The reaction of each user who has one.
    reactions: BTreeMap<String, String>,
    /// What an edited message said at first; in an export only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    original: Option<Content>,
}

/// Body and headers, as in a message.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "rest", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
struct Content {
    body: String,
    body_encoding: String,
    content_type: Option<String>,
    headers: BTreeMap<String, String>,
}

const UTF8: &str = "utf8";
const BASE64: &str = "base64";
const KEY: &str = "idempotency-key";
const CONTENT_TYPE: &str = "content-type";

impl ConversationLine {
    pub(super) fn new(
        id: ConversationId,
        first: Option<&StoredMessage>,
        group: Option<GroupSettings>,
    ) -> Self {
        let first = first.map(|one| First { seq: one.seq, id: one.message_id.to_string() });
        let group = group.map(|GroupSettings { title, open, history }| {
            let history = history.as_str().to_owned();
            GroupLine { title, open, history }
        });
        Self { record: Record::Conversation, id, first, group }
    }
}

impl GroupLine {
    pub(super) fn settings(self) -> Result<GroupSettings, String> {
        let history = self.history.parse().map_err(text)?;
        Ok(GroupSettings { title: self.title, open: self.open, history })
    }
}

impl From<&Member> for MemberLine {
    fn from(member: &Member) -> Self {
        Self {
            record: Record::Member,
            user: member.user.clone(),
            role: member.role.as_str().to_owned(),
            since: member.since,
            muted_until: member.muted_until,
        }
    }
}

impl MemberLine {
    pub(super) fn member(self) -> Result<Member, String> {
        let role = self.role.parse().map_err(text)?;
        let member = Member::new(self.user, role).with_since(self.since);
        Ok(member.with_muted_until(self.muted_until))
    }
}

impl From<&Marks> for MarkerLine {
    fn from(marks: &Marks) -> Self {
        Self {
            record: Record::Marker,
            user: marks.user.clone(),
            read: marks.read,
            delivered: marks.delivered,
        }
    }
}

impl From<&StoredMessage> for MessageLine {
    fn from(message: &StoredMessage) -> Self {
        let content = Content::from(message);
        let reactions = message.reactions.iter();
        Self {
            id: message.message_id.to_string(),
            conversation: message.conversation.clone(),
            seq: message.seq,
            from: message.sender.clone(),
            timestamp: message.timestamp,
            kind: message.kind.as_str().to_owned(),
            body: content.body,
            body_encoding: content.body_encoding,
            content_type: content.content_type,
            headers: content.headers,
            edited: message.edited,
            recalled: message.recalled,
            reactions: reactions.map(|one| (one.user.to_string(), one.text.clone())).collect(),
            original: None,
        }
    }
}

impl From<&StoredMessage> for Content {
    fn from(message: &StoredMessage) -> Self {
        let (body, encoding) = match std::str::from_utf8(&message.body) {
            Ok(text) => (text.to_owned(), UTF8),
            Err(_) => (STANDARD.encode(&message.body), BASE64),
        };
        let mut content_type = None;
        let mut headers = BTreeMap::new();
        for (name, value) in &message.headers {
            if name == CONTENT_TYPE {
                content_type = Some(value.clone());
            } else {
                headers.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        if let Some(key) = &message.idempotency_key {
            headers.insert(KEY.to_owned(), key.clone());
        }
        Self { body, body_encoding: encoding.to_owned(), content_type, headers }
    }
}

impl Content {
    fn put(mut self, message: &mut NewMessage) -> Result<(), String> {
        message.body = match self.body_encoding.as_str() {
            UTF8 => self.body.into(),
            BASE64 => STANDARD.decode(self.body).map_err(|_| "body: not base64")?.into(),
            _ => return Err("body_encoding: must be utf8 or base64".to_owned()),
        };
        message.idempotency_key = self.headers.remove(KEY);
        let content_type = self.content_type.map(|value| (CONTENT_TYPE.to_owned(), value));
        message.headers = content_type.into_iter().chain(self.headers).collect();
        Ok(())
    }
}

impl MessageLine {
    pub(super) fn with_original(mut self, original: Option<&StoredMessage>) -> Self {
        self.original = original.map(Content::from);
        self
    }

    pub(super) fn message(self) -> Result<Imported, String> {
        let id: MessageId = self.id.parse().map_err(|error| format!("id: {error}"))?;
        if self.seq == 0 {
            return Err("seq: begins with 1".to_owned());
        }
        let mut message = NewMessage::new(self.conversation, self.from, "");
        message.kind = self.kind.parse().map_err(|error| format!("kind: {error}"))?;
        let mut original = message.clone();
        let content = Content {
            body: self.body,
            body_encoding: self.body_encoding,
            content_type: self.content_type,
            headers: self.headers,
        };
        content.put(&mut message)?;
        let mut message = StoredMessage::new(message, self.seq, id, self.timestamp);
        message.edited = self.edited;
        message.recalled = self.recalled;
        for (user, text) in self.reactions {
            let user = user.parse().map_err(|error| format!("reactions: {error}"))?;
            message.reactions.push(Reaction::new(user, text));
        }
        let original = match self.original {
            None => None,
            Some(content) => {
                content.put(&mut original)?;
                Some(StoredMessage::new(original, self.seq, id, self.timestamp))
            }
        };
        Ok(Imported::new(message).with_original(original))
    }
}

impl First {
    /// Whether a store with `first` at its beginning has the same conversation
    pub(super) fn is(&self, position: &Position, first: Option<&StoredMessage>) -> bool {
        let same = |first: &StoredMessage| first.message_id.to_string() == self.id;
        position.last_seq == 0 || first.is_some_and(same)
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
