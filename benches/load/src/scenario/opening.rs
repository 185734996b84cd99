use std::time::{Duration, Instant};

use crate::connection::Plan;
use crate::engine::Engine;
use crate::{LoadError, Progress};

use super::flow::Flows;
use super::{PATIENCE, too_long};

/// Opens connections, so many at a time, until all are ready.
pub(super) fn open(
    engine: &mut Engine<'_>,
    flows: &mut Flows,
    plans: Vec<Plan>,
    at_a_time: usize,
    progress: &mut dyn Progress,
) -> Result<(), LoadError> {
    let before = engine.ready();
    let all = plans.len();
    let mut plans = plans.into_iter();
    let mut opened = 0;
    let mut moved = (Instant::now(), 0);
    loop {
        let ready = engine.ready() - before;
        while opened - ready < at_a_time
            && let Some(plan) = plans.next()
        {
            engine.open(plan)?;
            opened += 1;
        }
        engine.flush(flows);
        if flows.faults.disconnected > 0 {
            let reason = flows.faults.reason.clone().unwrap_or_default();
            return Err(LoadError::Lost(reason));
        }
        if ready > moved.1 {
            moved = (Instant::now(), ready);
        } else if moved.0.elapsed() > PATIENCE {
            return Err(too_long("connections do not get ready"));
        }
        progress.at("connecting", ready as u64, all as u64);
        if ready == all {
            return Ok(());
        }
        engine.wait(flows, Duration::from_millis(100))?;
    }
}
