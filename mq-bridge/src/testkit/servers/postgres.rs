//! PostgreSQL, which refuses to run as root.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::{fs, io};

use async_trait::async_trait;
use rustix::process::{Signal, geteuid};

use super::instance::{Instance, Recipe, Site, find, io_error};
use super::process::command;
use super::{ServerError, probe, test_server};

const NAME: &str = "PostgreSQL";
const REMEDY: &str = "Install Debian's package postgresql";

/// Where Debian has a folder for each version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// Whose processes the servers are when the tests run as root: the first of them that exists.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// Makes the cluster at the first start. Everyone who connects is whom they say they are.
const SCRIPT: &str = r#"
bin=$1 data=$2 port=$3
[ -e "$data" ] || "$bin/initdb" --pgdata="$data" --username=postgres --auth=trust \
    --encoding=UTF8 --locale=C.UTF-8 --no-sync --no-instructions || exit
exec "$bin/postgres" -D "$data" -c listen_addresses=127.0.0.1 -c port="$port" \
    -c unix_socket_directories= -c dynamic_shared_memory_type=mmap
"#;

/// The segment of shared memory outlives a server that was killed; its number is on line 7.
const EPILOGUE: &str = r#"
segment=$(sed -n '7s/.* //p' data/postmaster.pid) && ipcrm -m "$segment"
"#;

/// A PostgreSQL server with the superuser `postgres`, who needs no password
#[derive(Debug)]
pub struct Postgres {
    pub(super) instance: Instance,
}

impl Postgres {
    /// Starts an empty server; run by root, as the user `postgres` or `nobody`.
    ///
    /// # Errors
    ///
    /// [`ServerError`] says what is missing, or shows the end of the server's log.
    pub async fn start() -> Result<Self, ServerError> {
        Ok(Self { instance: Instance::launch(|| PostgresRecipe).await? })
    }

    /// `postgres://postgres@127.0.0.1:PORT/postgres`
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.instance.port(0))
    }
}

test_server!(Postgres);

struct PostgresRecipe;

#[async_trait]
impl Recipe for PostgresRecipe {
    fn name(&self) -> &'static str {
        NAME
    }

    fn port_count(&self) -> usize {
        1
    }

    fn prepare(&self, site: &Site<'_>) -> Result<(), ServerError> {
        let user = user().map_err(|source| io_error(NAME, "looking for its user", source))?;
        if let Some((uid, gid)) = user {
            chown(site.folder, Some(uid), Some(gid))
                .map_err(|source| io_error(NAME, "giving it its folder", source))?;
        }
        Ok(())
    }

    fn command(&self, site: &Site<'_>) -> Result<Command, ServerError> {
        let programs = newest().unwrap_or_default().join("bin");
        find(NAME, programs.join("postgres"), REMEDY)?;
        let mut command = command("/bin/sh");
        command
            .args(["-c", SCRIPT, "postgres"])
            .args([programs, site.folder.join("data")])
            .arg(site.ports[0].to_string());
        let user = user().map_err(|source| io_error(NAME, "looking for its user", source))?;
        if let Some((uid, gid)) = user {
            command.uid(uid).gid(gid);
        }
        Ok(command)
    }

    async fn probe(&self, ports: &[u16]) -> io::Result<()> {
        let parameters = b"user\0postgres\0database\0postgres\0\0";
        let length = (8 + parameters.len() as u32).to_be_bytes();
        let startup = [&length[..], &[0, 3, 0, 0], parameters].concat();
        // ReadyForQuery, idle.
        probe::ask(ports[0], &startup, b"Z\0\0\0\x05I").await
    }

    fn stop_signal(&self) -> Signal {
        // "Fast": without waiting for clients to leave.
        Signal::INT
    }

    fn epilogue(&self) -> &'static str {
        EPILOGUE
    }
}

/// The folder of the newest version.
fn newest() -> Option<PathBuf> {
    let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let versions = fs::read_dir(VERSIONS).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    versions.filter(|path| version(path).is_some()).max_by_key(version)
}

/// The user and group to become, if this is root.
fn user() -> io::Result<Option<(u32, u32)>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let passwd = fs::read_to_string("/etc/passwd")?;
    let ids = |user: &&str| {
        let entry = passwd.lines().find_map(|line| line.strip_prefix(user)?.strip_prefix(":"))?;
        let mut fields = entry.split(':').skip(1);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    let found = USERS.iter().find_map(ids);
    found.map(Some).ok_or_else(|| io::Error::other("there is neither postgres nor nobody"))
}
