use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::AuthError;
#[cfg(feature = "jwt")]
use super::Principal;

/// A text that no log may show
///
/// `Debug` hides it, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// What a client shows to be let in
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Credentials {
    /// The name he gives, as he wrote it
    pub login: Option<String>,
    /// A password or a token; from a `Bearer` header always a token
    pub secret: Secret,
    /// Whether `secret` can only be a token
    pub bearer: bool,
    /// Where the attempt comes from, to slow down guessing
    pub address: Option<IpAddr>,
}

impl Credentials {
    /// `login` and `passcode` of a CONNECT frame; a passcode that is a token needs no login
    #[must_use]
    pub fn connect(login: Option<&str>, passcode: &str) -> Self {
        Self {
            login: login.map(ToOwned::to_owned),
            secret: Secret::new(passcode),
            bearer: false,
            address: None,
        }
    }

    /// A token, of which nobody says whose it is
    #[must_use]
    pub fn bearer(token: &str) -> Self {
        Self { login: None, secret: Secret::new(token), bearer: true, address: None }
    }

    /// Whom a token names, unless the login beside it is somebody else's
    #[cfg(feature = "jwt")]
    pub(super) fn naming(&self, principal: Principal) -> Result<Principal, AuthError> {
        match &self.login {
            Some(login) if login != principal.user.as_str() => Err(AuthError::Failed),
            _ => Ok(principal),
        }
    }

    /// The value of an HTTP `Authorization` header: `Basic` (RFC 7617, UTF-8) or `Bearer` (RFC 6750)
    ///
    /// # Errors
    ///
    /// [`AuthError::Failed`] for another scheme or a value that is not well formed.
    pub fn authorization(value: &str) -> Result<Self, AuthError> {
        let (scheme, rest) = value.split_once(' ').ok_or(AuthError::Failed)?;
        let rest = rest.trim_matches(' ');
        if scheme.eq_ignore_ascii_case("bearer") {
            if rest.is_empty() {
                return Err(AuthError::Failed);
            }
            return Ok(Self::bearer(rest));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(AuthError::Failed);
        }
        let pair = STANDARD.decode(rest).map_err(|_| AuthError::Failed)?;
        let pair = String::from_utf8(pair).map_err(|_| AuthError::Failed)?;
        let (login, password) = pair.split_once(':').ok_or(AuthError::Failed)?;
        Ok(Self::connect(Some(login), password))
    }

    /// Sets where the attempt comes from
    #[must_use]
    pub const fn with_address(mut self, address: IpAddr) -> Self {
        self.address = Some(address);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_and_bearer_values_are_read() {
        let basic = Credentials::authorization("Basic YWxpY2U6b3BlbjpzZXNhbWU=").unwrap();
        assert_eq!(basic, Credentials::connect(Some("alice"), "open:sesame"));
        let bearer = Credentials::authorization("bearer  a.b.c ").unwrap();
        assert_eq!((bearer.login, bearer.secret.expose(), bearer.bearer), (None, "a.b.c", true));
    }

    #[test]
    fn other_authorization_values_fail_with_the_one_text() {
        for value in [
            "",
            "Basic",
            "Basic ???",
            "Basic YWxpY2U=",
            "Basic /w==",
            "Digest x",
            "Bearer ",
            "a.b.c",
        ] {
            assert_eq!(Credentials::authorization(value), Err(AuthError::Failed), "{value:?}");
        }
        assert_eq!(AuthError::Failed.to_string(), "authentication failed");
    }

    /// V-32: credentials are not in the log.
    #[test]
    fn debug_does_not_show_the_secret() {
        let shown = format!("{:?}", Credentials::connect(Some("alice"), "open sesame"));
        assert!(shown.contains("alice") && !shown.contains("sesame"), "{shown}");
    }
}
