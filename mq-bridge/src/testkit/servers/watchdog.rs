//! What is left of a server is removed, even if the test's process is killed.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::process::Pid;

/// Reads lines, each the targets of `kill` as of now. When the pipe ends it kills the last ones,
/// runs the epilogue in the folder, and removes the folder, again while a dying process still
/// writes there.
const SCRIPT: &str = r#"
while IFS= read -r line; do targets=$line; done
[ -z "$targets" ] || kill -KILL $targets
(cd "$1" && eval "$2")
tries=0
until rm -rf -- "$1" || [ "$tries" -ge 50 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
"#;

/// A process that outlives the test's by a moment
///
/// It waits on a pipe whose other end only this process holds: it learns of every way to end.
#[derive(Debug)]
pub(super) struct Watchdog {
    child: Child,
    /// Present until the drop.
    pipe: Option<ChildStdin>,
}

impl Watchdog {
    /// Will remove the folder, having run a shell script in it.
    pub(super) fn over(folder: &Path, epilogue: &str) -> io::Result<Self> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "watchdog"])
            .arg(folder)
            .arg(epilogue)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Not to be interrupted from the terminal together with the test.
            .process_group(0)
            .spawn()?;
        let pipe = child.stdin.take();
        Ok(Self { child, pipe })
    }

    /// Sets what is to be killed: the group of a process, and some processes beside it.
    pub(super) fn guard(&mut self, group: Pid, others: &[Pid]) -> io::Result<()> {
        let targets: Vec<_> = others.iter().map(|pid| format!(" {}", pid.as_raw_pid())).collect();
        self.say(&format!("-{}{}\n", group.as_raw_pid(), targets.concat()))
    }

    /// Nothing is left to be killed.
    pub(super) fn unguard(&mut self) -> io::Result<()> {
        self.say("\n")
    }

    fn say(&mut self, line: &str) -> io::Result<()> {
        // In one piece: it must not read half a line.
        self.pipe.as_mut().ok_or(io::ErrorKind::BrokenPipe)?.write_all(line.as_bytes())
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _reaped = self.child.wait();
    }
}
