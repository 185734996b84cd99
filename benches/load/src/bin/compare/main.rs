//! Runs the server and its competitors on this machine, in turn, with the same work, and compares them.
//!
//! `compare --help` lists what can be set; docs/performance.md says what it does.

mod chart;
mod contender;
mod page;
mod results;
mod work;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use stomp_load::{Progress, Setting, raise_file_limit};

use contender::{Contender, Fleet};
use results::{Outcome, Results};
use work::{Pace, Work};

/// What ends the program early
type Failure = Box<dyn std::error::Error>;

/// Compares im-server with the bare forwarder, RabbitMQ Web-STOMP and ActiveMQ.
#[derive(Debug, Parser)]
#[command(max_term_width = 100)]
struct Options {
    /// Shorter runs and fewer of them: a first look, in some minutes
    #[arg(long)]
    quick: bool,

    /// Rounds; each runs every work with every contender [default: 4, quick: 2]
    #[arg(long)]
    rounds: Option<usize>,

    /// No round is begun that would end later than this
    #[arg(long, default_value_t = 19.0)]
    minutes: f64,

    /// Only these contenders
    #[arg(long, value_delimiter = ',', value_enum)]
    contenders: Vec<Contender>,

    /// Only work whose id or name contains one of these
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,

    #[command(flatten)]
    setting: Setting,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether no message of the server's was lost, repeated, reordered or corrupted.
fn run(options: &Options) -> Result<bool, Failure> {
    let results: Results = options.setting.results(|| measure(options))?;
    let tables = page::tables(&results);
    println!("{tables}");
    let chart = || chart::svg(&results);
    options.setting.publish("compare", None, "the same as a chart", chart, &tables)?;
    Ok(results.is_clean())
}

fn measure(options: &Options) -> Result<Results, Failure> {
    raise_file_limit();
    let cores = std::thread::available_parallelism()?.get();
    let setting = &options.setting;
    let program = setting.program()?;
    let chosen = |contender: &Contender| {
        options.contenders.is_empty() || options.contenders.contains(contender)
    };
    let mut contenders: Vec<Contender> = Contender::ALL.into_iter().filter(chosen).collect();
    let works: Vec<Work> = Work::all()
        .into_iter()
        .filter(|work| options.only.is_empty() || options.only.iter().any(|only| work.is(only)))
        .collect();
    let pace = if options.quick { Pace::QUICK } else { Pace::FULL };
    let rounds = options.rounds.unwrap_or(pace.rounds);

    let start = Instant::now();
    let mut results = Results::new(options.quick, cores);
    setting.to_server()?;
    let fleet = Fleet::start(&contenders, program)?;
    results.versions = fleet.versions();
    contenders.retain(|contender| fleet.runs(*contender));
    let cells = works.iter().map(|work| work.contenders(&contenders).len()).sum::<usize>();
    let mut bar = Bar::new((cells * rounds) as u64);
    let mut longest = Duration::ZERO;
    for round in 0..rounds {
        let limit = Duration::from_secs_f64(options.minutes * 60.0);
        if round > 0 && start.elapsed() + longest > limit {
            bar.say("there is no time for a further round");
            break;
        }
        let began = Instant::now();
        for work in &works {
            // Who comes first changes from round to round.
            let mut order = work.contenders(&contenders);
            let shift = round % order.len().max(1);
            order.rotate_left(shift);
            for contender in order {
                bar.begin(&format!("{} {} {contender}", work.id, work.name));
                if work.needs_fresh(contender) && round > 0 {
                    continue;
                }
                setting.to_server()?;
                let (target, fresh) = fleet.target(work, contender)?;
                setting.to_load()?;
                let outcome = match work.run(&target, contender, pace, &mut bar) {
                    Ok(report) => Outcome::Report(Box::new(report)),
                    Err(error) => Outcome::Failed(error.to_string()),
                };
                drop(fresh);
                if let Some(problem) = outcome.problem() {
                    bar.say(&format!("{} {} {contender}: {problem}", work.id, work.name));
                }
                results.add(round, work.key, contender, outcome);
            }
        }
        longest = longest.max(began.elapsed());
    }
    results.minutes = start.elapsed().as_secs_f64() / 60.0;
    bar.bar.finish_and_clear();
    Ok(results)
}

/// Shows which run of all it is
struct Bar {
    bar: ProgressBar,
}

impl Bar {
    fn new(all: u64) -> Self {
        let bar = ProgressBar::new(all);
        let template = "{elapsed_precise} {wide_bar} {pos}/{len} {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar }
    }

    fn begin(&self, what: &str) {
        self.bar.inc(1);
        self.bar.set_message(what.to_owned());
    }

    fn say(&self, text: &str) {
        if self.bar.is_hidden() {
            eprintln!("{text}");
        } else {
            self.bar.println(text);
        }
    }
}

impl Progress for Bar {
    fn at(&mut self, _: &'static str, _: u64, _: u64) {
        self.bar.tick();
    }
}
