//! An instant-messaging gateway as a library: sessions, routing, inboxes, storage, REST.

mod address;
mod archive;
mod attachments;
mod auth;
mod authorizer;
mod blob;
mod builder;
mod changes;
mod clock;
mod connections;
mod consumed;
mod destination;
mod directory;
mod drain;
mod error;
mod feed;
mod gateway;
mod groups;
#[cfg(feature = "webhooks")]
mod http_client;
mod hub;
mod inbox;
mod interceptor;
#[cfg(feature = "rest")]
mod keys;
mod kick;
mod lock;
mod metrics;
mod names;
mod notifier;
mod outgoing;
mod people;
mod periodic;
mod pipeline;
mod presence;
#[cfg(feature = "rest")]
mod rate;
mod registry;
#[cfg(feature = "rest")]
mod rest;
mod retention;
mod search;
mod send;
mod serve;
mod session;
mod sessions;
mod store;
mod submit;
mod sweep;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
mod trace;
#[cfg(feature = "webhooks")]
mod webhooks;

pub use archive::{Export, Import, ImportError, ImportFault, MAX_IMPORT_LINE};
pub use attachments::{AttachmentError, AttachmentLimits, Upload};
pub use auth::{
    AnonymousAuthenticator, AttemptLimiter, AuthError, Authenticator, AuthenticatorChain,
    Credentials, KnownUsers, MAX_PASSWORD_OCTETS, PasswordAuthenticator, PasswordError,
    PasswordHash, PasswordHasher, Principal, Secret,
};
#[cfg(feature = "webhooks")]
pub use auth::{HttpAuthenticator, RemoteKeys};
#[cfg(feature = "jwt")]
pub use auth::{
    InvalidKeySet, IssuedToken, IssuerAuthenticator, IssuerKeys, JwtAuthenticator, JwtOptions,
    KeySet, ShortTokenKey, TokenKey,
};
pub use authorizer::{Action, Authorizer, Closed, InvalidRule, MembersOnly, Rule, Rules};
pub use blob::{
    Blob, BlobEntry, BlobError, BlobId, BlobInfo, BlobStore, BlobWriter, FolderBlobs,
    InvalidBlobId, MemoryBlobs,
};
pub use builder::{GatewayBuilder, Settings};
pub use clock::Clock;
pub use connections::{Admission, ConnectionLimits, ConnectionRefused};
pub use destination::{Destination, DestinationError, MAX_DESTINATION, UserDestination};
pub use directory::{
    Contact, Device, Directory, DirectoryError, GroupSettings, HistoryFrom, MAX_BLOCKED,
    MAX_DEVICES, MAX_TITLE_OCTETS, Member, MemoryDirectory, Registration, RememberingDirectory,
    Role, UnknownHistoryFrom, UnknownRole,
};
pub use drain::Drain;
pub use error::{GatewayError, RefusedError};
pub use gateway::{Gateway, History};
#[cfg(feature = "webhooks")]
pub use http_client::{
    HttpAnswer, HttpClient, HttpError, InvalidSecret, InvalidUrl, OutgoingUrl, Reach,
};
pub use interceptor::{Draft, Interceptor};
#[cfg(feature = "webhooks")]
pub use interceptor::{FailMode, HttpInterceptor};
#[cfg(feature = "rest")]
pub use keys::{ApiKey, ApiKeys, MAX_LABEL_CHARS, NewApiKey, Scope, UnknownScope};
pub use names::{
    ConversationId, ConversationKind, DeviceName, EVERYBODY, GroupName, MAX_NAME_CHARS, NameError,
    UserName,
};
#[cfg(feature = "webhooks")]
pub use notifier::HttpNotifier;
pub use notifier::{LogNotifier, Notice, Notifier, NotifyError, NotifyOptions};
pub use pipeline::SendReceipt;
pub use presence::{MemoryPresence, Presence, PresenceStore};
#[cfg(feature = "rest")]
pub use rate::RateLimit;
pub use registry::{MemoryRegistry, Record, RecordKind, Registry};
#[cfg(feature = "rest")]
pub use rest::{
    InvalidCookie, RestApi, SessionCookie, operations, websocket, websocket_with_cookie,
};
pub use search::Found;
pub use send::{SendKind, SendRequest, Sent};
pub use store::{
    Appended, Change, ChangeError, ConversationCursor, ConversationSummary, Cut, DEDUPE_MILLIS,
    Epoch, Extent, Formatter, Imported, InvalidCursor, InvalidMessageId, InvalidSearch,
    InvalidStorageRule, Keep, MAX_KEY_OCTETS, MAX_PHRASES, MAX_QUERY_OCTETS, MAX_REACTION_OCTETS,
    MAX_REACTIONS, Marker, Marks, MemoryStore, MessageId, MessageKind, MessageStore, NewMessage,
    OutboxId, Page, Position, Reaction, Renewal, Retention, RetentionRules, Search, SearchCursor,
    SearchScope, SearchTerms, SharedOutbox, StoragePolicy, StorageRule, StorageRules, StoreError,
    StoredMessage, UnknownKeep, UnknownMessageKind, Unpublished, UnreadRange,
};
#[cfg(feature = "postgres")]
pub use store::{PostgresOptions, PostgresStore};
#[cfg(feature = "sqlite")]
pub use store::{SqliteOptions, SqliteStore};
#[cfg(feature = "webhooks")]
pub use webhooks::{
    EventKind, MAX_WEBHOOKS, NewWebhook, Webhook, WebhookError, WebhookOptions, WebhookStats,
    Webhooks,
};
