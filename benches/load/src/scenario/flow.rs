use std::collections::VecDeque;

use crate::body::{Pattern, Stamp};
use crate::connection::refusal;
use crate::engine::{Engine, Handler};
use crate::frames::{Outbox, SendFrames, read_receipt};
use crate::latency::Recorder;
use crate::ledger::{Ledger, Verdict};
use crate::scan::Incoming;
use crate::{Faults, LoadError};

use super::Ack;

/// Messages from one connection to others
#[derive(Debug)]
pub(super) struct Flow {
    /// The connection that sends
    pub(super) sender: usize,
    pub(super) frames: SendFrames,
    /// Deliveries that make a message complete, its receipt included
    pub(super) needs: u32,
    pub(super) sent: u64,
    confirmed: u64,
    /// What is still to come of the messages in flight, the first of them being `first`
    open: VecDeque<u32>,
    first: u64,
    /// It stands in the list of flows that may send.
    queued: bool,
}

impl Flow {
    pub(super) fn new(sender: usize, frames: SendFrames, needs: u32) -> Self {
        Self {
            sender,
            frames,
            needs,
            sent: 0,
            confirmed: 0,
            open: VecDeque::new(),
            first: 0,
            queued: false,
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.open.len()
    }

    fn done(&mut self, seq: u64) {
        let place = usize::try_from(seq.wrapping_sub(self.first)).unwrap_or(usize::MAX);
        if let Some(open) = self.open.get_mut(place) {
            *open = open.saturating_sub(1);
        }
        while self.open.front() == Some(&0) {
            self.open.pop_front();
            self.first += 1;
        }
    }
}

/// What a connection gets
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) flow: usize,
    pub(super) slow: bool,
    pub(super) ledger: Ledger,
}

/// All flows of a run
#[derive(Debug)]
pub(super) struct Flows {
    pub(super) flows: Vec<Flow>,
    /// By connection
    pub(super) receivers: Vec<Option<Receiver>>,
    pub(super) pattern: Pattern,
    pub(super) ack: Ack,
    pub(super) receipts: bool,
    pub(super) delivered: u64,
    pub(super) latency: Recorder,
    pub(super) measuring: bool,
    pub(super) faults: Faults,
    /// Connections that became ready in this turn
    pub(super) opened: u64,
    /// The end of the run: connections may end as well.
    pub(super) over: bool,
    /// Receivers of which the server has all acknowledgements
    pub(super) settled: usize,
    /// Flows of which something was completed
    may_send: Vec<usize>,
    micros: u64,
}

/// Names the receipt of a DISCONNECT.
const GOODBYE: &[u8] = b"goodbye";

impl Flows {
    pub(super) fn new(
        flows: Vec<Flow>,
        receivers: Vec<Option<Receiver>>,
        pattern: Pattern,
        ack: Ack,
        receipts: bool,
    ) -> Result<Self, LoadError> {
        Ok(Self {
            flows,
            receivers,
            pattern,
            ack,
            receipts,
            delivered: 0,
            latency: Recorder::new()?,
            measuring: false,
            faults: Faults::default(),
            opened: 0,
            over: false,
            settled: 0,
            may_send: Vec::new(),
            micros: 0,
        })
    }

    /// Lets every flow send in the next turn.
    pub(super) fn start(&mut self) {
        for (index, flow) in self.flows.iter_mut().enumerate() {
            flow.queued = true;
            self.may_send.push(index);
        }
    }

    /// Closed loop: fills the window of every flow that something was completed of.
    pub(super) fn fill(&mut self, engine: &mut Engine<'_>, window: usize, micros: u64) {
        let Self { flows, pattern, may_send, .. } = self;
        may_send.retain(|index| {
            let Some(flow) = flows.get_mut(*index) else { return false };
            while flow.open.len() < window {
                let Some(outbox) = engine.outbox(flow.sender) else { return true };
                send(flow, outbox, micros, pattern);
            }
            flow.queued = false;
            false
        });
    }

