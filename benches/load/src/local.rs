//! Servers of this project, started on this machine to be measured.

use std::cell::Cell;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use tempfile::TempDir;

use crate::archive::{self, Talk};
use crate::http::Rest;
use crate::process::{files_left, free};
use crate::token::TokenKey;
use crate::{LoadError, Target};

/// Files that a server may open beside its connections, and this program too
const SPARE_FILES: usize = 40;
/// Members of a group that are added in one call
const STEP: usize = 1000;
/// Messages of a conversation that is imported
const TALK: usize = 10_000;
/// Octets of the disk for a stored message, index and logs included
const OCTETS: u64 = 800;

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
    tokens: TokenKey,
    /// How many people there are
    people: Cell<usize>,
    folder: TempDir,
}

impl Local {
    /// im-server with default settings, and the user `bench`.
    ///
    /// # Errors
    ///
    /// Where it cannot be started, or ends before it is ready.
    pub fn im_server(program: &Path, keeping: Keeping) -> Result<Self, LoadError> {
        let folder = tempfile::tempdir()?;
        let tokens = TokenKey::random();
        fs::write(folder.path().join("token.key"), tokens.octets())?;
        let mut command = Command::new(program);
        command.args(["--http", "127.0.0.1:0", "--stomp", "127.0.0.1:0", "--open"]);
        // It makes the people.
        command.args(["--admin", "bench", "--rest-rate", "0", "--data"]).arg(folder.path());
        if keeping == Keeping::Memory {
            command.args(["--broker", "memory", "--store", "memory"]);
        }
        command.env("IM_USER", "bench:bench-secret").env("IM_LOG", "error").stdin(Stdio::null());
        let mut lines = Lines::of(&mut command)?;
        let address = lines.after("  websocket  ")?.parse::<crate::Address>()?;
        let stomp = lines.after("  stomp      ")?.parse().ok();
        let child = lines.ready()?;
        let target = Target::new(address).with_pid(Some(child.id()));
        let target = target.with_login("bench", tokens.sign("bench"));
        Ok(Self { child, target, stomp, tokens, people: Cell::new(0), folder })
    }

    /// The bare forwarder, which lets everybody in.
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
        let (tokens, people) = (TokenKey::random(), Cell::new(0));
        Ok(Self { child, target, stomp: None, tokens, people, folder: tempfile::tempdir()? })
    }

    /// Everybody as the same user.
    #[must_use]
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// The same server, so many connections signing in as somebody else each. People are made where they are missing.
    ///
    /// # Errors
    ///
    /// Where somebody cannot be made.
    pub fn people(&self, count: usize) -> Result<Target, LoadError> {
        let missing = self.people.get()..count;
        Rest::for_each(&self.target, missing, |rest, number| rest.make_user(&person(number)))?;
        self.people.set(self.people.get().max(count));
        let tokens = (0..count).map(|number| self.tokens.sign(&person(number))).collect();
        Ok(self.target.clone().with_login("person{n}", "").with_passcodes(tokens))
    }

    /// Makes a group of so many [people](Self::people), and gives them.
    ///
    /// # Errors
    ///
    /// Where it cannot be made.
    pub fn group(&self, name: &str, members: usize) -> Result<Target, LoadError> {
        let people = self.people(members)?;
        let mut rest = Rest::open(&self.target)?;
        let mut there = 0;
        // Step by step, as a call has its time: an import passes over what is there.
        while there < members {
            there = members.min(there + STEP);
            let lines = archive::group(name, (0..there).map(person));
            rest.import(&format!("group:{name}"), lines.as_bytes())?;
        }
        Ok(people)
    }

    /// Stores so many messages: the first people have talked to somebody else each, over and over.
    ///
    /// # Errors
    ///
    /// Where the disk has not room enough, and what the server refuses.
    pub fn fill(&self, people: usize, messages: usize) -> Result<(), LoadError> {
        self.people(people)?;
        let folder = self.folder.path();
        let (needed, free) = (messages as u64 * OCTETS, free(folder)?);
        if needed > free {
            let [needed, free] = [needed, free].map(|octets| octets.div_ceil(1 << 30));
            let folder = folder.parent().unwrap_or(folder).display();
            return Err(LoadError::Plan(format!(
                "{messages} messages need {needed} GiB, and {folder} has {free}: set TMPDIR to a folder with more"
            )));
        }
        Rest::for_each(&self.target, 0..messages.div_ceil(TALK), |rest, number| {
            let friend = format!("friend{number}");
            let messages = TALK.min(messages - number * TALK) as u64;
            let people = [person(number % people.max(1)), friend];
            let talk = Talk { number: number as u64, people, messages };
            rest.import(&talk.conversation(), talk.lines().as_bytes())
        })
    }

    /// How many connections it and this program have open files for, in hundreds. `None` where nobody knows.
    #[must_use]
    pub fn room(&self) -> Option<usize> {
        let left = files_left(Some(self.child.id()))?.min(files_left(None)?);
        Some(left.saturating_sub(SPARE_FILES) / 100 * 100)
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

/// Somebody among the people.
fn person(number: usize) -> String {
    format!("person{number}")
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
