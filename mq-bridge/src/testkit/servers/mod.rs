//! Real servers for tests, started privately
//!
//! Each server runs on free ports of the loopback address over a data folder of its own. It can be
//! stopped, killed, suspended and started again over the same data and the same ports:
//!
//! ```no_run
//! use mq_bridge::testkit::servers::{Redis, ServerError, TestServer};
//!
//! # async fn run() -> Result<(), ServerError> {
//! let mut redis = Redis::start().await?;
//! println!("listening on {}", redis.url());
//! redis.kill().await?;
//! TestServer::start(&mut redis).await?;
//! # Ok(())
//! # }
//! ```
//!
//! A server is ready when its `start` returns: it has answered in its own protocol. On drop it is
//! killed and its folder removed, also when the test panics; when the test's process is killed, a
//! watchdog process does the same.
//!
//! Linux only, as the servers come from Debian's packages: `.ci/install` installs them.

mod activemq;
mod error;
mod instance;
mod nats;
mod ports;
mod postgres;
mod probe;
mod process;
mod rabbitmq;
mod redis;
#[cfg(test)]
mod tests;
mod watchdog;

use async_trait::async_trait;

pub use activemq::ActiveMq;
pub use error::ServerError;
pub use nats::{Nats, NatsVersion};
pub use postgres::Postgres;
pub use rabbitmq::RabbitMq;
pub use redis::Redis;

/// What a test may do to a server
#[async_trait]
pub trait TestServer: Send + Sync {
    /// Starts the server again over its data, on the ports it had before, and waits until it is
    /// ready. Does nothing while it runs.
    ///
    /// # Errors
    ///
    /// [`ServerError`] shows the end of the server's log.
    async fn start(&mut self) -> Result<(), ServerError>;

    /// Stops the server in order and waits until it has ended. A suspended server is resumed first.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotStopped`] if it has not ended within 30 seconds; it is killed then.
    async fn stop(&mut self) -> Result<(), ServerError>;

    /// Kills all processes of the server with SIGKILL and waits until they have ended.
    ///
    /// # Errors
    ///
    /// [`ServerError::Io`] if the processes cannot be found or signalled.
    async fn kill(&mut self) -> Result<(), ServerError>;

    /// Suspends all processes of the server with SIGSTOP: its connections stay open and nothing
    /// answers.
    ///
    /// # Errors
    ///
    /// [`ServerError::Io`] if the server does not run.
    fn suspend(&mut self) -> Result<(), ServerError>;

    /// Lets a suspended server go on.
    ///
    /// # Errors
    ///
    /// [`ServerError::Io`] if the server does not run.
    fn resume(&mut self) -> Result<(), ServerError>;

    /// The last lines that the server has logged.
    fn log_tail(&self) -> String;

    /// Stops the server in order and starts it again over its data.
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop) and [`start`](Self::start).
    async fn restart(&mut self) -> Result<(), ServerError> {
        self.stop().await?;
        self.start().await
    }
}

/// Makes a type with a field `instance` a [`TestServer`].
macro_rules! test_server {
    ($server:ty) => {
        #[async_trait::async_trait]
        impl $crate::testkit::servers::TestServer for $server {
            async fn start(&mut self) -> Result<(), ServerError> {
                self.instance.start().await
            }

            async fn stop(&mut self) -> Result<(), ServerError> {
                self.instance.stop().await
            }

            async fn kill(&mut self) -> Result<(), ServerError> {
                self.instance.kill()
            }

            fn suspend(&mut self) -> Result<(), ServerError> {
                self.instance.suspend()
            }

            fn resume(&mut self) -> Result<(), ServerError> {
                self.instance.resume()
            }

            fn log_tail(&self) -> String {
                self.instance.log_tail()
            }
        }
    };
}
use test_server;
