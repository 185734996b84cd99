//! Attachments: their conversation decides who may add and read them.

use bytes::Bytes;

use crate::authorizer::Action;
use crate::blob::{Blob, BlobError, BlobId, BlobInfo, BlobWriter};
use crate::error::{GatewayError, RefusedError};
use crate::gateway::{Gateway, conversation_destination};
use crate::names::{ConversationId, UserName};

/// The longest name of a file, in octets
const MAX_FILE_NAME: usize = 255;

/// The longest media type, in octets
const MAX_CONTENT_TYPE: usize = 127;

/// What attachments may be
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttachmentLimits {
    /// How many octets one may have. Default: 25 MiB
    pub max_octets: u64,
    /// Which media types they may have: `image/png`, `image/*`; an empty list allows all. Default: all
    pub types: Vec<String>,
}

impl Default for AttachmentLimits {
    fn default() -> Self {
        Self { max_octets: 25 * 1024 * 1024, types: Vec::new() }
    }
}

impl AttachmentLimits {
    /// Sets how many octets one may have
    #[must_use]
    pub const fn with_max_octets(mut self, octets: u64) -> Self {
        self.max_octets = octets;
        self
    }

    /// Allows only these media types; `image/*` stands for all that begin so
    #[must_use]
    pub fn with_types(mut self, types: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.types = types.into_iter().map(Into::into).collect();
        self
    }

    fn allow(&self, content_type: &str) -> bool {
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(beginning) => content_type.starts_with(beginning),
            None => content_type == pattern,
        };
        self.types.is_empty() || self.types.iter().any(fits)
    }
}

/// Why an attachment was not taken or given
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttachmentError {
    /// The gateway keeps no attachments
    #[error("this server takes no attachments")]
    Off,
    /// It is larger than the limit
    #[error("an attachment has at most {0} octets")]
    TooLarge(u64),
    /// Its media type is none, or not among those that are allowed
    #[error("attachments of this type are not taken")]
    Type,
    /// Its name cannot be that of a file
    #[error(
        "the name of a file has 1 to {MAX_FILE_NAME} octets, no control characters and no slashes"
    )]
    Name,
    /// It could not be written or read
    #[error(transparent)]
    Store(#[from] BlobError),
}

/// An attachment on its way in; dropped before it is finished, it leaves nothing
pub struct Upload {
    writer: Box<dyn BlobWriter>,
    /// Octets that it may still have
    left: u64,
    limit: u64,
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upload").field("left", &self.left).finish_non_exhaustive()
    }
}

impl Upload {
    /// How many octets have come
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.limit - self.left
    }

    /// Adds a part
    ///
    /// # Errors
    ///
    /// [`AttachmentError::TooLarge`], [`AttachmentError::Store`]: there is no use in going on.
    pub async fn write(&mut self, part: Bytes) -> Result<(), AttachmentError> {
        let left = self.left.checked_sub(part.len() as u64);
        self.left = left.ok_or(AttachmentError::TooLarge(self.limit))?;
        Ok(self.writer.write(part).await?)
    }

    /// Makes it durable. A message refers to it by the header `attachment`
    ///
    /// # Errors
    ///
    /// [`AttachmentError::Store`]: there is no such attachment then.
    pub async fn finish(self) -> Result<BlobId, AttachmentError> {
        Ok(self.writer.finish().await?)
    }
}

impl Gateway {
    /// Begins an attachment of `size` octets, if that is known, in a conversation that `sender` may send to.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Refused`], [`GatewayError::Attachment`].
    pub async fn upload(
        &self,
        sender: &UserName,
        conversation: &ConversationId,
        name: &str,
        content_type: &str,
        size: Option<u64>,
    ) -> Result<Upload, GatewayError> {
        let blobs = self.inner.blobs.as_ref().ok_or(AttachmentError::Off)?;
        let destination = conversation_destination(sender, conversation)?;
        self.inner.authorize(sender, Action::Send, &destination).await?;
        self.inner.check_speaking(conversation, sender).await?;
        let limits = &self.inner.settings.attachments;
        if size.is_some_and(|size| size > limits.max_octets) {
            return Err(AttachmentError::TooLarge(limits.max_octets).into());
        }
        let bad = |c: char| c.is_control() || matches!(c, '/' | '\\');
        if name.is_empty() || name.len() > MAX_FILE_NAME || name.contains(bad) {
            return Err(AttachmentError::Name.into());
        }
        let content_type = media_type(content_type).filter(|media_type| limits.allow(media_type));
        let content_type = content_type.ok_or(AttachmentError::Type)?;
        let about = BlobInfo::new(conversation.clone(), sender.clone(), name, content_type);
        let writer = blobs.create(about).await.map_err(AttachmentError::from)?;
        Ok(Upload { writer, left: limits.max_octets, limit: limits.max_octets })
    }

    /// An attachment, for somebody who may read its conversation.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Refused`] for whoever is no part of the conversation, whether there is such an attachment or not.
    pub async fn attachment(&self, user: &UserName, id: BlobId) -> Result<Blob, GatewayError> {
        const NONE: GatewayError =
            GatewayError::Refused(RefusedError::Denied("no such attachment"));
        let blobs = self.inner.blobs.as_ref().ok_or(AttachmentError::Off)?;
        let blob = blobs.open(id).await.map_err(AttachmentError::from)?.ok_or(NONE)?;
        let destination = conversation_destination(user, &blob.about.conversation)?;
        match self.inner.authorize(user, Action::Read, &destination).await {
            Ok(()) => Ok(blob),
            Err(GatewayError::Refused(RefusedError::Denied(_))) => Err(NONE),
            Err(error) => Err(error),
        }
    }
}

/// A media type without its parameters, in lower case
fn media_type(text: &str) -> Option<String> {
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_token = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b))
    };
    let (kind, of) = essence.split_once('/')?;
    (essence.len() <= MAX_CONTENT_TYPE && is_token(kind) && is_token(of)).then_some(essence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_is_taken_without_its_parameters() {
        assert_eq!(media_type("Image/PNG; q=1").as_deref(), Some("image/png"));
        for bad in ["", "image", "image/", "/png", "image/p ng", "a/b/c", "text/ht\nml"] {
            assert_eq!(media_type(bad), None, "{bad:?}");
        }
        assert_eq!(media_type(&format!("a/{}", "b".repeat(MAX_CONTENT_TYPE))), None);
    }

    #[test]
    fn only_the_types_on_the_list_are_allowed_if_there_is_one() {
        assert!(AttachmentLimits::default().allow("text/html"));
        let some = AttachmentLimits::default().with_types(["image/*", "application/pdf"]);
        assert!(some.allow("image/png") && some.allow("application/pdf"));
        assert!(!some.allow("text/html") && !some.allow("application/pdf2"));
    }
}
