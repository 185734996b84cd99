use std::time::{Duration, Instant};

use crate::body::{MIN_BODY, Pattern};
use crate::connection::Plan;
use crate::engine::Engine;
use crate::frames::{Fillers, SendFrames, SendPlan};
use crate::pace::Schedule;
use crate::process::Usage;
use crate::scenario::flow::{Flow, Flows, Receiver};
use crate::{LoadError, Progress, Report, Target};

use super::opening::open;
use super::{Ack, PATIENCE, destination, plan, run_name};

/// Who sends to whom
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shape {
    /// So many pairs of a connection that sends and one that receives
    Pairs(usize),
    /// So many topics, with one connection that sends and so many that listen each, some of which stop reading
    FanOut {
        /// Topics
        topics: usize,
        /// Connections that listen to each of them
        subscribers: usize,
        /// Of these, how many stop to read
        slow: usize,
    },
    /// So many people, each of whom writes to the next
    Ring(usize),
    /// A group of so many people, the first of whom writes to it
    Group(usize),
}

/// How much is sent
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Load {
    /// Closed loop: so many messages of each flow are on their way at any time
    Window(usize),
    /// Open loop: so many messages a second of all flows together, whatever becomes of them; the latency of a
    /// message counts from when it was due
    Rate(f64),
}

/// Messages from connections to connections
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Traffic {
    /// What the report calls it
    pub name: String,
    /// Who sends to whom
    pub shape: Shape,
    /// How much is sent
    pub load: Load,
    /// Where to. `{n}` is the number of the flow, `{run}` a name of this run, `{to}` the login of the receiver
    pub send_to: String,
    /// Where from, written alike
    pub subscribe_to: String,
    /// Headers of every SEND
    pub send_headers: Vec<(String, String)>,
    /// Headers of every SUBSCRIBE
    pub subscribe_headers: Vec<(String, String)>,
    /// How messages are acknowledged
    pub ack: Ack,
    /// Whether every SEND asks for a receipt
    pub receipts: bool,
    /// Octets of a body, 16 at least
    pub size: usize,
    /// How long it runs before it is measured
    pub warm_up: Duration,
    /// How long it is measured
    pub duration: Duration,
    /// Connections that are being made at a time
    pub opening: usize,
}

impl Traffic {
    /// 128 octets, measured for 5 s after 1 s. People acknowledge what they get, and ask for receipts.
    #[must_use]
    pub fn new(shape: Shape, load: Load) -> Self {
        let (name, place) = match shape {
            Shape::Pairs(_) => ("pairs", "/queue/load-{run}-{n}"),
            Shape::FanOut { slow: 0, .. } => ("fan-out", "/topic/load-{run}-{n}"),
            Shape::FanOut { .. } => ("slow readers", "/topic/load-{run}-{n}"),
            Shape::Ring(_) => ("direct", "/user/{to}"),
            Shape::Group(_) => ("group", "/group/load"),
        };
        let people = matches!(shape, Shape::Ring(_) | Shape::Group(_));
        Self {
            name: name.to_owned(),
            shape,
            load,
            send_to: place.to_owned(),
            subscribe_to: if people { "/inbox" } else { place }.to_owned(),
            send_headers: Vec::new(),
            subscribe_headers: Vec::new(),
            ack: if people { Ack::Individual } else { Ack::Auto },
            receipts: people,
            size: 128,
            warm_up: Duration::from_secs(1),
            duration: Duration::from_secs(5),
            opening: 64,
        }
    }

    /// Sets how long it runs before it is measured, and how long it is measured.
    #[must_use]
    pub const fn with_times(mut self, warm_up: Duration, duration: Duration) -> Self {
        self.warm_up = warm_up;
        self.duration = duration;
        self
    }

    /// Sets the octets of a body.
    #[must_use]
    pub const fn with_size(mut self, octets: usize) -> Self {
        self.size = octets;
        self
    }

    /// Sets the group that is written to.
    #[must_use]
    pub fn with_group(mut self, name: &str) -> Self {
        self.send_to = format!("/group/{name}");
        self
    }

    /// Stores each message: it asks for a receipt, is persistent where that has to be said, and is acknowledged.
    #[must_use]
    pub fn durable(mut self) -> Self {
        self.receipts = true;
        self.ack = Ack::Individual;
        self.send_headers.push(("persistent".to_owned(), "true".to_owned()));
        self
    }