    /// Open loop: one message of one flow, whatever is in flight.
    pub(super) fn send(&mut self, index: usize, engine: &mut Engine<'_>, micros: u64) {
        if let Some(flow) = self.flows.get_mut(index)
            && let Some(outbox) = engine.outbox_anyway(flow.sender)
        {
            send(flow, outbox, micros, &self.pattern);
        }
    }

    /// Lets every receiver disconnect, whose receipt says that the server has all acknowledgements.
    /// Gives how many there are.
    pub(super) fn disconnect(&self, engine: &mut Engine<'_>) -> usize {
        let mut all = 0;
        for (index, receiver) in self.receivers.iter().enumerate() {
            if receiver.is_some()
                && let Some(outbox) = engine.outbox_anyway(index)
            {
                outbox.frame(&[b"DISCONNECT\nreceipt:", GOODBYE, b"\n\n\0"]);
                all += 1;
            }
        }
        all
    }

    pub(super) fn sent(&self) -> u64 {
        self.flows.iter().map(|flow| flow.sent).sum()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.flows.iter().map(Flow::in_flight).sum()
    }

    /// Counts what has not come. Gives what slow readers did not get.
    pub(super) fn close(&mut self) -> u64 {
        let mut dropped = 0;
        for receiver in self.receivers.iter().flatten() {
            let sent = self.flows.get(receiver.flow).map_or(0, |flow| flow.sent);
            let lost = receiver.ledger.lost(sent);
            if receiver.slow {
                dropped += lost;
            } else {
                self.faults.lost += lost;
            }
        }
        if self.receipts {
            let missing = self.flows.iter().map(|flow| flow.sent.saturating_sub(flow.confirmed));
            self.faults.unconfirmed += missing.sum::<u64>();
        }
        dropped
    }

    fn complete(&mut self, index: usize, seq: u64) {
        if let Some(flow) = self.flows.get_mut(index) {
            flow.done(seq);
            if !flow.queued {
                flow.queued = true;
                self.may_send.push(index);
            }
        }
    }
}

fn send(flow: &mut Flow, outbox: &mut Outbox, micros: u64, pattern: &Pattern) {
    flow.frames.put(&mut outbox.octets, flow.sent, micros, pattern);
    flow.sent += 1;
    flow.open.push_back(flow.needs);
}

impl Handler for Flows {
    fn clock(&mut self, micros: u64) {
        self.micros = micros;
    }

    fn ready(&mut self, _index: usize) {
        self.opened += 1;
    }

    fn message(&mut self, index: usize, frame: Incoming<'_>, outbox: &mut Outbox) {
        if self.ack == Ack::Individual
            && let Some(id) = frame.header(b"ack")
        {
            outbox.frame(&[b"ACK\nid:", id, b"\n\n\0"]);
        }
        let stamp = self.pattern.check(frame.body);
        let receiver = self.receivers.get_mut(index).and_then(Option::as_mut);
        let (Some(Stamp { flow, seq, micros }), Some(receiver)) = (stamp, receiver) else {
            self.faults.corrupted += 1;
            self.faults.reason.get_or_insert_with(|| refusal(frame).to_string());
            return;
        };
        let flow = flow as usize;
        if receiver.flow != flow || self.flows.get(flow).is_none_or(|flow| seq >= flow.sent) {
            self.faults.corrupted += 1;
            return;
        }
        match receiver.ledger.enter(seq) {
            Verdict::InOrder => {}
            Verdict::Late => self.faults.reordered += 1,
            Verdict::Again => {
                self.faults.duplicated += 1;
                return;
            }
        }
        let slow = receiver.slow;
        self.delivered += 1;
        if !slow {
            if self.measuring {
                self.latency.record(self.micros.saturating_sub(micros));
            }
            self.complete(flow, seq);
        }
    }

    fn receipt(&mut self, _index: usize, id: &[u8]) {
        self.settled += usize::from(id == GOODBYE);
        if let Some((index, seq)) = read_receipt(id) {
            if let Some(flow) = self.flows.get_mut(index) {
                flow.confirmed += 1;
            }
            self.complete(index, seq);
        }
    }

