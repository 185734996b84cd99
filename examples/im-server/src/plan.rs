//! What the settings mean, tried as far as that touches nothing.

use std::io;

use gateway_core::{
    FailMode, HttpClient, HttpInterceptor, HttpNotifier, InvalidSecret, InvalidUrl, NameError,
    OutgoingUrl, PasswordError, Reach, Secret, UserName,
};
use stomp_ws::tls::{ServerTls, TlsError, TlsFiles};
use stomp_ws::{InvalidOrigin, OriginPolicy};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, ParseError};

use crate::identity::{Identity, InvalidIdentity};
use crate::options::Options;
use crate::value::Failure;

/// Settings that have been understood.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) options: Options,
    pub(crate) origins: OriginPolicy,
    /// With their passwords.
    pub(crate) users: Vec<(UserName, Secret)>,
    pub(crate) admins: Vec<UserName>,
    pub(crate) interceptor: Option<HttpInterceptor>,
    pub(crate) tls: Option<ServerTls>,
    pub(crate) identity: Identity,
    pub(crate) notifier: Option<HttpNotifier>,
}

/// A setting that cannot be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidSetting {
    #[error("--log: {0}")]
    Log(#[from] ParseError),
    #[error("--allow-origin: {0}")]
    Origin(#[from] InvalidOrigin),
    #[error("--user: {0}")]
    UserName(#[from] NameError),
    #[error("--user: {0}")]
    Password(#[from] PasswordError),
    #[error("--admin: {0}")]
    AdminName(NameError),
    #[error("--interceptor: {0}")]
    Interceptor(#[from] InvalidUrl),
    #[error("--interceptor-secret: {0}")]
    InterceptorSecret(#[from] InvalidSecret),
    #[error("--tls-certificate and --tls-key: {0}")]
    Tls(#[from] TlsError),
    #[error("--tls-certificate and --tls-key belong together: one of them is missing")]
    HalfTls,
    #[error("--notifier: {0}")]
    Notifier(InvalidUrl),
    #[error("--notifier-secret: {0}")]
    NotifierSecret(InvalidSecret),
    #[error(transparent)]
    Identity(#[from] InvalidIdentity),
    #[error("cannot set up TLS: {0}")]
    Client(io::Error),
}

impl Plan {
    pub(crate) fn new(options: Options) -> Result<Self, InvalidSetting> {
        filter(&options.log)?;
        let mut origins = OriginPolicy::same_origin();
        for origin in &options.allow_origins {
            origins = origins.allow(origin)?;
        }
        let mut users = Vec::new();
        for user in &options.users {
            users.push((UserName::new(&user.name)?, Secret::new(user.password.as_str())));
        }
        let admins = options.admins.iter().map(|name| UserName::new(name));
        let admins = admins.collect::<Result<_, _>>().map_err(InvalidSetting::AdminName)?;
        let interceptor = interceptor(&options)?;
        let tls = match (&options.tls_certificate, &options.tls_key) {
            (Some(certificate), Some(key)) => {
                Some(ServerTls::load(TlsFiles::new(certificate, key))?)
            }
            (None, None) => None,
            _ => return Err(InvalidSetting::HalfTls),
        };
        let identity = Identity::new(&options, &origins)?;
        let notifier = notifier(&options)?;
        Ok(Self { options, origins, users, admins, interceptor, tls, identity, notifier })
    }
}

fn interceptor(options: &Options) -> Result<Option<HttpInterceptor>, InvalidSetting> {
    let Some(url) = &options.interceptor else { return Ok(None) };
    let url: OutgoingUrl = url.parse()?;
    // Who runs the server names it: that may well be a neighbour.
    let client = HttpClient::new(Reach::Everywhere).map_err(InvalidSetting::Client)?;
    let failure = match options.interceptor_failure {
        Failure::Open => FailMode::Open,
        Failure::Closed => FailMode::Closed,
    };
    let mut interceptor = HttpInterceptor::new(client, url, failure);
    if let Some(secret) = &options.interceptor_secret {
        interceptor = interceptor.with_secret(Secret::new(secret.0.as_str()))?;
    }
    Ok(Some(interceptor))
}

fn notifier(options: &Options) -> Result<Option<HttpNotifier>, InvalidSetting> {
    let Some(url) = &options.notifier else { return Ok(None) };
    let url = url.parse().map_err(InvalidSetting::Notifier)?;
    let client = HttpClient::new(Reach::Everywhere).map_err(InvalidSetting::Client)?;
    let notifier = HttpNotifier::new(client, url);
    Ok(Some(match &options.notifier_secret {
        Some(secret) => notifier
            .with_secret(Secret::new(secret.0.as_str()))
            .map_err(InvalidSetting::NotifierSecret)?,
        None => notifier,
    }))
}

/// What is logged.
pub(crate) fn filter(text: &str) -> Result<EnvFilter, ParseError> {
    let filter =
        EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).parse(text)?;
    // The client of RabbitMQ calls each "no" of the broker an error, asked questions included: it is heard only
    // where it is named.
    Ok(match "lapin=off".parse() {
        Ok(off) if !text.contains("lapin") => filter.add_directive(off),
        _ => filter,
    })
}
