use std::fmt;

/// Which web pages may open a WebSocket (W-10; cross-site WebSocket hijacking)
///
/// A browser sends the `Origin` of the page that opens the connection, and sends the user's cookies whatever the
/// page. Programs that are no browsers send none.
///
/// The default, [`same_origin`](Self::same_origin), lets in the pages which this server itself serves, and programs
/// without an `Origin`. It compares with the `Host` header, so a server that browsers reach in a private network
/// should rather list its origins: a name that an attacker controls may resolve to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginPolicy {
    any: bool,
    same_origin: bool,
    required: bool,
    allowed: Vec<Origin>,
}

impl OriginPolicy {
    /// Pages of this server (scheme `http` or `https`, host and port as in the `Host` header) and no others.
    #[must_use]
    pub const fn same_origin() -> Self {
        Self { any: false, same_origin: true, required: false, allowed: Vec::new() }
    }

    /// Only the origins added with [`allow`](Self::allow).
    #[must_use]
    pub const fn listed() -> Self {
        Self { any: false, same_origin: false, required: false, allowed: Vec::new() }
    }

    /// Every page on the web, `null` origins too. Safe only where nothing in the upgrade request signs the user in.
    #[must_use]
    pub const fn any() -> Self {
        Self { any: true, same_origin: false, required: false, allowed: Vec::new() }
    }

    /// Whether it lets in every page on the web.
    #[must_use]
    pub const fn allows_any(&self) -> bool {
        self.any
    }

    /// Also lets in pages of this origin, such as `https://chat.example` or `http://localhost:3000`.
    ///
    /// # Errors
    ///
    /// [`InvalidOrigin`] if it is not a scheme and a host with an optional port: no path, no wildcard.
    pub fn allow(mut self, origin: &str) -> Result<Self, InvalidOrigin> {
        let parsed = Origin::parse(origin).ok_or_else(|| InvalidOrigin(origin.to_owned()))?;
        self.allowed.push(parsed);
        Ok(self)
    }

    /// Whether a request without `Origin` is refused. Default: it is let in, since only browsers send one.
    #[must_use]
    pub const fn require_origin(mut self, required: bool) -> Self {
        self.required = required;
        self
    }

    /// Decides on one request by its `Origin` and `Host` headers.
    ///
    /// # Errors
    ///
    /// [`OriginRefused`]: the request must be answered with 403 and not be upgraded.
    pub fn check(&self, origin: Option<&str>, host: Option<&str>) -> Result<(), OriginRefused> {
        let Some(origin) = origin else {
            return if self.required { Err(OriginRefused::Missing) } else { Ok(()) };
        };
        if self.any {
            return Ok(());
        }
        let refused = || OriginRefused::NotAllowed(origin.chars().take(256).collect());
        let parsed = Origin::parse(origin).ok_or_else(refused)?;
        let own = || host.is_some_and(|host| parsed.is_served_by(host));
        if self.allowed.contains(&parsed) || (self.same_origin && own()) {
            Ok(())
        } else {
            Err(refused())
        }
    }
}

impl Default for OriginPolicy {
    fn default() -> Self {
        Self::same_origin()
    }
}

/// The request comes from a web page that the [`OriginPolicy`] does not allow
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OriginRefused {
    /// Pages of this origin are not allowed.
    #[error("the origin {0:?} is not allowed here")]
    NotAllowed(String),
    /// The policy wants an `Origin` header and there was none.
    #[error("an Origin header is required here")]
    Missing,
}

/// Not an origin: it must look like `https://host` or `http://host:port`
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an origin such as https://chat.example or http://localhost:3000")]
pub struct InvalidOrigin(String);

#[derive(Clone, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let known = scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        if scheme.is_empty() || !known {
            return None;
        }
        let scheme = scheme.to_ascii_lowercase();
        let (host, port) = split_authority(authority)?;
        let port = port.or_else(|| default_port(&scheme));
        Some(Self { scheme, host, port })
    }

    fn is_served_by(&self, host_header: &str) -> bool {
        let Some((host, port)) = split_authority(host_header) else { return false };
        matches!(self.scheme.as_str(), "http" | "https")
            && self.host == host
            && self.port == port.or_else(|| default_port(&self.scheme))
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// Host in lower case and port of `host`, `host:port`, `[v6]` or `[v6]:port`.
fn split_authority(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok()?)),
        _ => (authority, None),
    };
    let inner = host.strip_prefix('[').map_or(Some(host), |rest| rest.strip_suffix(']'))?;
    let bracketed = inner.len() != host.len();
    let fits = |b: u8| {
        b.is_ascii_alphanumeric()
            || b"-._".contains(&b)
            || (bracketed && b == b':')
            || !b.is_ascii()
    };
    if inner.is_empty() || !inner.bytes().all(fits) {
        return None;
    }
    Some((host.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(origin: &str, host: &str) -> bool {
        OriginPolicy::same_origin().check(Some(origin), Some(host)).is_ok()
    }

    /// W-10
    #[test]
    fn same_origin_is_host_and_port() {
        assert!(own("http://127.0.0.1:8080", "127.0.0.1:8080"));
        assert!(own("https://chat.example", "chat.example"));
        assert!(own("https://chat.example", "chat.example:443"));
        assert!(own("HTTPS://Chat.Example:443", "chat.example"));
        assert!(own("http://[::1]:8080", "[::1]:8080"));
        assert!(!own("http://127.0.0.1:8081", "127.0.0.1:8080"));
        assert!(!own("http://localhost:8080", "127.0.0.1:8080"));
        assert!(!own("http://chat.example", "chat.example:443"));
    }

    /// W-10, V-26
    #[test]
    fn foreign_and_null_origins_are_refused() {
        for origin in [
            "https://evil.example",
            "null",
            "",
            "https://good.example.evil.tld",
            "https://evil.tld/good.example",
            "https://good.example@evil.tld",
            "https://evilgood.example",
            "https://good.example:444",
            "https://good.example/",
            "file://",
            "https://good.example\u{0}",
        ] {
            let policy = OriginPolicy::listed().allow("https://good.example").unwrap();
            assert!(policy.check(Some(origin), Some("good.example")).is_err(), "{origin}");
            assert!(!own(origin, "good.example"), "{origin}");
        }
    }

    /// W-10
    #[test]
    fn a_listed_origin_must_match_scheme_host_and_port() {
        let policy = OriginPolicy::listed().allow("https://good.example").unwrap();
        assert!(policy.check(Some("https://good.example"), Some("other")).is_ok());
        assert!(policy.check(Some("https://good.example:443"), Some("other")).is_ok());
        assert!(policy.check(Some("http://good.example"), Some("good.example")).is_err());
    }

    /// W-10
    #[test]
    fn a_missing_origin_is_for_the_policy_to_decide() {
        assert!(OriginPolicy::default().check(None, Some("h")).is_ok());
        assert_eq!(
            OriginPolicy::default().require_origin(true).check(None, Some("h")),
            Err(OriginRefused::Missing)
        );
    }

    #[test]
    fn any_lets_everything_in() {
        assert!(OriginPolicy::any().check(Some("null"), None).is_ok());
    }

    #[test]
    fn what_is_no_origin_cannot_be_listed() {
        for text in
            ["*", "good.example", "https://good.example/chat", "https://*.example", "https://"]
        {
            assert!(OriginPolicy::listed().allow(text).is_err(), "{text}");
        }
    }
}
