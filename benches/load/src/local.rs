//! Servers of this project, started on this machine to be measured.

use std::cell::OnceCell;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use tempfile::TempDir;

use crate::{LoadError, Target, http};

/// Where im-server keeps messages
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keeping {
    /// In memory
    Memory,
    /// In files of a new folder
    Files,
}

/// A server that runs, killed with the value
#[derive(Debug)]
pub struct Local {
    child: Child,
    target: Target,
    stomp: Option<SocketAddr>,
    people: usize,
    tokens: OnceCell<Vec<String>>,
    _folder: Option<TempDir>,
}

impl Local {
    /// im-server with default settings, the user `bench`, and so many people.
    ///
    /// # Errors
    ///
    /// Where it cannot be started, or ends before it is ready.
    pub fn im_server(program: &Path, keeping: Keeping, people: usize) -> Result<Self, LoadError> {
        let folder = tempfile::tempdir()?;
        let mut command = Command::new(program);
        command.args(["--http", "127.0.0.1:0", "--stomp", "127.0.0.1:0", "--open", "--data"]);
        command.arg(folder.path());
        if keeping == Keeping::Memory {
            command.args(["--broker", "memory", "--store", "memory"]);
        }
        let mut users = "bench:bench-secret".to_owned();
        for number in 0..people {
            users.push_str(&format!(" person{number}:secret-{number}"));
        }
        command.env("IM_USER", users).env("IM_LOG", "error").stdin(Stdio::null());
        let mut lines = Lines::of(&mut command)?;
        let address = lines.after("  websocket  ")?.parse::<crate::Address>()?;
        let stomp = lines.after("  stomp      ")?.parse().ok();
        let child = lines.ready()?;
        // Looking at a token costs less than hashing a password, for a client as for us.
        let token = http::token(address.socket, "bench", "bench-secret")?;
        let target = Target::new(address).with_pid(Some(child.id())).with_login("bench", token);
        let tokens = OnceCell::new();
        Ok(Self { child, target, stomp, people, tokens, _folder: Some(folder) })
    }

    /// The bare forwarder.
    ///
    /// # Errors
    ///
    /// As [`Local::im_server`].
    pub fn forwarder(program: &Path) -> Result<Self, LoadError> {
        let mut lines = Lines::of(&mut Command::new(program))?;
        let address = lines.after("ready ")?;
        let child = lines.ready()?;
        let target = Target::new(format!("ws://{address}/ws").parse()?);
        let target = target.with_pid(Some(child.id()));
        let tokens = OnceCell::new();
        Ok(Self { child, target, stomp: None, people: 0, tokens, _folder: None })
    }

    /// Everybody as the same user.
    #[must_use]
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// The same server, each connection signing in as somebody else.
    ///
    /// # Errors
    ///
    /// Where somebody gets no token.
    pub fn people(&self) -> Result<Target, LoadError> {
        if self.tokens.get().is_none() {
            let token = |number| {
                let (name, secret) = (format!("person{number}"), format!("secret-{number}"));
                http::token(self.target.address.socket, &name, &secret)
            };
            let tokens = (0..self.people).map(token).collect::<Result<_, _>>()?;
            let _ = self.tokens.set(tokens);
        }
        let tokens = self.tokens.get().cloned().unwrap_or_default();
        Ok(self.target.clone().with_login("person{n}", "").with_passcodes(tokens))
    }

    /// Where it takes STOMP over TCP, if it does.
    #[must_use]
    pub const fn stomp(&self) -> Option<SocketAddr> {
        self.stomp
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A child, and what it prints
struct Lines {
    child: Started,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

/// Killed with the value unless it is taken
struct Started(Option<Child>);

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Lines {
    fn of(command: &mut Command) -> Result<Self, LoadError> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take();
        let child = Started(Some(child));
        let output = output.ok_or(std::io::ErrorKind::BrokenPipe).map_err(std::io::Error::from)?;
        Ok(Self { child, lines: BufReader::new(output).lines() })
    }

    /// The rest of the first line that begins with this.
    fn after(&mut self, begin: &str) -> Result<String, LoadError> {
        for line in self.lines.by_ref() {
            if let Some(rest) = line?.strip_prefix(begin) {
                return Ok(rest.trim().to_owned());
            }
        }
        Err(LoadError::Server("it ended before it was ready".to_owned()))
    }

    /// The child; what it prints from now on is read and thrown away.
    fn ready(self) -> Result<Child, LoadError> {
        let Self { mut child, lines } = self;
        std::thread::spawn(move || lines.for_each(drop));
        child.0.take().ok_or_else(|| LoadError::Server("it was not started".to_owned()))
    }
}

/// A program that was built beside this one.
///
/// # Errors
///
/// Where this one does not know where it is.
pub fn beside(name: &str) -> Result<PathBuf, LoadError> {
    Ok(std::env::current_exe()?.with_file_name(name))
}

/// The release build of im-server, made now unless one is named.
///
/// # Errors
///
/// Where it cannot be built.
pub fn im_server_program(named: Option<&Path>) -> Result<PathBuf, LoadError> {
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    let program = beside("im-server")?;
    if let Some(cargo) = std::env::var_os("CARGO") {
        let built = Command::new(cargo).args(["build", "--release", "-p", "im-server"]).status()?;
        if !built.success() {
            return Err(LoadError::Plan("im-server could not be built".to_owned()));
        }
    }
    if program.is_file() {
        return Ok(program);
    }
    let program = program.display();
    Err(LoadError::Plan(format!("{program} is missing: cargo build --release -p im-server")))
}
