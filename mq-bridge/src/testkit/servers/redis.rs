//! Redis, with every write on disk before it is answered.

use std::io;
use std::process::Command;

use async_trait::async_trait;

use super::instance::{Instance, Recipe, Site, find};
use super::process::command;
use super::{ServerError, probe, test_server};

const NAME: &str = "Redis";

/// A Redis server with an append-only file that is synchronized at each write
#[derive(Debug)]
pub struct Redis {
    pub(super) instance: Instance,
}

impl Redis {
    /// Starts an empty server.
    ///
    /// # Errors
    ///
    /// [`ServerError`] says what is missing, or shows the end of the server's log.
    pub async fn start() -> Result<Self, ServerError> {
        Ok(Self { instance: Instance::launch(|| RedisRecipe).await? })
    }

    /// `redis://127.0.0.1:PORT`
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.instance.port(0))
    }
}

test_server!(Redis);

pub(super) struct RedisRecipe;

#[async_trait]
impl Recipe for RedisRecipe {
    fn name(&self) -> &'static str {
        NAME
    }

    fn port_count(&self) -> usize {
        1
    }

    fn prepare(&self, _: &Site<'_>) -> Result<(), ServerError> {
        Ok(())
    }

    fn command(&self, site: &Site<'_>) -> Result<Command, ServerError> {
        let program = find(NAME, "redis-server", "Install Debian's package redis-server")?;
        let mut command = command(program);
        command
            .args(["--bind", "127.0.0.1", "--port", &site.ports[0].to_string()])
            .arg("--dir")
            .arg(site.folder)
            .args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""]);
        Ok(command)
    }

    async fn probe(&self, ports: &[u16]) -> io::Result<()> {
        // While it reads its file it answers -LOADING.
        probe::ask(ports[0], b"PING\r\nQUIT\r\n", b"+PONG").await
    }
}
