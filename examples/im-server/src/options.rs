//! The command line.

use std::ffi::OsStr;
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Command, CommandFactory as _, Parser};

use crate::broker::BrokerKind;

/// An instant-messaging server: web chat, STOMP over WebSocket and TCP, and REST.
///
/// Each option can be given as an environment variable as well; the command line wins.
/// IM_LOG sets what is logged to standard error (for example IM_LOG=debug or
/// IM_LOG=gateway_core=trace; default: info).
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Options {
    /// Address of the page, of REST and of the WebSocket endpoint /ws; port 0 picks a free one
    #[arg(long, env = "IM_HTTP", value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) http: SocketAddr,

    /// Address of plain STOMP over TCP; port 0 picks a free one
    #[arg(long, env = "IM_STOMP", value_name = "ADDRESS", default_value = "127.0.0.1:61613")]
    pub(crate) stomp: SocketAddr,

    /// Folder of everything that the server keeps; made if missing
    #[arg(long, env = "IM_DATA", value_name = "DIR", default_value = "./im-data")]
    pub(crate) data: PathBuf,

    /// Message queue: `embedded` (a file in the data folder; `embedded:PATH` for another place),
    /// `memory` (lost at exit), or the URL of a server: amqp://, nats://, redis:// or stomp://
    #[arg(
        long,
        env = "IM_BROKER",
        hide_env_values = true,
        value_name = "KIND",
        default_value = "embedded",
        value_parser = Discreet::<BrokerKind>::new()
    )]
    pub(crate) broker: BrokerKind,

    /// Message and user store: `sqlite` (a file in the data folder), `memory` (lost at exit), or the
    /// URL of a PostgreSQL database: postgres://
    #[arg(
        long,
        env = "IM_STORE",
        hide_env_values = true,
        value_name = "KIND",
        default_value = "sqlite",
        value_parser = Discreet::<StoreKind>::new()
    )]
    pub(crate) store: StoreKind,

    /// File with the key that tokens are signed with (default: token.key in the data folder); several
    /// servers that share a database need the same one
    #[arg(long, env = "IM_TOKEN_KEY", value_name = "FILE")]
    pub(crate) token_key: Option<PathBuf>,

    /// User to make at start if missing; repeatable [env: IM_USER, several separated by blanks]
    ///
    /// The command line of a process can be read by every user of its machine: for passwords that
    /// matter use the environment variable, or sign up on the page.
    #[arg(
        long = "user",
        value_name = "NAME:PASSWORD",
        value_parser = Discreet::<NewUser>::new()
    )]
    pub(crate) users: Vec<NewUser>,

    /// Let every signed-in user use every /queue and /topic, as a fresh RabbitMQ does
    #[arg(long, env = "IM_OPEN")]
    pub(crate) open: bool,

    /// Refuse sign-up: only users made by --user can sign in
    #[arg(long, env = "IM_NO_SIGNUP")]
    pub(crate) no_signup: bool,

    /// User who may make users, keys and webhooks over REST; repeatable
    #[arg(long = "admin", env = "IM_ADMIN", value_name = "NAME", value_delimiter = ',')]
    pub(crate) admins: Vec<String>,

    /// REST calls a second that a user or a key may make in the long run, ten times as many at once, and four
    /// times as many from one address; 0 for no limit
    #[arg(long, env = "IM_REST_RATE", value_name = "CALLS", default_value_t = 50)]
    pub(crate) rest_rate: u32,

    /// Let webhooks call loopback, private and link-local addresses
    #[arg(long, env = "IM_WEBHOOKS_PRIVATE")]
    pub(crate) webhooks_private: bool,

    /// Days that messages are kept; 0 for good
    #[arg(long, env = "IM_KEEP_DAYS", value_name = "DAYS", default_value_t = 0)]
    pub(crate) keep_days: u32,

    /// Messages that are kept of each conversation, the last ones; 0 for all
    #[arg(long, env = "IM_KEEP_MESSAGES", value_name = "COUNT", default_value_t = 0)]
    pub(crate) keep_messages: u64,

    /// Largest attachment in MiB; 0 for no attachments
    #[arg(long, env = "IM_MAX_ATTACHMENT", value_name = "MIB", default_value_t = 25)]
    pub(crate) max_attachment: u32,

    /// Another origin whose pages may open the WebSocket, such as `https://chat.example`; repeatable
    #[arg(
        long = "allow-origin",
        env = "IM_ALLOW_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ','
    )]
    pub(crate) allow_origins: Vec<String>,
}

