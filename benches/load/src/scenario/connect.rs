use std::time::{Duration, Instant};

use crate::engine::{Engine, Handler};
use crate::latency::Recorder;
use crate::{Faults, LoadError, Progress, Report, Target};

use super::traffic::Snapshot;
use super::{Ack, PATIENCE, destination, plan, run_name, too_long};

/// Connections that are made, subscribe, and go away, one behind the other
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectRate {
    /// Connections that are being made at a time
    pub at_a_time: usize,
    /// What each subscribes to
    pub destination: String,
    /// How long it is measured
    pub duration: Duration,
}

impl ConnectRate {
    /// So many at a time, each with a topic of its own, for 5 s.
    #[must_use]
    pub fn new(at_a_time: usize) -> Self {
        Self {
            at_a_time,
            destination: "/topic/connect-{run}-{n}".to_owned(),
            duration: Duration::from_secs(5),
        }
    }

    /// Runs it.
    ///
    /// # Errors
    ///
    /// [`LoadError`] where it cannot be run.
    pub fn run(&self, target: &Target, progress: &mut dyn Progress) -> Result<Report, LoadError> {
        let mut crowd = Crowd::new(target, &self.destination)?;
        for index in 0..self.at_a_time {
            crowd.open(index)?;
        }
        let start = Instant::now();
        let before = Snapshot::of(target, 0, 0);
        while start.elapsed() < self.duration {
            crowd.turn()?;
            for index in std::mem::take(&mut crowd.seen.ready) {
                crowd.done(index);
                crowd.open(index)?;
            }
            for index in std::mem::take(&mut crowd.seen.closed) {
                crowd.open(index)?;
            }
            let done = start.elapsed().min(self.duration).as_millis() as u64;
            progress.at("connecting", done, self.duration.as_millis() as u64);
        }
        crowd.report("connection rate", self.at_a_time, &before)
    }
}

/// Connections that are all lost at once, and come again at once
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Storm {
    /// How many
    pub connections: usize,
    /// What each subscribes to
    pub destination: String,
}

impl Storm {
    /// So many connections with a topic each.
    #[must_use]
    pub fn new(connections: usize) -> Self {
        Self { connections, destination: "/topic/storm-{run}-{n}".to_owned() }
    }

    /// Runs it. The rate is of those that came again; one that was refused tries again.
    ///
    /// # Errors
    ///
    /// [`LoadError`] where it cannot be run, and where it takes longer than 30 s until the next one is ready.
    pub fn run(&self, target: &Target, progress: &mut dyn Progress) -> Result<Report, LoadError> {
        let mut crowd = Crowd::new(target, &self.destination)?;
        crowd.gather(self.connections, 64, "connecting", progress)?;
        for index in 0..self.connections {
            crowd.engine.cut(index);
        }
        let mut crowd = Crowd { recorder: Recorder::new()?, made: 0, ..crowd };
        let before = Snapshot::of(target, 0, 0);
        crowd.gather(self.connections, usize::MAX, "coming again", progress)?;
        crowd.report("reconnect storm", self.connections, &before)
    }
}

/// Connections that come and go
#[derive(Debug)]
struct Crowd<'a> {
    target: &'a Target,
    engine: Engine<'a>,
    destination: &'a str,
    run: String,
    next: usize,
    /// When each began
    began: Vec<Instant>,
    seen: Seen,
    recorder: Recorder,
    made: u64,
}

#[derive(Debug, Default)]
struct Seen {
    ready: Vec<usize>,
    closed: Vec<usize>,
    faults: Faults,
}

impl Handler for Seen {
    fn ready(&mut self, index: usize) {
        self.ready.push(index);
    }

    fn closed(&mut self, index: usize, why: LoadError) {
        self.closed.push(index);
        self.faults.disconnected += 1;
        self.faults.reason.get_or_insert_with(|| why.to_string());
    }
}

impl<'a> Crowd<'a> {
    fn new(target: &'a Target, destination: &'a str) -> Result<Self, LoadError> {
        Ok(Self {
            target,
            engine: Engine::new(target, 4096)?,
            destination,
            run: run_name(),
            next: 0,
            began: Vec::new(),
            seen: Seen::default(),
            recorder: Recorder::new()?,
            made: 0,
        })
    }

    /// Opens a connection, new or in the place of another.
    fn open(&mut self, index: usize) -> Result<(), LoadError> {
        let number = self.next;
        self.next += 1;
        let place = destination(self.destination, number, &self.run, self.target, number);
        let plan = plan(number, Some(place), Ack::Auto, &[]);
        let now = Instant::now();
        match self.began.get_mut(index) {
            Some(began) => {
                *began = now;
                self.engine.open_again(index, plan)
            }
            None => {
                self.began.push(now);
                self.engine.open(plan).map(drop)
            }
        }
    }

    fn turn(&mut self) -> Result<(), LoadError> {
        self.engine.flush(&mut self.seen);
        self.engine.wait(&mut self.seen, Duration::from_millis(100))
    }

    fn done(&mut self, index: usize) {
        if let Some(began) = self.began.get(index) {
            self.recorder.record(began.elapsed().as_micros() as u64);
        }
        self.made += 1;
    }

    /// Opens connections, so many at a time, until all are there.
    fn gather(
        &mut self,
        all: usize,
        at_a_time: usize,
        phase: &'static str,
        progress: &mut dyn Progress,
    ) -> Result<(), LoadError> {
        let mut opened = 0;
        let mut ready = 0;
        let mut moved = Instant::now();
        while ready < all {
            while opened < all && opened - ready < at_a_time {
                self.open(opened)?;
                opened += 1;
            }
            self.turn()?;
            for index in std::mem::take(&mut self.seen.ready) {
                self.done(index);
                ready += 1;
                moved = Instant::now();
            }
            for index in std::mem::take(&mut self.seen.closed) {
                self.open(index)?;
            }
            if moved.elapsed() > PATIENCE {
                return Err(too_long("connections do not get ready"));
            }
            progress.at(phase, ready as u64, all as u64);
        }
        Ok(())
    }

    fn report(
        self,
        scenario: &str,
        connections: usize,
        before: &Snapshot,
    ) -> Result<Report, LoadError> {
        let report = Snapshot::of(self.target, self.made, self.made).since(before);
        Ok(Report {
            scenario: scenario.to_owned(),
            connections,
            latency: self.recorder.latency(),
            sent: self.made,
            delivered: self.made,
            faults: self.seen.faults,
            ..report
        })
    }
}
