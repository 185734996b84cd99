use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::process::Usage;
use crate::{LoadError, Progress, Report, Target};

use super::flow::Flows;
use super::opening::open;
use super::traffic::{Load, Pump, Shape, Snapshot, Traffic};
use super::{Ack, too_long};

/// Connections that do nothing
///
/// Each has a subscription of its own. At the end each gets one message, to see that it is alive.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Idle {
    /// How many
    pub connections: usize,
    /// What each subscribes to, and sends its message to
    pub destination: String,
    /// How long they are left alone before the memory is looked at
    pub hold: Duration,
    /// Connections that are being made at a time
    pub opening: usize,
}

impl Idle {
    /// So many connections with a topic each, left alone for 2 s.
    #[must_use]
    pub fn new(connections: usize) -> Self {
        Self {
            connections,
            destination: "/topic/idle-{run}-{n}".to_owned(),
            hold: Duration::from_secs(2),
            opening: 64,
        }
    }

    /// Runs it. The memory of the first fiftieth of the connections is not counted: what a server makes once it
    /// makes for those.
    ///
    /// # Errors
    ///
    /// As [`Traffic::run`].
    pub fn run(&self, target: &Target, progress: &mut dyn Progress) -> Result<Report, LoadError> {
        let traffic = Traffic {
            send_to: self.destination.clone(),
            subscribe_to: self.destination.clone(),
            ack: Ack::Auto,
            receipts: false,
            ..Traffic::new(Shape::Ring(self.connections), Load::Window(1))
        };
        let mut engine = Engine::new(target, 4096)?;
        let (mut flows, mut plans) = traffic.prepare(target)?;
        // Each to itself.
        for (index, receiver) in flows.receivers.iter_mut().enumerate() {
            if let Some(receiver) = receiver {
                receiver.flow = index;
            }
        }
        let start = Instant::now();
        let rest = plans.split_off((self.connections / 50).min(plans.len()));
        let counted = rest.len();
        open(&mut engine, &mut flows, plans, self.opening, progress)?;
        let rss = || target.pid.and_then(|pid| Usage::of(Some(pid))).map(|usage| usage.rss);
        wait(&mut engine, &mut flows, Duration::from_millis(300))?;
        let before = rss();
        open(&mut engine, &mut flows, rest, self.opening, progress)?;
        let seconds = start.elapsed().as_secs_f64();
        let held = Snapshot::take(target, &flows);
        wait(&mut engine, &mut flows, self.hold)?;
        let mut report = Snapshot::take(target, &flows).since(&held);
        let after = rss();

        let mut pump = Pump::new(Load::Window(1));
        flows.start();
        pump.turn(&mut engine, &mut flows, Instant::now())?;
        pump.sending = false;
        pump.drain(&mut engine, &mut flows, progress)?;

        report.scenario = "idle".to_owned();
        report.connections = self.connections;
        report.per_second = self.connections as f64 / seconds;
        report.server_cpu_micros = None;
        report.rss_per_connection = after
            .zip(before)
            .map(|(after, before)| after.saturating_sub(before) as f64 / counted.max(1) as f64);
        report.sent = flows.sent();
        report.delivered = flows.delivered;
        flows.close();
        if flows.sent() < self.connections as u64 {
            return Err(too_long("not every connection could send"));
        }
        report.faults = flows.faults;
        Ok(report)
    }
}

/// Lets a time pass.
fn wait(engine: &mut Engine<'_>, flows: &mut Flows, time: Duration) -> Result<(), LoadError> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        engine.wait(flows, end.saturating_duration_since(Instant::now()))?;
        engine.flush(flows);
    }
    Ok(())
}