impl Options {
    /// The options of this process: command line, then environment, then defaults.
    ///
    /// Ends the process, with a text that says what is wrong, where they cannot be understood.
    pub(crate) fn from_process() -> Self {
        let mut options = Self::parse();
        // Not by clap: it would show the passwords in `--help`.
        if options.users.is_empty()
            && let Ok(users) = std::env::var("IM_USER")
        {
            match users.split_whitespace().map(str::parse).collect() {
                Ok(users) => options.users = users,
                Err(error) => {
                    let error = format!("invalid value in IM_USER: {error}");
                    Self::command().error(ErrorKind::ValueValidation, error).exit()
                }
            }
        }
        options
    }
}

/// Parses a value that may hold a password: unlike clap's own, its errors do not repeat the value.
struct Discreet<T>(PhantomData<fn() -> T>);

impl<T> Discreet<T> {
    const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Clone for Discreet<T> {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl<T> TypedValueParser for Discreet<T>
where
    T: FromStr<Err = String> + Clone + Send + Sync + 'static,
{
    type Value = T;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<T, clap::Error> {
        let text = value.to_str().ok_or_else(|| "not UTF-8".to_owned());
        text.and_then(str::parse).map_err(|problem: String| {
            let argument = argument.map(ToString::to_string).unwrap_or_default();
            let text = format!("invalid value for {argument}: {problem}");
            command.clone().error(ErrorKind::ValueValidation, text)
        })
    }
}

/// What `--store` names.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum StoreKind {
    Memory,
    Sqlite,
    /// By its URL.
    Postgres(String),
}

impl fmt::Debug for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "Memory",
            Self::Sqlite => "Sqlite",
            // The URL may hold a password.
            Self::Postgres(_) => "Postgres(..)",
        })
    }
}

impl FromStr for StoreKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "memory" => Ok(Self::Memory),
            "sqlite" => Ok(Self::Sqlite),
            url if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                Ok(Self::Postgres(url.to_owned()))
            }
            other => Err(unknown_backend(other, "memory, sqlite, postgres://")),
        }
    }
}

/// Never repeats the text itself: a URL may carry a password.
pub(crate) fn unknown_backend(text: &str, known: &str) -> String {
    match text.split_once("://") {
        Some((scheme, _)) => {
            format!("this server is built without a backend for {scheme}:// (it has: {known})")
        }
        None => format!("unknown kind (this server has: {known})"),
    }
}

/// A user to make at start.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct NewUser {
    pub(crate) name: String,
    pub(crate) password: String,
}

impl fmt::Debug for NewUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewUser").field("name", &self.name).finish_non_exhaustive()
    }
}

impl FromStr for NewUser {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some((name, password)) if !name.is_empty() && !password.is_empty() => {
                Ok(Self { name: name.to_owned(), password: password.to_owned() })
            }
            _ => Err("expected NAME:PASSWORD, neither of them empty".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_definition_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn a_password_may_hold_colons_and_stays_out_of_debug_output() {
        let user: NewUser = "alice:a:b".parse().expect("valid");
        assert_eq!((user.name.as_str(), user.password.as_str()), ("alice", "a:b"));
        assert!(!format!("{user:?}").contains("a:b"));
    }

    #[test]
    fn a_user_without_name_or_password_is_refused() {
        for text in ["alice", "alice:", ":secret", ""] {
            assert!(text.parse::<NewUser>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_backend_that_is_not_built_in_is_named_without_its_credentials() {
        let error = "kafka://u:hunter2@localhost".parse::<BrokerKind>().expect_err("no kafka");
        assert!(error.contains("kafka://") && error.contains("embedded"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
        let error = "mysql://u:hunter2@h/db".parse::<StoreKind>().expect_err("no mysql");
        assert!(error.contains("sqlite") && !error.contains("hunter2"), "{error}");
        let store: StoreKind = "postgres://u:hunter2@h/db".parse().expect("a URL");
        assert_eq!(format!("{store:?}"), "Postgres(..)");
    }
}
