//! Every scenario against the bare forwarder.

#![allow(clippy::expect_used, reason = "helpers of tests")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use stomp_load::scenario::{ConnectRate, Idle, Load, Shape, Storm, Traffic};
use stomp_load::{LoadError, Report, Silent, Target};

/// The forwarder, ended with the value
struct Forwarder {
    child: Child,
    target: Target,
}

impl Forwarder {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bare-forwarder"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("the forwarder starts");
        let mut line = String::new();
        let output = child.stdout.take().expect("piped");
        BufReader::new(output).read_line(&mut line).expect("a line");
        let address = line.trim().strip_prefix("ready ").expect("ready");
        let address = format!("ws://{address}/ws").parse().expect("an address");
        let target = Target::new(address).with_pid(Some(child.id()));
        Self { child, target }
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(traffic: &Traffic, target: &Target) -> Report {
    traffic.run(target, &mut Silent::default()).expect("a report")
}

fn short(shape: Shape, load: Load) -> Traffic {
    Traffic::new(shape, load).with_times(Duration::ZERO, Duration::from_millis(50))
}

#[test]
fn everything_that_is_sent_comes() {
    let forwarder = Forwarder::start();
    let pairs = Shape::Pairs(3);
    for size in [16, 128, 100_000] {
        for traffic in [
            short(pairs, Load::Window(7)).with_size(size),
            short(pairs, Load::Rate(500.0)).with_size(size),
            short(Shape::FanOut { topics: 2, subscribers: 5, slow: 0 }, Load::Window(3))
                .with_size(size),
        ] {
            let report = run(&traffic, &forwarder.target);
            assert!(!report.faults.any(), "{}", report.faults);
            let copies = if report.scenario == "pairs" { 1 } else { 5 };
            assert!(report.sent > 0 && report.delivered == copies * report.sent, "{report:?}");
            assert!(report.server_rss.is_some());
        }
    }
}

#[test]
fn a_slow_reader_is_not_waited_for() {
    let forwarder = Forwarder::start();
    let shape = Shape::FanOut { topics: 1, subscribers: 3, slow: 1 };
    let report = run(&short(shape, Load::Window(5)), &forwarder.target);
    assert!(!report.faults.any(), "{}", report.faults);
    assert!(report.sent > 0 && report.delivered + report.dropped == 3 * report.sent, "{report:?}");
}

#[test]
fn connections_come_go_and_stay() {
    let forwarder = Forwarder::start();
    let mut idle = Idle::new(100);
    idle.hold = Duration::ZERO;
    let report = idle.run(&forwarder.target, &mut Silent::default()).expect("a report");
    assert!(!report.faults.any() && report.delivered == 100, "{report:?}");

    let mut rate = ConnectRate::new(4);
    rate.duration = Duration::from_millis(50);
    let report = rate.run(&forwarder.target, &mut Silent::default()).expect("a report");
    assert!(!report.faults.any() && report.sent > 0, "{report:?}");

    let report = Storm::new(50).run(&forwarder.target, &mut Silent::default()).expect("a report");
    assert!(!report.faults.any() && report.sent == 50, "{report:?}");
}

/// The forwarder confirms nothing twice and needs no acknowledgement, but it answers both.
#[test]
fn receipts_are_waited_for() {
    let forwarder = Forwarder::start();
    let report = run(&short(Shape::Pairs(2), Load::Window(4)).durable(), &forwarder.target);
    assert!(!report.faults.any() && report.sent > 0, "{report:?}");
}

#[test]
fn a_server_that_goes_away_is_a_fault() {
    let mut forwarder = Forwarder::start();
    let target = forwarder.target.clone();
    forwarder.child.kill().expect("kill");
    forwarder.child.wait().expect("wait");
    let outcome = short(Shape::Pairs(1), Load::Window(1)).run(&target, &mut Silent::default());
    assert!(matches!(outcome, Err(LoadError::Lost(_))), "{outcome:?}");
}