    /// Runs it.
    ///
    /// # Errors
    ///
    /// [`LoadError`] where it cannot be run. What a server does to messages is no error but in
    /// [`Report::faults`].
    pub fn run(&self, target: &Target, progress: &mut dyn Progress) -> Result<Report, LoadError> {
        let mut engine = Engine::new(target, self.size + 4096)?;
        let (mut flows, plans) = self.prepare(target)?;
        let connections = plans.len();
        open(&mut engine, &mut flows, plans, self.opening, progress)?;
        for (index, receiver) in flows.receivers.iter().enumerate() {
            if receiver.as_ref().is_some_and(|receiver| receiver.slow) {
                engine.pause(index);
            }
        }

        let mut pump = Pump::new(self.load);
        flows.start();
        pump.run(&mut engine, &mut flows, self.warm_up, "warming up", progress)?;
        let before = Snapshot::take(target, &flows);
        flows.measuring = true;
        pump.run(&mut engine, &mut flows, self.duration, "measuring", progress)?;
        flows.measuring = false;
        let after = Snapshot::take(target, &flows);
        pump.sending = false;
        pump.drain(&mut engine, &mut flows, progress)?;
        pump.drain_slow(&mut engine, &mut flows)?;
        if self.ack == Ack::Individual {
            pump.settle(&mut engine, &mut flows)?;
        }

        let mut report = after.since(&before);
        report.scenario.clone_from(&self.name);
        report.connections = connections;
        report.size = self.size;
        report.latency = flows.latency.latency();
        report.sent = flows.sent();
        report.delivered = flows.delivered;
        report.dropped = flows.close();
        report.faults = flows.faults;
        Ok(report)
    }

    pub(super) fn prepare(&self, target: &Target) -> Result<(Flows, Vec<Plan>), LoadError> {
        if self.size < MIN_BODY {
            return Err(LoadError::Plan(format!("a body has at least {MIN_BODY} octets")));
        }
        let run = run_name();
        let pattern = Pattern::new(self.size);
        let mut fillers = Fillers::default();
        let sends = SendPlan {
            headers: &self.send_headers,
            receipts: self.receipts,
            size: self.size,
            framed: target.address.path.is_some(),
        };
        let mut plans = Vec::new();
        let mut receivers = Vec::new();
        let mut flows: Vec<Flow> = Vec::new();
        let mut flow = |sender: usize, to: usize, needs: usize, flows: &mut Vec<Flow>| {
            let number = flows.len();
            let destination = destination(&self.send_to, number, &run, target, to);
            let frames =
                SendFrames::new(number as u32, &destination, sends, &pattern, &mut fillers);
            let needs = needs as u32 + u32::from(self.receipts);
            flows.push(Flow::new(sender, frames, needs));
        };
        let listen = |number: usize, flow: usize| {
            let from = destination(&self.subscribe_to, flow, &run, target, number);
            plan(number, Some(from), self.ack, &self.subscribe_headers)
        };
        let receiver = |flow, slow| Some(Receiver { flow, slow, ledger: Default::default() });
        match self.shape {
            Shape::Pairs(pairs) => {
                for number in 0..pairs {
                    let sender = plans.len();
                    flow(sender, sender + 1, 1, &mut flows);
                    plans.push(plan(sender, None, self.ack, &[]));
                    plans.push(listen(sender + 1, number));
                    receivers.extend([None, receiver(number, false)]);
                }
            }
            Shape::FanOut { topics, subscribers, slow } => {
                for topic in 0..topics {
                    let sender = plans.len();
                    flow(sender, sender, subscribers.saturating_sub(slow), &mut flows);
                    plans.push(plan(sender, None, self.ack, &[]));
                    receivers.push(None);
                    for subscriber in 0..subscribers {
                        plans.push(listen(plans.len(), topic));
                        receivers.push(receiver(topic, subscriber < slow));
                    }
                }
            }
            Shape::Ring(people) => {
                for person in 0..people {
                    flow(person, (person + 1) % people, 1, &mut flows);
                    plans.push(listen(person, person));
                    receivers.push(receiver((person + people - 1) % people, false));
                }
            }
            Shape::Group(members) => {
                flow(0, 0, members.saturating_sub(1), &mut flows);
                plans.extend((0..members).map(|member| listen(member, 0)));
                // What somebody says does not come back to the device that said it.
                let gets = |member| if member == 0 { None } else { receiver(0, false) };
                receivers.extend((0..members).map(gets));
            }
        }
        let flows = Flows::new(flows, receivers, pattern, self.ack, self.receipts)?;
        Ok((flows, plans))
    }
}

/// How long to wait for what may never come
const A_WHILE: Duration = Duration::from_secs(1);

/// Keeps the flows flowing
#[derive(Debug)]
pub(super) struct Pump {
    load: Load,
    schedule: Option<Schedule>,
    pub(super) sending: bool,
}

impl Pump {
    pub(super) const fn new(load: Load) -> Self {
        Self { load, schedule: None, sending: true }
    }

    /// Runs for a time.
    fn run(
        &mut self,
        engine: &mut Engine<'_>,
        flows: &mut Flows,
        time: Duration,
        phase: &'static str,
        progress: &mut dyn Progress,
    ) -> Result<(), LoadError> {
        let start = Instant::now();
        let end = start + time;
        let mut told = start;
        let mut now = start;
        while now < end {
            self.turn(engine, flows, end)?;
            now = engine.now();
            if now >= told {
                told = now + Duration::from_millis(100);
                let done = now.saturating_duration_since(start).as_millis() as u64;
                progress.at(phase, done, time.as_millis() as u64);
            }
        }
        Ok(())
    }