    fn closed(&mut self, index: usize, why: LoadError) {
        let slow = self.receivers.get(index).and_then(Option::as_ref).is_some_and(|one| one.slow);
        if !slow && !self.over {
            self.faults.disconnected += 1;
            self.faults.reason.get_or_insert_with(|| why.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{Fillers, SendPlan};
    use crate::scan::{Item, Scan};

    const SIZE: usize = 64;

    /// A flow to a receiver and to a slow one, with so many messages sent; and these messages.
    fn sent(count: u64) -> (Flows, Vec<Vec<u8>>) {
        let pattern = Pattern::new(SIZE);
        let plan = SendPlan { headers: &[], receipts: true, size: SIZE, framed: false };
        let frames = SendFrames::new(0, "/queue/a", plan, &pattern, &mut Fillers::default());
        let mut flow = Flow::new(0, frames, 2);
        let mut outbox = Outbox::default();
        let wires = (0..count)
            .map(|_| {
                outbox.octets.clear();
                send(&mut flow, &mut outbox, 1, &pattern);
                outbox.octets.clone()
            })
            .collect();
        let receiver = |slow| Some(Receiver { flow: 0, slow, ledger: Ledger::default() });
        let receivers = vec![None, receiver(false), receiver(true)];
        let flows = Flows::new(vec![flow], receivers, pattern, Ack::Auto, true);
        (flows.expect("flows"), wires)
    }

    fn give(flows: &mut Flows, index: usize, wire: &[u8]) {
        let mut rest = wire;
        let Ok(Some(Item::Frame(frame))) = Scan::new(false).next(&mut rest) else { panic!() };
        flows.message(index, frame, &mut Outbox::default());
    }

    #[test]
    fn a_message_is_complete_with_its_delivery_and_its_receipt() {
        let (mut flows, wires) = sent(2);
        give(&mut flows, 1, &wires[0]);
        flows.receipt(0, b"---000");
        assert_eq!(flows.in_flight(), 2, "this receipt is none of ours");
        flows.receipt(0, b"---------");
        assert_eq!(flows.in_flight(), 1);
        flows.close();
        let expected = Faults { lost: 1, unconfirmed: 1, ..Faults::default() };
        assert_eq!(flows.faults, expected);
    }

    #[test]
    fn what_must_not_happen_is_counted() {
        let (mut flows, wires) = sent(4);
        give(&mut flows, 1, &wires[1]);
        give(&mut flows, 1, &wires[0]);
        give(&mut flows, 1, &wires[0]);
        let mut changed = wires[2].clone();
        let at = changed.len() - 3;
        changed[at] ^= 1;
        give(&mut flows, 1, &changed);
        give(&mut flows, 0, &wires[3]);
        let (_, later) = sent(5);
        give(&mut flows, 1, &later[4]);
        flows.closed(1, LoadError::Lost("gone".to_owned()));
        flows.faults.reason = None;
        let expected = Faults {
            reordered: 1,
            duplicated: 1,
            corrupted: 3,
            disconnected: 1,
            ..Faults::default()
        };
        assert_eq!(flows.faults, expected);
        assert_eq!(flows.delivered, 2);
        flows.close();
        assert_eq!(flows.faults.lost, 2);
    }

    #[test]
    fn a_slow_reader_may_be_dropped_but_gets_nothing_twice() {
        let (mut flows, wires) = sent(3);
        give(&mut flows, 2, &wires[0]);
        give(&mut flows, 2, &wires[2]);
        give(&mut flows, 2, &wires[2]);
        flows.closed(2, LoadError::Lost("too slow".to_owned()));
        assert_eq!((flows.faults.duplicated, flows.faults.disconnected), (1, 0));
        assert_eq!(flows.close(), 1, "dropped");
        assert_eq!(flows.faults.lost, 3, "by the one that reads");
    }
}
