//! RabbitMQ with its STOMP plugins, and an epmd of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::{fs, io};

use async_trait::async_trait;

use super::instance::{Instance, Recipe, Site, find, io_error, write};
use super::process::command;
use super::{ServerError, probe, test_server};

const NAME: &str = "RabbitMQ";
const REMEDY: &str = "Install Debian's package rabbitmq-server";

/// Debian's wrapper in PATH insists on the system's own user and folders.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// Erlang's port mapper beside the server, whose process group it shares.
const SCRIPT: &str = r#"
epmd -address 127.0.0.1 -port "$ERL_EPMD_PORT" &
until epmd -port "$ERL_EPMD_PORT" -names >/dev/null 2>&1; do sleep 0.01; done
exec "$0"
"#;

/// The plugins that are used, with those that they use; others of RabbitMQ's own are left out.
const PLUGINS: [&str; 5] = [
    "rabbitmq_management_agent-",
    "rabbitmq_prelaunch-",
    "rabbitmq_stomp-",
    "rabbitmq_web_dispatch-",
    "rabbitmq_web_stomp-",
];

const AMQP: usize = 0;
const STOMP: usize = 1;
const WEB_STOMP: usize = 2;
const EPMD: usize = 3;
const DISTRIBUTION: usize = 4;

/// A RabbitMQ server with the plugins `rabbitmq_stomp` and `rabbitmq_web_stomp`
///
/// Its user is `guest` with the password `guest`.
#[derive(Debug)]
pub struct RabbitMq {
    pub(super) instance: Instance,
}

impl RabbitMq {
    /// Starts an empty server.
    ///
    /// # Errors
    ///
    /// [`ServerError`] says what is missing, or shows the end of the server's log.
    pub async fn start() -> Result<Self, ServerError> {
        Ok(Self { instance: Instance::launch(|| RabbitMqRecipe).await? })
    }

    /// `amqp://guest:guest@127.0.0.1:PORT/%2f`
    #[must_use]
    pub fn amqp_url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.instance.port(AMQP))
    }

    /// Where it speaks STOMP over TCP.
    #[must_use]
    pub fn stomp_addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.instance.port(STOMP)).into()
    }

    /// `stomp://guest:guest@127.0.0.1:PORT`
    #[must_use]
    pub fn stomp_url(&self) -> String {
        format!("stomp://guest:guest@{}", self.stomp_addr())
    }

    /// `ws://127.0.0.1:PORT/ws`: where it speaks STOMP over WebSocket.
    #[must_use]
    pub fn web_stomp_url(&self) -> String {
        format!("ws://127.0.0.1:{}/ws", self.instance.port(WEB_STOMP))
    }
}

test_server!(RabbitMq);

struct RabbitMqRecipe;

#[async_trait]
impl Recipe for RabbitMqRecipe {
    fn name(&self) -> &'static str {
        NAME
    }

    fn port_count(&self) -> usize {
        5
    }

    fn prepare(&self, site: &Site<'_>) -> Result<(), ServerError> {
        let configuration = format!(
            "listeners.tcp.1 = 127.0.0.1:{amqp}\n\
             stomp.listeners.tcp.1 = 127.0.0.1:{stomp}\n\
             web_stomp.tcp.ip = 127.0.0.1\n\
             web_stomp.tcp.port = {web_stomp}\n\
             loopback_users.guest = false\n\
             disk_free_limit.absolute = 200MB\n\
             log.console = true\n\
             log.console.level = info\n\
             log.file = false\n",
            amqp = site.ports[AMQP],
            stomp = site.ports[STOMP],
            web_stomp = site.ports[WEB_STOMP],
        );
        write(NAME, &site.folder.join("rabbitmq.conf"), &configuration)?;
        write(NAME, &site.folder.join("plugins"), "[rabbitmq_stomp,rabbitmq_web_stomp].\n")?;
        lean_home(&find(NAME, SERVER, REMEDY)?, &site.folder.join("home"))
            .map_err(|source| io_error(NAME, "linking its plugins", source))
    }

    fn command(&self, site: &Site<'_>) -> Result<Command, ServerError> {
        let scripts = site.folder.join("home/sbin");
        let mut command = command("/bin/sh");
        command.args(["-c", SCRIPT]).arg(scripts.join("rabbitmq-server"));
        command
            .env("ERL_EPMD_PORT", site.ports[EPMD].to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_CONFIG_FILE", site.folder.join("rabbitmq.conf"))
            .env("RABBITMQ_DIST_PORT", site.ports[DISTRIBUTION].to_string())
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", site.folder.join("plugins"))
            .env("RABBITMQ_LOG_BASE", site.folder.join("logs"))
            .env("RABBITMQ_MNESIA_BASE", site.folder.join("mnesia"))
            .env("RABBITMQ_NODENAME", "test@localhost")
            .env("RABBITMQ_PID_FILE", site.folder.join("pid"))
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1}",
            )
            // The start script becomes the server instead of waiting for it.
            .env("detached", "true");
        Ok(command)
    }

    async fn probe(&self, ports: &[u16]) -> io::Result<()> {
        probe::ask(ports[AMQP], b"AMQP\0\0\x09\x01", b"RabbitMQ").await?;
        probe::ask_stomp(ports[STOMP], "guest", "guest").await?;
        probe::ask(ports[WEB_STOMP], b"GET /ws HTTP/1.0\r\n\r\n", b"HTTP/1.").await
    }
}

/// Makes a copy of the server's home, of links, with the plugins that are used: Erlang looks for
/// each of its thousand modules in one plugin's folder after the other, which is a quarter of the
/// time that a start takes.
fn lean_home(server: &Path, home: &Path) -> io::Result<()> {
    let scripts = server.canonicalize()?.with_file_name("");
    let original = scripts.join("..").canonicalize()?;
    for folder in ["escript", "plugins", "sbin"] {
        fs::create_dir_all(home.join(folder))?;
        for entry in fs::read_dir(original.join(folder))? {
            let entry = entry?;
            let name = entry.file_name();
            if is_used(&name.to_string_lossy()) {
                symlink(entry.path(), home.join(folder).join(name))?;
            }
        }
    }
    Ok(())
}

fn is_used(name: &str) -> bool {
    !name.starts_with("rabbitmq_") || PLUGINS.iter().any(|plugin| name.starts_with(plugin))
}
