use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::LoadError;

/// A timer that is exact to some microseconds; the timeouts of `epoll` are rounded up to milliseconds
#[derive(Debug)]
pub(crate) struct Alarm {
    timer: OwnedFd,
    set: Option<Instant>,
}

impl Alarm {
    pub(crate) fn new() -> Result<Self, LoadError> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self { timer: timerfd_create(TimerfdClockId::Monotonic, flags)?, set: None })
    }

    pub(crate) fn register(&self, registry: &Registry, token: Token) -> Result<(), LoadError> {
        let timer = self.timer.as_raw_fd();
        Ok(registry.register(&mut SourceFd(&timer), token, Interest::READABLE)?)
    }

    pub(crate) fn set(&mut self, at: Instant) -> Result<(), LoadError> {
        if self.set == Some(at) {
            return Ok(());
        }
        // A time of zero would turn the timer off.
        let left = at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        let left =
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = Itimerspec { it_interval: none, it_value: left };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &value)?;
        self.set = Some(at);
        Ok(())
    }

    /// It has woken the loop.
    pub(crate) fn rang(&mut self) {
        let mut count = [0; 8];
        // Setting it again does the same as reading it; a failure here means that this was done.
        let _ = rustix::io::read(&self.timer, &mut count);
        self.set = None;
    }
}

/// When the messages of an open loop are due: evenly, the flows in turn
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    start: Instant,
    per_second: f64,
    next: u64,
}

impl Schedule {
    pub(crate) const fn new(start: Instant, per_second: f64) -> Self {
        Self { start, per_second, next: 0 }
    }

    /// The number and the intended time of the next message.
    pub(crate) fn next(&self) -> (u64, Instant) {
        (self.next, self.start + Duration::from_secs_f64(self.next as f64 / self.per_second))
    }

    pub(crate) const fn sent(&mut self) {
        self.next += 1;
    }
}
