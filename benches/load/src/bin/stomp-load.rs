//! Loads a STOMP server, and tells how it did.
//!
//! `stomp-load --help` lists what can be done.

use std::io::{IsTerminal as _, stderr};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use stomp_load::scenario::{Ack, ConnectRate, Idle, Load, Shape, Storm, Traffic};
use stomp_load::{Address, LoadError, Progress, Report, Silent, Target, pin, raise_file_limit};

/// A load generator for STOMP servers, over WebSocket or TCP.
///
/// Each message says which one it is and is looked at octet by octet. Lost, repeated, reordered or corrupted messages,
/// missing receipts and lost connections end the program with status 1.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Options {
    /// The server: ws://HOST:PORT/PATH or tcp://HOST:PORT
    #[arg(long, value_name = "URL")]
    to: Address,

    /// Login of each connection; {n} is its number
    #[arg(long, default_value = "")]
    login: String,

    /// Passcode of each connection; {n} is its number
    #[arg(long, env = "STOMP_PASSCODE", hide_env_values = true, default_value = "")]
    passcode: String,

    /// The `host` of CONNECT
    #[arg(long, default_value = "/")]
    host: String,

    /// Process of the server, to tell its CPU time and memory
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,

    /// Core that this program runs on
    #[arg(long, value_name = "CORE")]
    core: Option<usize>,

    /// Prints the report as JSON
    #[arg(long)]
    json: bool,

    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// Pairs of a sender and a receiver, each with a queue of its own
    Pairs {
        /// Pairs
        #[arg(long, default_value_t = 1)]
        pairs: usize,
        #[command(flatten)]
        traffic: TrafficOptions,
    },
    /// Topics with one sender and many subscribers each
    Fanout {
        /// Topics
        #[arg(long, default_value_t = 1)]
        topics: usize,
        /// Subscribers of each topic
        #[arg(long, default_value_t = 100)]
        subscribers: usize,
        #[command(flatten)]
        traffic: TrafficOptions,
    },
    /// People who write to each other: /user/NAME to /inbox, with receipts and acknowledgements
    ///
    /// Needs a user for each connection: --login 'user{n}'.
    Direct {
        /// People
        #[arg(long, default_value_t = 10)]
        people: usize,
        #[command(flatten)]
        traffic: TrafficOptions,
    },
    /// A group: its first member writes, the others have it in their /inbox; with receipts and acknowledgements
    ///
    /// Needs a user for each member, --login 'user{n}', and the group.
    Group {
        /// Members
        #[arg(long, default_value_t = 10)]
        members: usize,
        /// Name of the group
        #[arg(long, default_value = "load")]
        group: String,
        #[command(flatten)]
        traffic: TrafficOptions,
    },
    /// A topic some of whose subscribers stop reading; the others must get everything
    Slow {
        /// Subscribers
        #[arg(long, default_value_t = 20)]
        subscribers: usize,
        /// How many of them stop reading
        #[arg(long, default_value_t = 5)]
        slow: usize,
        #[command(flatten)]
        traffic: TrafficOptions,
    },
    /// Connections that do nothing: what they cost
    Idle {
        /// Connections
        #[arg(long, default_value_t = 1000)]
        connections: usize,
        /// Seconds that they are left alone
        #[arg(long, default_value_t = 2.0)]
        hold: f64,
    },
    /// Connections, each of which signs in, subscribes and goes away
    Connect {
        /// Connections that are being made at a time
        #[arg(long, default_value_t = 32)]
        at_a_time: usize,
        /// Seconds to measure
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
    },
    /// Connections that are all cut off and come again at once
    Storm {
        /// Connections
        #[arg(long, default_value_t = 1000)]
        connections: usize,
    },
}

