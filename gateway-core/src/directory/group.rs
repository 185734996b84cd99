//! What a group is, beside its members.

use std::str::FromStr;

use crate::names::UserName;

/// How long a group's title may be, in octets
pub const MAX_TITLE_OCTETS: usize = 256;

/// How many people a user may block
pub const MAX_BLOCKED: usize = 1000;

/// What a member may be in a group
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Role {
    /// Reads and writes
    Member,
    /// Also manages members
    Admin,
    /// Also manages admins
    Owner,
}

impl Role {
    /// As in REST: `member`, `admin`, `owner`
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        [Self::Member, Self::Admin, Self::Owner]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or(UnknownRole)
    }
}

/// The text names no role
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a role is one of member, admin, owner")]
#[non_exhaustive]
pub struct UnknownRole;

/// A member of a group
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// Who
    pub user: UserName,
    /// As what
    pub role: Role,
    /// The last `seq` of the group's conversation before he joined
    pub since: u64,
    /// Until when he may not speak, in milliseconds since 1970, UTC
    pub muted_until: Option<u64>,
}

impl Member {
    /// A member from the start, who may speak
    #[must_use]
    pub const fn new(user: UserName, role: Role) -> Self {
        Self { user, role, since: 0, muted_until: None }
    }

    /// Sets the last `seq` before he joined
    #[must_use]
    pub const fn with_since(mut self, seq: u64) -> Self {
        self.since = seq;
        self
    }

    /// Sets until when he may not speak
    #[must_use]
    pub const fn with_muted_until(mut self, millis: Option<u64>) -> Self {
        self.muted_until = millis;
        self
    }
}

/// What members see of the time before they joined
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HistoryFrom {
    /// Everything
    #[default]
    Start,
    /// Nothing
    Joining,
}

impl HistoryFrom {
    /// As in REST: `start`, `joining`
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Joining => "joining",
        }
    }
}

impl FromStr for HistoryFrom {
    type Err = UnknownHistoryFrom;

    fn from_str(text: &str) -> Result<Self, UnknownHistoryFrom> {
        [Self::Start, Self::Joining]
            .into_iter()
            .find(|from| from.as_str() == text)
            .ok_or(UnknownHistoryFrom)
    }
}

/// The text does not say from where a history is visible
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a history is visible from start or joining")]
#[non_exhaustive]
pub struct UnknownHistoryFrom;

/// How a group is run
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupSettings {
    /// What it is called; empty where the name is enough
    pub title: String,
    /// Whether anybody may join; else an owner or an admin brings new members in
    pub open: bool,
    /// What members see of the time before they joined
    pub history: HistoryFrom,
}

impl GroupSettings {
    /// Sets what it is called
    #[must_use]
    pub fn with_title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// Sets whether anybody may join
    #[must_use]
    pub const fn with_open(mut self, open: bool) -> Self {
        self.open = open;
        self
    }

    /// Sets what members see of the time before they joined
    #[must_use]
    pub const fn with_history(mut self, from: HistoryFrom) -> Self {
        self.history = from;
        self
    }
}

/// Whether two people talk to each other
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Contact {
    /// Neither has blocked the other
    Open,
    /// The one who asks has blocked the other
    Blocks,
    /// The other has blocked the one who asks, and perhaps also the other way round
    Blocked,
}
