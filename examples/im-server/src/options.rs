//! What can be set: each setting is defined once, here, for the settings file, the environment and the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, Command, FromArgMatches as _};
use gateway_core::{Rule, StorageRule};
use serde::{Deserialize, Serialize};

use crate::broker::BrokerKind;
use crate::value::{self, Discreet, Failure, NewUser, SigningSecret, StoreKind};

/// The settings of a server
///
/// The name of a setting in the file is its flag without the dashes. Settings that hold passwords are read by
/// [`Discreet`], and serialized without them.
#[derive(Args, Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Options {
    /// Address of the page, of REST and of the WebSocket endpoint /ws; port 0 picks a free one
    #[arg(
        help_heading = "Addresses",
        long,
        env = "IM_HTTP",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8080"
    )]
    pub(crate) http: SocketAddr,

    /// Address of plain STOMP over TCP; port 0 picks a free one
    #[arg(
        help_heading = "Addresses",
        long,
        env = "IM_STOMP",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:61613"
    )]
    pub(crate) stomp: SocketAddr,

    /// File with the TLS certificate of both addresses and those that vouch for it, in PEM; read again
    /// when it changes, and at SIGHUP
    #[arg(help_heading = "Addresses", long, env = "IM_TLS_CERTIFICATE", value_name = "FILE")]
    pub(crate) tls_certificate: Option<PathBuf>,

    /// File with the private key of the TLS certificate, in PEM
    #[arg(help_heading = "Addresses", long, env = "IM_TLS_KEY", value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Other origins whose pages may open the WebSocket, such as `https://chat.example`
    #[arg(
        help_heading = "Addresses",
        long = "allow-origin",
        env = "IM_ALLOW_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ','
    )]
    #[serde(rename = "allow-origin", deserialize_with = "value::list")]
    pub(crate) allow_origins: Vec<String>,

    /// Folder of everything that the server keeps; made if missing
    #[arg(
        help_heading = "Storage",
        long,
        env = "IM_DATA",
        value_name = "DIR",
        default_value = "./im-data"
    )]
    pub(crate) data: PathBuf,

    /// Message queue: `embedded` (a file in the data folder; `embedded:PATH` for another place),
    /// `memory` (lost at exit), or the URL of a server: amqp://, nats://, redis:// or stomp://
    #[arg(
        help_heading = "Storage",
        long,
        env = "IM_BROKER",
        hide_env_values = true,
        value_name = "KIND",
        default_value = "embedded",
        value_parser = Discreet::<BrokerKind>::new()
    )]
    #[serde(serialize_with = "value::shown")]
    pub(crate) broker: BrokerKind,

    /// Message and user store: `sqlite` (a file in the data folder), `memory` (lost at exit), or the
    /// URL of a PostgreSQL database: postgres://
    #[arg(
        help_heading = "Storage",
        long,
        env = "IM_STORE",
        hide_env_values = true,
        value_name = "KIND",
        default_value = "sqlite",
        value_parser = Discreet::<StoreKind>::new()
    )]
    #[serde(serialize_with = "value::shown")]
    pub(crate) store: StoreKind,

    /// Days that messages are kept; 0 for good
    #[arg(
        help_heading = "Storage",
        long,
        env = "IM_KEEP_DAYS",
        value_name = "DAYS",
        default_value_t = 0
    )]
    pub(crate) keep_days: u32,

    /// Messages that are kept of each conversation, the last ones; 0 for all
    #[arg(
        help_heading = "Storage",
        long,
        env = "IM_KEEP_MESSAGES",
        value_name = "COUNT",
        default_value_t = 0
    )]
    pub(crate) keep_messages: u64,

    /// How much is stored of which conversations, the first rule that fits decides: `metadata direct:*`,
    /// `nothing group:secret-*`; everything of all else
    #[arg(
        help_heading = "Storage",
        long,
        env = "IM_STORE_ONLY",
        value_name = "RULE",
        value_delimiter = ';'
    )]
    #[serde(deserialize_with = "value::list")]
    pub(crate) store_only: Vec<StorageRule>,

    /// Largest attachment in MiB; 0 for no attachments
    #[arg(
        help_heading = "Storage",
        long,
        env = "IM_MAX_ATTACHMENT",
        value_name = "MIB",
        default_value_t = 25
    )]
    pub(crate) max_attachment: u32,

    /// Users to make at start if missing [env: IM_USER, several separated by blanks]
    ///
    /// The command line of a process can be read by every user of its machine: for passwords that
    /// matter use the environment variable, or sign up on the page.
    #[arg(
        help_heading = "People",
        long = "user",
        value_name = "NAME:PASSWORD",
        value_parser = Discreet::<NewUser>::new()
    )]
    #[serde(rename = "user", deserialize_with = "value::list")]
    pub(crate) users: Vec<NewUser>,

    /// Refuse sign-up: only users that exist can sign in
    #[arg(
        help_heading = "People",
        long,
        env = "IM_NO_SIGNUP",
        value_name = "BOOL",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_parser = BoolishValueParser::new()
    )]
    pub(crate) no_signup: bool,

    /// Users who may make users, keys and webhooks over REST
    #[arg(
        help_heading = "People",
        long = "admin",
        env = "IM_ADMIN",
        value_name = "NAME",
        value_delimiter = ','
    )]
    #[serde(rename = "admin", deserialize_with = "value::list")]
    pub(crate) admins: Vec<String>,

    /// File with the key that tokens are signed with (default: token.key in the data folder); several
    /// servers that share a database need the same one
    #[arg(help_heading = "People", long, env = "IM_TOKEN_KEY", value_name = "FILE")]
    pub(crate) token_key: Option<PathBuf>,

    /// Issuer of tokens that are taken beside those of this server, as their `iss` says it; such as
    /// `https://id.example`. Its users are made when they first sign in
    #[arg(help_heading = "Identity", long, env = "IM_TOKEN_ISSUER", value_name = "ISSUER")]
    pub(crate) token_issuer: Option<String>,

    /// URL of the issuer's public keys (`jwks_uri`)
    #[arg(help_heading = "Identity", long, env = "IM_TOKEN_KEYS", value_name = "URL")]
    pub(crate) token_keys: Option<String>,

    /// Audience of the issuer's tokens: one of their `aud`
    #[arg(
        help_heading = "Identity",
        long,
        env = "IM_TOKEN_AUDIENCE",
        value_name = "AUDIENCE",
        default_value = "im-server"
    )]
    pub(crate) token_audience: String,

    /// Claim of the issuer's tokens that names the user
    #[arg(
        help_heading = "Identity",
        long,
        env = "IM_TOKEN_USER",
        value_name = "CLAIM",
        default_value = "sub"
    )]
    pub(crate) token_user: String,

    /// URL that is asked who somebody is, before the passwords of this server are; users it names are made
    #[arg(help_heading = "Identity", long, env = "IM_AUTHENTICATOR", value_name = "URL")]
    pub(crate) authenticator: Option<String>,

    /// Secret that calls to the authenticator are signed with, as webhooks are: whsec_ and base64
    #[arg(
        help_heading = "Identity",
        long,
        env = "IM_AUTHENTICATOR_SECRET",
        hide_env_values = true,
        value_name = "SECRET",
        value_parser = Discreet::<SigningSecret>::new()
    )]
    pub(crate) authenticator_secret: Option<SigningSecret>,

    /// Name of a cookie that signs pages of this server in, REST and WebSocket: `__Host-im`, for example
    #[arg(help_heading = "Identity", long, env = "IM_COOKIE", value_name = "NAME")]
    pub(crate) cookie: Option<String>,

    /// Let in who shows no credentials, as a guest who may do this, written as for --allow:
    /// `subscribe /topic/news.#`
    #[arg(
        help_heading = "Identity",
        long = "guest",
        env = "IM_GUEST",
        value_name = "RULE",
        value_delimiter = ';'
    )]
    #[serde(rename = "guest", deserialize_with = "value::list")]
    pub(crate) guests: Vec<Rule>,

    /// Let every signed-in user use every /queue and /topic, as a fresh RabbitMQ does
    #[arg(
        help_heading = "Permissions and limits",
        long,
        env = "IM_OPEN",
        value_name = "BOOL",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_parser = BoolishValueParser::new()
    )]
    pub(crate) open: bool,

    /// What users may do with queues, topics and user destinations, such as
    /// `subscribe /topic/news.#`, `newsroom: send /topic/news.#`, `send,subscribe /queue/{user}.*`
    #[arg(
        help_heading = "Permissions and limits",
        long,
        env = "IM_ALLOW",
        value_name = "RULE",
        value_delimiter = ';'
    )]
    #[serde(deserialize_with = "value::list")]
    pub(crate) allow: Vec<Rule>,

    /// REST calls a second that a user or a key may make in the long run, ten times as many at once, and four
    /// times as many from one address; 0 for no limit
    #[arg(
        help_heading = "Permissions and limits",
        long,
        env = "IM_REST_RATE",
        value_name = "CALLS",
        default_value_t = 50
    )]
    pub(crate) rest_rate: u32,

    /// Connections at most, HTTP and STOMP together; 0 for as many as come
    #[arg(
        help_heading = "Permissions and limits",
        long,
        env = "IM_MAX_CONNECTIONS",
        value_name = "COUNT",
        default_value_t = 100_000
    )]
    pub(crate) max_connections: usize,

    /// Connections from one address at most, which of IPv6 is a /64; 0 for as many as come. A proxy makes all
    /// clients one address
    #[arg(
        help_heading = "Permissions and limits",
        long,
        env = "IM_MAX_CONNECTIONS_PER_ADDRESS",
        value_name = "COUNT",
        default_value_t = 0
    )]
    pub(crate) max_connections_per_address: usize,

    /// Let webhooks call loopback, private and link-local addresses
    #[arg(
        help_heading = "Programs of others",
        long,
        env = "IM_WEBHOOKS_PRIVATE",
        value_name = "BOOL",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_parser = BoolishValueParser::new()
    )]
    pub(crate) webhooks_private: bool,

    /// URL that is asked about each message before it is sent, and may change or refuse it
    #[arg(help_heading = "Programs of others", long, env = "IM_INTERCEPTOR", value_name = "URL")]
    pub(crate) interceptor: Option<String>,

    /// What becomes of messages while the interceptor does not answer: `closed` refuses them for now, `open` lets
    /// them pass
    #[arg(
        help_heading = "Programs of others",
        long,
        env = "IM_INTERCEPTOR_FAILURE",
        value_name = "MODE",
        value_enum,
        hide_possible_values = true,
        default_value = "closed"
    )]
    pub(crate) interceptor_failure: Failure,

    /// Secret that calls to the interceptor are signed with, as webhooks are: whsec_ and base64
    #[arg(
        help_heading = "Programs of others",
        long,
        env = "IM_INTERCEPTOR_SECRET",
        hide_env_values = true,
        value_name = "SECRET",
        value_parser = Discreet::<SigningSecret>::new()
    )]
    pub(crate) interceptor_secret: Option<SigningSecret>,

    /// URL that is told who was away when something was said to them, for push notifications
    #[arg(help_heading = "Programs of others", long, env = "IM_NOTIFIER", value_name = "URL")]
    pub(crate) notifier: Option<String>,

    /// Secret that calls to the notifier are signed with, as webhooks are: whsec_ and base64
    #[arg(
        help_heading = "Programs of others",
        long,
        env = "IM_NOTIFIER_SECRET",
        hide_env_values = true,
        value_name = "SECRET",
        value_parser = Discreet::<SigningSecret>::new()
    )]
    pub(crate) notifier_secret: Option<SigningSecret>,

    /// Seconds within which sessions are ended at shutdown, each at a moment of its own; with few of them it is quicker:
    /// a thousand in a second
    #[arg(
        help_heading = "Running",
        long,
        env = "IM_DRAIN",
        value_name = "SECONDS",
        default_value_t = 15
    )]
    pub(crate) drain: u32,

    /// What is logged to standard error, for example `debug` or `gateway_core=trace`
    #[arg(
        help_heading = "Running",
        long,
        env = "IM_LOG",
        value_name = "FILTER",
        default_value = "info"
    )]
    pub(crate) log: String,
}

impl Options {
    /// A command with the flags of all settings.
    pub(crate) fn flags() -> Command {
        Self::augment_args(Command::new("im-server"))
    }
}

impl Default for Options {
    /// What is in force where nothing is said.
    #[allow(clippy::expect_used, reason = "the defaults are constants, and tested")]
    fn default() -> Self {
        let no_environment = Self::flags().mut_args(|flag| flag.env(None::<&str>));
        let matches = no_environment.get_matches_from(["im-server"]);
        Self::from_arg_matches(&matches).expect("the defaults are valid")
    }
}
