//! The processes of one server: a first one, and all that it has started.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};

use super::watchdog::Watchdog;

/// Waits for a line before it becomes the server: by then the watchdog knows of it.
const GATE: &str = r#"read -r _ && exec "$@" </dev/null"#;
/// How long a process that was killed may take to end.
const DYING: Duration = Duration::from_secs(20);

/// A command that [`Process::spawn`] can run, in an environment of its own.
pub(super) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", GATE, "server"])
        .arg(program)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("LANG", "C.UTF-8");
    command
}

/// A running server: the leader of a process group, and its descendants in whatever group
#[derive(Debug)]
pub(super) struct Process {
    leader: Child,
    pid: Pid,
    /// Set once nothing of it is left; its numbers may be others' from then on.
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts a [`command`] whose output is appended to the log.
    pub(super) fn spawn(
        mut command: Command,
        log: &Path,
        watchdog: &mut Watchdog,
    ) -> io::Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        let mut leader = command
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        let pid = Pid::from_child(&leader);
        let gate = leader.stdin.take();
        // From here on a drop kills it.
        let process = Self { leader, pid, ended: None };
        watchdog.guard(pid, &[])?;
        gate.ok_or(io::ErrorKind::BrokenPipe)?.write_all(b"go\n")?;
        Ok(process)
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether the first process has ended. It is not reaped, so that its number stays its own.
    pub(super) fn has_exited(&self) -> io::Result<bool> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let ended = self.ended.is_some() || waitid(WaitId::Pid(self.pid), options)?.is_some();
        // It cannot be waited for before the last of its threads has ended as well.
        Ok(ended || entry(self.pid).is_none_or(|process| !process.runs))
    }

    /// Signals the first process alone.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(self.pid, signal)?)
    }

    /// Suspends all processes, and gives back the first one's descendants.
    pub(super) fn suspend(&self) -> io::Result<Vec<Pid>> {
        // The first one first, so that it starts no others meanwhile.
        self.signal(Signal::STOP)?;
        let descendants = self.descendants()?;
        for pid in &descendants {
            unless_gone(kill_process(*pid, Signal::STOP))?;
        }
        Ok(descendants)
    }

    /// Lets all processes go on.
    pub(super) fn resume(&self) -> io::Result<()> {
        for pid in self.descendants()? {
            unless_gone(kill_process(pid, Signal::CONT))?;
        }
        self.signal(Signal::CONT)
    }

    /// Kills all processes and waits until they have ended. Says how the first one ended.
    pub(super) fn kill(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        let descendants = self.suspend()?;
        unless_gone(kill_process_group(self.pid, Signal::KILL))?;
        for pid in &descendants {
            unless_gone(kill_process(*pid, Signal::KILL))?;
        }

        let deadline = Instant::now() + DYING;
        while processes()?.iter().any(|process| {
            process.runs && (process.group == self.pid || descendants.contains(&process.pid))
        }) {
            if Instant::now() > deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            thread::sleep(Duration::from_millis(1));
        }
        let status = self.leader.wait()?;
        self.ended = Some(status);
        Ok(status)
    }

    #[cfg(test)]
    pub(super) fn all(&self) -> io::Result<Vec<Pid>> {
        let mut all = self.descendants()?;
        all.push(self.pid);
        Ok(all)
    }

    fn descendants(&self) -> io::Result<Vec<Pid>> {
        let processes = processes()?;
        let mut found = vec![self.pid];
        let mut next = 0;
        while let Some(parent) = found.get(next).copied() {
            let children = processes.iter().filter(|process| process.parent == Some(parent));
            found.extend(children.map(|process| process.pid));
            next += 1;
        }
        found.remove(0);
        Ok(found)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _killed = self.kill();
    }
}

/// A process may end at any moment: a signal that finds nobody is fine.
fn unless_gone(result: Result<(), Errno>) -> io::Result<()> {
    match result {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A line of the machine's process table.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) pid: Pid,
    parent: Option<Pid>,
    group: Pid,
    /// False for one that has ended and that nobody has asked about yet.
    pub(super) runs: bool,
}

/// All processes of the machine.
pub(super) fn processes() -> io::Result<Vec<Entry>> {
    let pids = fs::read_dir("/proc")?
        .filter_map(|file| Pid::from_raw(file.ok()?.file_name().to_str()?.parse().ok()?));
    Ok(pids.filter_map(entry).collect())
}

/// A process, if there is one.
fn entry(pid: Pid) -> Option<Entry> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).ok()?;
    // After the command's name, which may contain anything: state, parent, group.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let runs = !matches!(fields.next()?, "Z" | "X");
    // Of one that is just being removed they are -1.
    let mut id = || fields.next()?.parse().ok().filter(|id| *id > 0).and_then(Pid::from_raw);
    let (parent, group) = (id(), id()?);
    Some(Entry { pid, parent, group, runs })
}
