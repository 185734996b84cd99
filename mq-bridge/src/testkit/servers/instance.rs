//! What all servers have in common: a folder, ports, processes, a log.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::ServerError;
use super::ports::Ports;
use super::process::Process;
use super::watchdog::Watchdog;

/// How long a server may take to start, on a busy machine.
const STARTING: Duration = Duration::from_secs(90);
/// How long a server may take to stop.
const STOPPING: Duration = Duration::from_secs(30);
/// How often a server is asked whether it is ready.
const POLL: Duration = Duration::from_millis(10);
/// How often a start is tried whose ports someone else took meanwhile.
const TRIES: usize = 5;
/// How much of a log an error shows, in octets.
const LOG_TAIL: u64 = 6000;

/// How one kind of server is run.
#[async_trait]
pub(super) trait Recipe: Send + Sync {
    /// The name in errors.
    fn name(&self) -> &'static str;

    /// How many ports it listens on.
    fn port_count(&self) -> usize;

    /// What is done once, before the first start: configuration files and the like.
    fn prepare(&self, site: &Site<'_>) -> Result<(), ServerError>;

    /// What starts it: a [`command`](super::process::command) that stays in the foreground.
    fn command(&self, site: &Site<'_>) -> Result<Command, ServerError>;

    /// Whether it is ready, asked again and again.
    async fn probe(&self, ports: &[u16]) -> io::Result<()>;

    /// What makes it stop in order.
    fn stop_signal(&self) -> Signal {
        Signal::TERM
    }

    /// A shell script that is run in the folder once the server is gone for good.
    fn epilogue(&self) -> &'static str {
        ""
    }
}

/// Where a server runs.
pub(super) struct Site<'a> {
    pub(super) folder: &'a Path,
    pub(super) ports: &'a [u16],
}

impl Site<'_> {
    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }
}

/// A server that was started at least once.
pub(super) struct Instance {
    recipe: Box<dyn Recipe>,
    ports: Ports,
    // Dropped before the watchdog: killed.
    process: Option<Process>,
    folder: PathBuf,
    // Removes the folder.
    watchdog: Watchdog,
}

