//! Who is let in, beside those with a password or a token of this server.

use std::io;
use std::sync::Arc;

use gateway_core::{
    AnonymousAuthenticator, AttemptLimiter, AuthenticatorChain, Clock, Directory,
    HttpAuthenticator, HttpClient, InvalidCookie, InvalidSecret, InvalidUrl, IssuerAuthenticator,
    JwtAuthenticator, KnownUsers, PasswordAuthenticator, PasswordHasher, Reach,
    RememberingDirectory, RemoteKeys, Secret, SessionCookie,
};
use stomp_ws::OriginPolicy;

use crate::options::Options;

/// What the settings say about it.
#[derive(Debug)]
pub(crate) struct Identity {
    issuer: Option<IssuerAuthenticator>,
    endpoint: Option<HttpAuthenticator>,
    guests: bool,
    pub(crate) cookie: Option<SessionCookie>,
}

/// A setting that cannot be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidIdentity {
    #[error("--token-keys: {0}")]
    Keys(InvalidUrl),
    #[error("--token-issuer and --token-keys belong together")]
    HalfAnIssuer,
    #[error("--authenticator: {0}")]
    Endpoint(InvalidUrl),
    #[error("--authenticator-secret: {0}")]
    Secret(#[from] InvalidSecret),
    #[error("--cookie: {0}")]
    Cookie(#[from] InvalidCookie),
    #[error(
        "with --token-issuer or --authenticator there is no sign-up, or people could take the names of others: set \
         --no-signup"
    )]
    SignUp,
    #[error("cannot set up TLS: {0}")]
    Client(#[from] io::Error),
}

impl Identity {
    pub(crate) fn new(options: &Options, origins: &OriginPolicy) -> Result<Self, InvalidIdentity> {
        // Who runs the server names what is called: that may well be a neighbour.
        let client = || HttpClient::new(Reach::Everywhere);
        let issuer = match (&options.token_issuer, &options.token_keys) {
            (Some(issuer), Some(url)) => {
                let url = url.parse().map_err(InvalidIdentity::Keys)?;
                let keys = RemoteKeys::new(client()?, url);
                let issuer = IssuerAuthenticator::new(keys, issuer, &options.token_audience);
                Some(issuer.with_user_claim(&options.token_user))
            }
            (None, None) => None,
            _ => return Err(InvalidIdentity::HalfAnIssuer),
        };
        let endpoint = match &options.authenticator {
            Some(url) => {
                let url = url.parse().map_err(InvalidIdentity::Endpoint)?;
                let limiter = Arc::new(AttemptLimiter::new(Clock::system()));
                let endpoint = HttpAuthenticator::new(client()?, url, limiter);
                Some(match &options.authenticator_secret {
                    Some(secret) => endpoint.with_secret(Secret::new(secret.0.as_str()))?,
                    None => endpoint,
                })
            }
            None => None,
        };
        if (issuer.is_some() || endpoint.is_some()) && !options.no_signup {
            return Err(InvalidIdentity::SignUp);
        }
        let cookie = options.cookie.as_ref();
        let cookie = cookie.map(|name| SessionCookie::new(name, origins.clone())).transpose()?;
        Ok(Self { issuer, endpoint, guests: !options.guests.is_empty(), cookie })
    }

    /// Everybody who is asked, in order.
    pub(crate) fn chain(
        &self,
        directory: &Arc<dyn Directory>,
        hasher: &PasswordHasher,
        tokens: &JwtAuthenticator,
    ) -> AuthenticatorChain {
        let known: Arc<dyn Directory> = Arc::new(RememberingDirectory::new(Arc::clone(directory)));
        let limiter = Arc::new(AttemptLimiter::new(Clock::system()));
        let passwords = PasswordAuthenticator::new(Arc::clone(directory), hasher.clone(), limiter);
        // A token may be older than the directory, whose users may be gone with the memory. Tokens first: looking at one
        // costs far less than hashing a password.
        let tokens = KnownUsers::new(tokens.clone(), Arc::clone(&known));
        let mut chain = AuthenticatorChain::new().then(tokens);
        if let Some(issuer) = &self.issuer {
            chain = chain.then(KnownUsers::new(issuer.clone(), Arc::clone(&known)).enrolling());
        }
        if self.guests {
            chain = chain.then(AnonymousAuthenticator::new());
        }
        if let Some(endpoint) = &self.endpoint {
            chain = chain.then(KnownUsers::new(endpoint.clone(), known).enrolling());
        }
        chain.then(passwords)
    }
}
