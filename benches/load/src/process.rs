use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Resource, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::LoadError;

/// What a process and its threads have used so far
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// CPU time, in user and kernel
    pub cpu: Duration,
    /// Memory that is resident, in octets
    pub rss: u64,
}

impl Usage {
    /// Of the process `pid`; of this one where there is none. `None` if it does not run, or this system has no `/proc`.
    #[must_use]
    pub fn of(pid: Option<u32>) -> Option<Self> {
        let folder = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
        let stat = fs::read_to_string(format!("/proc/{folder}/stat")).ok()?;
        // The name may hold anything, blanks and parentheses too.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        let ticks = number(11)? + number(12)?;
        let per_second = rustix::param::clock_ticks_per_second();
        let cpu = Duration::from_micros(ticks * 1_000_000 / per_second);
        Some(Self { cpu, rss: number(21)? * rustix::param::page_size() as u64 })
    }
}

/// How many more files the process `pid`, or this one, may open. `None` as for [`Usage::of`].
pub(crate) fn files_left(pid: Option<u32>) -> Option<usize> {
    let folder = pid.map_or_else(|| "/proc/self".to_owned(), |pid| format!("/proc/{pid}"));
    let limits = fs::read_to_string(format!("{folder}/limits")).ok()?;
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let limit = limit.split_whitespace().next()?.parse().unwrap_or(usize::MAX);
    Some(limit.saturating_sub(fs::read_dir(format!("{folder}/fd")).ok()?.count()))
}

/// How many octets may be written into a folder.
pub(crate) fn free(folder: &Path) -> Result<u64, LoadError> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Lets the calling thread, and what it starts from now on, run on these cores only.
///
/// # Errors
///
/// Where there is no such core.
pub fn pin(cores: &[usize]) -> Result<(), LoadError> {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    Ok(sched_setaffinity(None::<Pid>, &set)?)
}

/// Lets this process have as many open files as it may. Gives their number.
pub fn raise_file_limit() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
