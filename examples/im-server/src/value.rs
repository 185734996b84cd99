//! The kinds of values that settings have, and how they are read and shown.

use std::ffi::OsStr;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Command, ValueEnum};
use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Parses a value that may hold a password: unlike clap's own, its errors do not repeat the value.
pub(crate) struct Discreet<T>(PhantomData<fn() -> T>);

impl<T> Discreet<T> {
    pub(crate) const fn new() -> Self {
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

/// Reads a list. A text in its place is refused without repeating it, as it may hold a password.
pub(crate) fn list<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    struct List<T>(PhantomData<fn() -> T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_str<E: de::Error>(self, _: &str) -> Result<Vec<T>, E> {
            Err(E::custom("expected a list: [\"...\"]"))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Vec<T>, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(items))
        }
    }

    deserializer.deserialize_any(List(PhantomData))
}

/// Writes a value as it is shown to people.
pub(crate) fn shown<S: Serializer>(
    value: &impl fmt::Display,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// A URL without what may be a password.
pub(crate) fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    match rest.rsplit_once('@') {
        _ if rest.contains('?') => format!("{scheme}://..."),
        Some((_, host)) => format!("{scheme}://...@{host}"),
        None => url.to_owned(),
    }
}

/// What `--store` names.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
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

impl fmt::Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Sqlite => f.write_str("sqlite"),
            Self::Postgres(url) => f.write_str(&without_password(url)),
        }
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
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
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

impl Serialize for NewUser {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}:...", self.name))
    }
}

/// A secret that calls are signed with.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct SigningSecret(pub(crate) String);

impl FromStr for SigningSecret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(..)")
    }
}

impl Serialize for SigningSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("whsec_...")
    }
}

/// What becomes of what cannot be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Failure {
    Open,
    Closed,
}

/// The file's values are read as those of the command line.
macro_rules! from_text {
    ($($kind:ty),+) => {
        $(impl TryFrom<String> for $kind {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        })+
    };
}

from_text!(crate::broker::BrokerKind, StoreKind, NewUser, SigningSecret);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::BrokerKind;

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

    #[test]
    fn a_url_is_shown_without_its_password() {
        for (url, shown) in [
            ("postgres://host/db", "postgres://host/db"),
            ("postgres://u:hunter2@host/db", "postgres://...@host/db"),
            ("postgres://u:hunt/er2@host/db", "postgres://...@host/db"),
            ("postgres://u:hunt@er2@host/db", "postgres://...@host/db"),
            ("postgres://host/db?password=hun@ter2", "postgres://..."),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }
}