impl Instance {
    /// Starts a server for the first time, on ports of its own.
    pub(super) async fn launch<R>(make: impl Fn() -> R) -> Result<Self, ServerError>
    where
        R: Recipe + 'static,
    {
        let mut tries = 1;
        loop {
            let mut instance = Self::new(Box::new(make()))?;
            let started = match instance.recipe.prepare(&instance.site()) {
                Ok(()) => instance.start().await,
                Err(error) => Err(error),
            };
            match started {
                Ok(()) => return Ok(instance),
                Err(_) if instance.ports.in_use() && tries < TRIES => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn new(recipe: Box<dyn Recipe>) -> Result<Self, ServerError> {
        let server = recipe.name();
        let ports = Ports::reserve(recipe.port_count())
            .map_err(|source| io_error(server, "reserving ports", source))?;
        let folder = tempfile::Builder::new()
            .prefix("mq-bridge-server-")
            .tempdir()
            .map_err(|source| io_error(server, "making its folder", source))?;
        let watchdog = Watchdog::over(folder.path(), recipe.epilogue())
            .map_err(|source| io_error(server, "starting its watchdog", source))?;
        Ok(Self { recipe, ports, process: None, folder: folder.keep(), watchdog })
    }

    fn site(&self) -> Site<'_> {
        Site { folder: &self.folder, ports: self.ports.get() }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// All processes that run now.
    #[cfg(test)]
    pub(super) fn pids(&self) -> io::Result<Vec<rustix::process::Pid>> {
        self.process.as_ref().map_or(Ok(Vec::new()), Process::all)
    }

    pub(super) fn port(&self, index: usize) -> u16 {
        self.ports.get().get(index).copied().unwrap_or_default()
    }

    pub(super) async fn start(&mut self) -> Result<(), ServerError> {
        if let Some(process) = &self.process {
            if !has_exited(self.recipe.name(), process)? {
                return Ok(());
            }
            // It has ended by itself.
            self.kill()?;
        }
        let mut command = self.recipe.command(&self.site())?;
        // Where crash dumps and temporary files go, too.
        command.current_dir(&self.folder).env("HOME", &self.folder).env("TMPDIR", &self.folder);
        let log = self.site().log();
        let process = Process::spawn(command, &log, &mut self.watchdog)
            .map_err(|source| self.io_error("starting it", source))?;
        let process = self.process.insert(process);

        let server = self.recipe.name();
        let deadline = Instant::now() + STARTING;
        loop {
            let last = match self.recipe.probe(self.ports.get()).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if has_exited(server, process)? {
                let status = self.end()?;
                return Err(ServerError::Ended { server, status, log: self.log_tail() });
            }
            if Instant::now() > deadline {
                self.end()?;
                let log = self.log_tail();
                return Err(ServerError::NotReady { server, waited: STARTING, last, log });
            }
            sleep(POLL).await;
        }
    }

    pub(super) async fn stop(&mut self) -> Result<(), ServerError> {
        let Some(process) = &self.process else { return Ok(()) };
        let server = self.recipe.name();
        process
            .resume()
            .and_then(|()| process.signal(self.recipe.stop_signal()))
            .map_err(|source| io_error(server, "stopping it", source))?;

        let deadline = Instant::now() + STOPPING;
        while !has_exited(server, process)? {
            if Instant::now() > deadline {
                self.end()?;
                let log = self.log_tail();
                return Err(ServerError::NotStopped { server, waited: STOPPING, log });
            }
            sleep(POLL).await;
        }
        // With it goes what it left behind.
        self.kill()
    }

    pub(super) fn kill(&mut self) -> Result<(), ServerError> {
        if self.process.is_some() { self.end().map(drop) } else { Ok(()) }
    }

    /// Ends all processes and says how the first one ended.
    fn end(&mut self) -> Result<ExitStatus, ServerError> {
        let ended = match &mut self.process {
            Some(process) => process.kill(),
            None => Err(not_running()),
        };
        let ended = ended.and_then(|status| self.watchdog.unguard().map(|()| status));
        let status = ended.map_err(|source| self.io_error("killing it", source))?;
        self.process = None;
        Ok(status)
    }

    pub(super) fn suspend(&mut self) -> Result<(), ServerError> {
        let suspended = match &self.process {
            Some(process) => {
                process.suspend().and_then(|others| self.watchdog.guard(process.pid(), &others))
            }
            None => Err(not_running()),
        };
        suspended.map_err(|source| self.io_error("suspending it", source))
    }

    pub(super) fn resume(&mut self) -> Result<(), ServerError> {
        let resumed = match &self.process {
            Some(process) => {
                process.resume().and_then(|()| self.watchdog.guard(process.pid(), &[]))
            }
            None => Err(not_running()),
        };
        resumed.map_err(|source| self.io_error("resuming it", source))
    }

    pub(super) fn log_tail(&self) -> String {
        tail(&self.site().log()).unwrap_or_else(|error| format!("(no log: {error})"))
    }

    fn io_error(&self, action: &'static str, source: io::Error) -> ServerError {
        io_error(self.recipe.name(), action, source)
    }
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct(self.recipe.name())
            .field("folder", &self.folder)
            .field("ports", &self.ports.get())
            .field("process", &self.process)
            .finish()
    }
}

pub(super) fn io_error(
    server: &'static str,
    action: &'static str,
    source: io::Error,
) -> ServerError {
    ServerError::Io { server, action, source }
}

/// Writes a configuration file.
pub(super) fn write(server: &'static str, path: &Path, text: &str) -> Result<(), ServerError> {
    fs::write(path, text).map_err(|source| io_error(server, "writing its configuration", source))
}

/// The full path of a program, which may also lie where only root's PATH leads.
pub(super) fn find(
    server: &'static str,
    program: impl AsRef<OsStr>,
    remedy: &'static str,
) -> Result<PathBuf, ServerError> {
    let program = Path::new(program.as_ref());
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| ServerError::Missing {
            server,
            program: program.display().to_string(),
            remedy,
        })
}

fn has_exited(server: &'static str, process: &Process) -> Result<bool, ServerError> {
    process.has_exited().map_err(|source| io_error(server, "watching it", source))
}

fn not_running() -> io::Error {
    io::Error::other("it does not run")
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))?;
    let mut tail = Vec::new();
    file.take(LOG_TAIL).read_to_end(&mut tail)?;
    Ok(String::from_utf8_lossy(&tail).into_owned())
}
