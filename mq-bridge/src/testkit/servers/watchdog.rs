//! What remains of a server is removed even if the test's process is killed.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::process::Pid;

/// Reads lines, each the targets of `kill` as of now; when the pipe ends, kills the last ones and
/// removes the folder, again while a dying process still writes there.
const SCRIPT: &str = r#"
while IFS= read -r line; do targets=$line; done
[ -z "$targets" ] || kill -KILL $targets
tries=0
until rm -rf -- "$1" || [ "$tries" -ge 50 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
"#;

/// A process that outlives the test's by a moment
///
/// It waits on a pipe whose other end only this process holds.
#[derive(Debug)]
pub(super) struct Watchdog {
    child: Child,
    pipe: ChildStdin,
}

impl Watchdog {
    pub(super) fn over(folder: &Path) -> io::Result<Self> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "watchdog"])
            .arg(folder)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Not to be interrupted from the terminal together with the test.
            .process_group(0)
            .spawn()?;
        let pipe = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self { child, pipe })
    }

    /// Sets what is to be killed: the group of a process, and some processes beside it.
    pub(super) fn guard(&mut self, group: Pid, others: &[Pid]) -> io::Result<()> {
        let mut line = format!("-{}", group.as_raw_pid());
        for pid in others {
            line.push_str(&format!(" {}", pid.as_raw_pid()));
        }
        writeln!(self.pipe, "{line}")
    }

    /// Nothing is left to be killed.
    pub(super) fn unguard(&mut self) -> io::Result<()> {
        writeln!(self.pipe)
    }
}

impl Drop for Watchdog {
    /// Everything that it would do has been done.
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
