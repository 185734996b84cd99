//! An instant-messaging gateway as a library: sessions, routing, inboxes, storage, REST.

mod auth;
mod clock;
mod directory;
mod names;
mod store;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;

pub use auth::{
    AuthError, Authenticator, AuthenticatorChain, Credentials, PasswordHash, Principal, Secret,
};
pub use clock::Clock;
pub use directory::{
    Device, Directory, DirectoryError, MAX_DEVICES, Member, MemoryDirectory, Registration, Role,
    UnknownRole,
};
pub use names::{
    ConversationId, ConversationKind, DeviceName, GroupName, MAX_NAME_CHARS, NameError, UserName,
};
pub use store::{
    Appended, ConversationSummary, DEDUPE_MILLIS, Epoch, InvalidMessageId, MAX_KEY_OCTETS, Marker,
    Marks, MemoryStore, MessageId, MessageKind, MessageStore, NewMessage, OutboxId, Page, Position,
    StoreError, StoredMessage, UnknownMessageKind, Unpublished, UnreadRange,
};
#[cfg(feature = "sqlite")]
pub use store::{SqliteOptions, SqliteStore};