    /// Sends what is to be sent, then takes what has come.
    pub(super) fn turn(
        &mut self,
        engine: &mut Engine<'_>,
        flows: &mut Flows,
        end: Instant,
    ) -> Result<(), LoadError> {
        let now = Instant::now();
        let mut until = end;
        if self.sending {
            match self.load {
                Load::Window(window) => flows.fill(engine, window, engine.micros(now)),
                Load::Rate(rate) => {
                    let schedule = self.schedule.get_or_insert_with(|| Schedule::new(now, rate));
                    let due = loop {
                        let (number, due) = schedule.next();
                        if due > now {
                            break due;
                        }
                        let flow = (number % flows.flows.len().max(1) as u64) as usize;
                        let micros = engine.micros(due);
                        flows.send(flow, engine, micros);
                        schedule.sent();
                    };
                    if due < end {
                        until = due;
                        engine.alarm(due)?;
                    }
                }
            }
        }
        engine.flush(flows);
        // The alarm is exact; the timeout behind it is for the end of the phase.
        let left = until.saturating_duration_since(now) + Duration::from_millis(1);
        engine.wait(flows, left.min(Duration::from_millis(100)))
    }

    /// Waits for what is on its way.
    pub(super) fn drain(
        &mut self,
        engine: &mut Engine<'_>,
        flows: &mut Flows,
        progress: &mut dyn Progress,
    ) -> Result<(), LoadError> {
        let all = flows.in_flight();
        // What is lost now is counted by the ledgers.
        let patience = |flows: &Flows| match flows.faults.disconnected {
            0 => PATIENCE,
            _ => PATIENCE / 10,
        };
        self.exhaust(engine, flows, patience, |flows| {
            let left = flows.in_flight();
            progress.at("draining", (all - left.min(all)) as u64, all as u64);
            left as u64
        })?;
        flows.over = true;
        Ok(())
    }

    /// Waits until the server has all acknowledgements: what is open comes into the next run.
    fn settle(&mut self, engine: &mut Engine<'_>, flows: &mut Flows) -> Result<(), LoadError> {
        let all = flows.disconnect(engine);
        // Not every server answers.
        self.exhaust(engine, flows, |_| A_WHILE, |flows| all.saturating_sub(flows.settled) as u64)
    }

    /// Lets slow readers have what is left for them.
    fn drain_slow(&mut self, engine: &mut Engine<'_>, flows: &mut Flows) -> Result<(), LoadError> {
        let slow: Vec<usize> = (0..flows.receivers.len())
            .filter(|index| {
                matches!(flows.receivers.get(*index), Some(Some(receiver)) if receiver.slow)
            })
            .collect();
        if slow.is_empty() {
            return Ok(());
        }
        slow.into_iter().for_each(|index| engine.resume(index));
        // How much is left nobody knows.
        self.exhaust(engine, flows, |_| A_WHILE, |flows| u64::MAX - flows.delivered)
    }

    /// Goes on until nothing is left, or nothing has become less for as long as `patience` says.
    fn exhaust(
        &mut self,
        engine: &mut Engine<'_>,
        flows: &mut Flows,
        patience: impl Fn(&Flows) -> Duration,
        mut left: impl FnMut(&Flows) -> u64,
    ) -> Result<(), LoadError> {
        let mut moved = (Instant::now(), u64::MAX);
        loop {
            let left = left(flows);
            if left < moved.1 {
                moved = (Instant::now(), left);
            }
            if left == 0 || moved.0.elapsed() > patience(flows) {
                return Ok(());
            }
            self.turn(engine, flows, Instant::now() + Duration::from_millis(100))?;
        }
    }
}

/// Counters at one moment
#[derive(Clone, Copy, Debug)]
pub(super) struct Snapshot {
    at: Instant,
    server: Option<Usage>,
    generator: Option<Usage>,
    sent: u64,
    delivered: u64,
}

impl Snapshot {
    pub(super) fn take(target: &Target, flows: &Flows) -> Self {
        Self::of(target, flows.sent(), flows.delivered)
    }

    pub(super) fn of(target: &Target, sent: u64, delivered: u64) -> Self {
        Self {
            at: Instant::now(),
            server: target.pid.and_then(|pid| Usage::of(Some(pid))),
            generator: Usage::of(None),
            sent,
            delivered,
        }
    }

    /// What was done since another one.
    pub(super) fn since(&self, before: &Self) -> Report {
        let seconds = self.at.duration_since(before.at).as_secs_f64();
        let cpu = |now: Option<Usage>, then: Option<Usage>| {
            Some(now?.cpu.saturating_sub(then?.cpu).as_secs_f64())
        };
        let server = cpu(self.server, before.server);
        let delivered = self.delivered - before.delivered;
        Report {
            seconds,
            sent_per_second: (self.sent - before.sent) as f64 / seconds,
            per_second: delivered as f64 / seconds,
            server_cpu_micros: server
                .filter(|_| delivered > 0)
                .map(|cpu| cpu * 1e6 / delivered as f64),
            server_cores: server.map(|cpu| cpu / seconds),
            server_rss: self.server.map(|usage| usage.rss),
            generator_cores: cpu(self.generator, before.generator).unwrap_or_default() / seconds,
            ..Report::default()
        }
    }
}