#[derive(Args, Debug)]
struct TrafficOptions {
    /// Octets of a body
    #[arg(long, default_value_t = 128)]
    size: usize,
    /// Closed loop: messages of each sender that are on their way at any time
    #[arg(long, default_value_t = 100, conflicts_with = "rate")]
    window: usize,
    /// Open loop: messages a second, of all senders together
    #[arg(long)]
    rate: Option<f64>,
    /// Seconds before it is measured
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Seconds to measure
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Asks for a receipt of each message, marks it as persistent and acknowledges it
    #[arg(long)]
    durable: bool,
    /// Acknowledges each message
    #[arg(long)]
    ack: bool,
    /// Asks for a receipt of each message
    #[arg(long)]
    receipts: bool,
    /// Where to send, instead of the scenario's own destination; {n} is the number of the flow
    #[arg(long, value_name = "DESTINATION")]
    send_to: Option<String>,
    /// What to subscribe to, instead of the scenario's own destination
    #[arg(long, value_name = "DESTINATION")]
    subscribe_to: Option<String>,
}

impl TrafficOptions {
    fn traffic(&self, shape: Shape) -> Traffic {
        let load = self.rate.map_or(Load::Window(self.window), Load::Rate);
        let mut traffic = Traffic::new(shape, load)
            .with_size(self.size)
            .with_times(seconds(self.warm_up), seconds(self.seconds));
        if self.durable {
            traffic = traffic.durable();
        }
        traffic.receipts |= self.receipts;
        if self.ack {
            traffic.ack = Ack::Individual;
        }
        if let Some(place) = &self.send_to {
            traffic.send_to.clone_from(place);
        }
        if let Some(place) = self.subscribe_to.as_ref().or(self.send_to.as_ref()) {
            traffic.subscribe_to.clone_from(place);
        }
        traffic
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(report) => {
            if options.json {
                println!("{}", serde_json::json!(report));
            } else {
                print!("{}", report.table());
            }
            ExitCode::from(u8::from(report.faults.any()))
        }
        Err(error) => {
            eprintln!("stomp-load: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> Result<Report, LoadError> {
    raise_file_limit();
    if let Some(core) = options.core {
        pin(&[core])?;
    }
    let mut target = Target::new(options.to.clone())
        .with_login(&options.login, &options.passcode)
        .with_pid(options.pid);
    target.host.clone_from(&options.host);
    let target = &target;
    let mut bar = Bar::new();
    let progress: &mut dyn Progress =
        if stderr().is_terminal() { &mut bar } else { &mut Silent::default() };
    match &options.scenario {
        Scenario::Pairs { pairs, traffic } => {
            traffic.traffic(Shape::Pairs(*pairs)).run(target, progress)
        }
        Scenario::Fanout { topics, subscribers, traffic } => {
            let shape = Shape::FanOut { topics: *topics, subscribers: *subscribers, slow: 0 };
            traffic.traffic(shape).run(target, progress)
        }
        Scenario::Direct { people, traffic } => {
            traffic.traffic(Shape::Ring(*people)).run(target, progress)
        }
        Scenario::Group { members, group, traffic } => {
            let mut work = traffic.traffic(Shape::Group(*members));
            if traffic.send_to.is_none() {
                work = work.with_group(group);
            }
            work.run(target, progress)
        }
        Scenario::Slow { subscribers, slow, traffic } => {
            let shape = Shape::FanOut { topics: 1, subscribers: *subscribers, slow: *slow };
            traffic.traffic(shape).run(target, progress)
        }
        Scenario::Idle { connections, hold } => {
            let mut idle = Idle::new(*connections);
            idle.hold = seconds(*hold);
            idle.run(target, progress)
        }
        Scenario::Connect { at_a_time, seconds: length } => {
            let mut connect = ConnectRate::new(*at_a_time);
            connect.duration = seconds(*length);
            connect.run(target, progress)
        }
        Scenario::Storm { connections } => Storm::new(*connections).run(target, progress),
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// Shows how far a run is
struct Bar {
    bar: ProgressBar,
    phase: &'static str,
}

impl Bar {
    fn new() -> Self {
        Self { bar: ProgressBar::hidden(), phase: "" }
    }
}

impl Progress for Bar {
    fn at(&mut self, phase: &'static str, done: u64, all: u64) {
        if phase != self.phase {
            self.bar.finish_and_clear();
            self.phase = phase;
            self.bar = ProgressBar::new(all).with_message(phase);
            if let Ok(style) = ProgressStyle::with_template("{msg:12} {wide_bar} {percent:>3} %") {
                self.bar.set_style(style);
            }
        }
        self.bar.set_position(done);
        if done == all {
            self.bar.finish_and_clear();
        }
    }
}
