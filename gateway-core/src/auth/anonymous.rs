use async_trait::async_trait;
use uuid::Uuid;

use super::{AuthError, Authenticator, Credentials, Principal};
use crate::names::UserName;

/// What the name of a guest begins with; 32 hexadecimal digits follow
const GUEST: &str = "guest-";

/// Lets in who shows no credentials at all, as a guest with a name that is made up
///
/// A guest is a new one in each session, and nobody else can have the name: users of this form are not made. What
/// guests may do is decided by the authorizer of [`GatewayBuilder::guests`](crate::GatewayBuilder::guests), which lets them
/// do next to nothing unless you say more. They are in no directory, so there is no inbox for them, and nobody sees their
/// presence. REST has no guests.
///
/// The last one of a chain.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct AnonymousAuthenticator;

impl AnonymousAuthenticator {
    /// Lets in whoever shows nothing
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

/// Whether this is the name of a guest.
pub(crate) fn is_guest(user: &UserName) -> bool {
    user.as_str().strip_prefix(GUEST).is_some_and(|rest| {
        rest.len() == 32 && rest.bytes().all(|octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f'))
    })
}

#[async_trait]
impl Authenticator for AnonymousAuthenticator {
    async fn authenticate(
        &self,
        credentials: &Credentials,
    ) -> Result<Option<Principal>, AuthError> {
        if credentials.login.as_deref().is_some_and(|login| !login.is_empty())
            || !credentials.secret.expose().is_empty()
        {
            return Ok(None);
        }
        let name = format!("{GUEST}{}", Uuid::new_v4().simple());
        Ok(UserName::new(&name).ok().map(Principal::new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_who_shows_nothing_is_a_guest_and_each_time_another_one() {
        let ask = async |login, passcode| {
            AnonymousAuthenticator.authenticate(&Credentials::connect(login, passcode)).await
        };
        let first = ask(None, "").await.unwrap().unwrap();
        let second = ask(Some(""), "").await.unwrap().unwrap();
        assert_ne!(first, second);
        assert!(is_guest(&first.user) && is_guest(&second.user));
        for (login, passcode) in [(Some("alice"), ""), (None, "x"), (Some("alice"), "x")] {
            assert_eq!(ask(login, passcode).await, Ok(None));
        }
        for name in ["guest", "guest-", "guest-1", &format!("guest-{}", "G".repeat(32)), "alice"] {
            assert!(!is_guest(&UserName::new(name).unwrap()), "{name}");
        }
    }
}
