//! An archive, line by line, into the store.

use super::line::{ConversationLine, First, MarkerLine, MemberLine, MessageLine, Peek, Record};
use super::{PART, PART_OCTETS};
use crate::directory::{DirectoryError, GroupSettings, Member, Role};
use crate::error::GatewayError;
use crate::gateway::Gateway;
use crate::groups::check_title;
use crate::names::{ConversationId, ConversationKind, GroupName, UserName};
use crate::store::{Imported, Marker, Page, StoreError};

/// The longest line of an import, in octets: the largest message, with room for escapes
pub const MAX_IMPORT_LINE: usize = 8 * 1024 * 1024;

/// What is wrong with an import, and where
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
#[non_exhaustive]
pub struct ImportError {
    /// The line that was not taken, from 1. Those before it may be stored; the same import again goes on
    pub line: u64,
    /// Why
    pub fault: ImportFault,
}

/// Why a line of an import was not taken
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImportFault {
    /// It is not a line of an export, or not where it belongs
    #[error("{0}")]
    Invalid(String),
    /// Something else has its place: the conversation has other messages
    #[error("{0}")]
    Conflict(String),
    /// The gateway could not take it
    #[error(transparent)]
    Failed(#[from] GatewayError),
}

/// An import on its way: give it the lines of an [export](Gateway::export), one after the other, and finish it
///
/// It holds no more than 1 MiB of messages and one line. What it has stored stays when it fails or is dropped: the same
/// import again passes over what is there and goes on.
#[derive(Debug)]
#[must_use = "an import is complete when it is finished"]
pub struct Import {
    gateway: Gateway,
    actor: UserName,
    conversation: ConversationId,
    line: u64,
    group: Option<GroupName>,
    settings: Option<GroupSettings>,
    /// What the importer is to be in the group, once the members have begun
    importer: Option<Option<Role>>,
    batch: Vec<Imported>,
    octets: usize,
    last_seq: u64,
    new: u64,
}

impl Gateway {
    /// Begins to import a conversation from the lines of an export: for operators, as nobody is asked for permission.
    ///
    /// Messages keep their ids, numbers and times; nobody is told of them. Users and the group are made where they
    /// are missing, users without a password; `actor`, who must exist, is a member afterwards only if the archive says
    /// so. The conversation must be new, or have been imported from the same archive. Attachments are not part of an
    /// archive, idempotency keys are not remembered, and no storage policy is asked.
    pub fn import(&self, actor: &UserName, conversation: &ConversationId) -> Import {
        Import {
            gateway: self.clone(),
            actor: actor.clone(),
            conversation: conversation.clone(),
            line: 0,
            group: conversation.as_group(),
            settings: None,
            importer: None,
            batch: Vec::new(),
            octets: 0,
            last_seq: 0,
            new: 0,
        }
    }
}

impl Import {
    /// Takes the next line, without its end; an empty one is passed over
    ///
    /// # Errors
    ///
    /// [`ImportError`]; there is no use in going on.
    pub async fn line(&mut self, line: &[u8]) -> Result<(), ImportError> {
        self.line += 1;
        let outcome = self.take(line).await;
        outcome.map_err(|fault| ImportError { line: self.line, fault })
    }

    /// Stores what is left; gives how many messages are new here
    ///
    /// # Errors
    ///
    /// As for [`line`](Self::line).
    pub async fn finish(mut self) -> Result<u64, ImportError> {
        let outcome = async {
            self.end_members().await?;
            self.flush().await
        };
        let outcome = outcome.await;
        outcome.map_err(|fault| ImportError { line: self.line, fault })?;
        Ok(self.new)
    }

    async fn take(&mut self, line: &[u8]) -> Result<(), ImportFault> {
        if line.len() > MAX_IMPORT_LINE {
            return Err(invalid(format!("a line has at most {MAX_IMPORT_LINE} octets")));
        }
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        match parse::<Peek>(line)?.record {
            Some(Record::Conversation) if self.line > 1 => {
                Err(invalid("the conversation is told in the first line"))
            }
            Some(Record::Conversation) => self.begin(parse(line)?).await,
            Some(Record::Member) => self.member(parse(line)?).await,
            Some(Record::Marker) => self.marker(parse(line)?).await,
            None => self.message(parse(line)?).await,
        }
    }

    async fn begin(&mut self, line: ConversationLine) -> Result<(), ImportFault> {
        if line.id != self.conversation {
            return Err(invalid(format!("the archive is of {}", line.id)));
        }
        let settings = line.group.map(|group| group.settings()).transpose().map_err(invalid)?;
        if let Some(settings) = &settings {
            check_title(&settings.title)?;
        }
        if self.group.is_some() != settings.is_some() {
            return Err(invalid("`group` tells how a group is run, and of nothing else"));
        }
        self.settings = settings;
        self.check_first(line.first.as_ref()).await?;
        if let ConversationKind::Direct(one, other) = self.conversation.kind() {
            self.ensure_user(&one).await?;
            self.ensure_user(&other).await?;
        }
        Ok(())
    }

    /// Before anything is changed: the conversation that is here must be this one, or none.
    async fn check_first(&self, first: Option<&First>) -> Result<(), ImportFault> {
        let store = &self.gateway.inner.store;
        let position = store.position(&self.conversation).await.map_err(GatewayError::from)?;
        let Some(first) = first else {
            let other = position.last_seq > 0;
            return if other { Err(conflict("the conversation has messages")) } else { Ok(()) };
        };
        let page = Page::between(Some(first.seq.saturating_sub(1)), Some(first.seq + 1), 1);
        let here = store.history(&self.conversation, page).await.map_err(GatewayError::from)?;
        if first.is(&position, here.first()) {
            return Ok(());
        }
        Err(conflict("the conversation has other messages"))
    }

    async fn member(&mut self, line: MemberLine) -> Result<(), ImportFault> {
        let Some(group) = self.group.clone().filter(|_| self.line > 1 && self.last_seq == 0) else {
            return Err(invalid("members are those of a group, and come before the messages"));
        };
        let member = line.member().map_err(invalid)?;
        if self.importer.is_none() {
            self.importer = Some(None);
            self.make_group(&group).await?;
        }
        if member.user == self.actor {
            self.importer = Some(Some(member.role));
            return Ok(());
        }
        let Member { user, role, since, muted_until, .. } = member;
        self.ensure_user(&user).await?;
        let directory = &self.gateway.inner.directory;
        let added = directory.add_member(&group, &user, role, since).await;
        if added.map_err(GatewayError::from)? && muted_until.is_some() {
            directory.mute(&group, &user, muted_until).await.map_err(GatewayError::from)?;
        }
        Ok(())
    }

    async fn make_group(&self, group: &GroupName) -> Result<(), ImportFault> {
        let directory = &self.gateway.inner.directory;
        match directory.create_group(group, &self.actor, &[]).await {
            Ok(()) | Err(DirectoryError::GroupExists(_)) => {}
            Err(error) => return Err(GatewayError::from(error).into()),
        }
        if let Some(settings) = &self.settings {
            directory.set_settings(group, settings).await.map_err(GatewayError::from)?;
        }
        Ok(())
    }

    /// The importer, who had to make the group, is in it what the archive says.
    async fn end_members(&mut self) -> Result<(), ImportFault> {
        let (Some(group), Some(role)) = (&self.group, self.importer.take()) else { return Ok(()) };
        let directory = &self.gateway.inner.directory;
        let outcome = match role {
            Some(role) => directory.set_role(group, &self.actor, role).await,
            None => directory.remove_member(group, &self.actor).await,
        };
        outcome.map_err(GatewayError::from)?;
        Ok(())
    }

    async fn message(&mut self, line: MessageLine) -> Result<(), ImportFault> {
        self.end_members().await?;
        if line.conversation != self.conversation {
            return Err(invalid("the message is of another conversation"));
        }
        let imported = line.message().map_err(invalid)?;
        let seq = imported.message.seq;
        if seq <= self.last_seq {
            return Err(invalid("messages come in the order of seq"));
        }
        self.last_seq = seq;
        self.octets += imported.octets();
        self.batch.push(imported);
        if self.batch.len() >= PART || self.octets >= PART_OCTETS {
            self.flush().await?;
        }
        Ok(())
    }

    async fn marker(&mut self, line: MarkerLine) -> Result<(), ImportFault> {
        self.flush().await?;
        let store = &self.gateway.inner.store;
        for (marker, up_to) in [(Marker::Read, line.read), (Marker::Delivered, line.delivered)] {
            let marked = store.mark(&self.conversation, &line.user, marker, up_to).await;
            marked.map_err(GatewayError::from)?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), ImportFault> {
        self.octets = 0;
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        match self.gateway.inner.store.import(&self.conversation, batch).await {
            Ok(new) => {
                self.new += new;
                Ok(())
            }
            Err(StoreError::Refused(text)) => Err(ImportFault::Conflict(text)),
            Err(error) => Err(GatewayError::from(error).into()),
        }
    }

    async fn ensure_user(&self, user: &UserName) -> Result<(), ImportFault> {
        let known = self.gateway.inner.directory.user_exists(user).await;
        if known.map_err(GatewayError::from)? {
            return Ok(());
        }
        match self.gateway.create_user(user, None).await {
            Ok(()) | Err(GatewayError::Directory(DirectoryError::UserExists(_))) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn parse<'a, T: serde::Deserialize<'a>>(line: &'a [u8]) -> Result<T, ImportFault> {
    serde_json::from_slice(line).map_err(|error| invalid(error.to_string()))
}

fn invalid(problem: impl Into<String>) -> ImportFault {
    ImportFault::Invalid(problem.into())
}

fn conflict(problem: impl Into<String>) -> ImportFault {
    ImportFault::Conflict(problem.into())
}
