//! A connection, and the end of it.

use std::sync::Arc;

use ::redis::aio::MultiplexedConnection;
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, Pipeline, PushInfo, PushKind, RedisError,
    Value, cmd,
};
use tokio::sync::watch;

use super::config::RedisConfig;
use super::error::Fault;
use super::script;

/// Why a link is lost, once it is.
#[derive(Clone, Debug)]
pub(super) struct Loss {
    reason: Arc<watch::Sender<Option<Arc<str>>>>,
}

impl Loss {
    pub(super) fn new() -> Self {
        Self { reason: Arc::new(watch::Sender::new(None)) }
    }

    /// The first reason counts.
    pub(super) fn report(&self, reason: &Arc<str>) {
        self.reason.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                *known = Some(Arc::clone(reason));
            }
            first
        });
    }

    pub(super) async fn wait(&self) -> Arc<str> {
        let mut reason = self.reason.subscribe();
        match reason.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(reason)) => Arc::clone(reason),
            _ => "the connection was closed".into(),
        }
    }
}

/// One connection, shared by any number of calls at once, which it sends in the order of their
/// first poll.
#[derive(Clone)]
pub(super) struct Connection {
    inner: MultiplexedConnection,
    loss: Loss,
}

impl Connection {
    /// Connects; `on_push` gets what the server sends unasked.
    pub(super) async fn open(
        info: &ConnectionInfo,
        config: &RedisConfig,
        loss: &Loss,
        on_push: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<Self, Fault> {
        let lost = loss.clone();
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(config.remote.connect_timeout))
            .set_response_timeout(Some(config.response_timeout))
            .set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    lost.report(&"the server closed the connection".into());
                } else {
                    on_push(push);
                }
                Ok::<_, RedisError>(())
            });
        let client = Client::open(info.clone())?;
        let inner = client.get_multiplexed_async_connection_with_config(&settings).await?;
        Ok(Self { inner, loss: loss.clone() })
    }

    fn checked<T>(&self, outcome: Result<T, RedisError>) -> Result<T, Fault> {
        outcome.map_err(|error| self.noted(error.into()))
    }

    /// Lets a fault end the link that has to.
    pub(super) fn noted(&self, fault: Fault) -> Fault {
        if let Fault::Lost(reason) = &fault {
            self.loss.report(reason);
        }
        fault
    }

    /// Makes a call.
    pub(super) async fn call(&self, call: &Cmd) -> Result<Value, Fault> {
        let answer = self.inner.clone().send_packed_command(call).await;
        self.checked(answer.and_then(Value::extract_error))
    }

    /// Makes a call of a script, which is loaded again where somebody has flushed it.
    pub(super) async fn run(&self, call: &Cmd) -> Result<Value, Fault> {
        loop {
            match self.call(call).await {
                Err(Fault::NoScript) => self.load_scripts().await?,
                other => return other,
            }
        }
    }

    /// Makes calls in one go, one after the other; some of the answers may be errors.
    pub(super) async fn all(&self, calls: &Pipeline) -> Result<Vec<Value>, Fault> {
        self.checked(self.inner.clone().send_packed_commands(calls, 0, calls.len()).await)
    }

    pub(super) async fn load_scripts(&self) -> Result<(), Fault> {
        for script in script::all() {
            self.call(&script.load()).await?;
        }
        Ok(())
    }

    pub(super) async fn ping(&self) -> Result<(), Fault> {
        self.call(&cmd("PING")).await.map(drop)
    }

    pub(super) async fn subscribe(&self, channel: &str) -> Result<(), Fault> {
        self.checked(self.inner.clone().subscribe(channel).await)
    }

    pub(super) async fn unsubscribe(&self, channel: &str) -> Result<(), Fault> {
        self.checked(self.inner.clone().unsubscribe(channel).await)
    }

    pub(super) async fn subscribe_glob(&self, glob: &str) -> Result<(), Fault> {
        self.checked(self.inner.clone().psubscribe(glob).await)
    }

    pub(super) async fn unsubscribe_glob(&self, glob: &str) -> Result<(), Fault> {
        self.checked(self.inner.clone().punsubscribe(glob).await)
    }
}
