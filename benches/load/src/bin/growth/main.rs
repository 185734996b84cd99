//! Measures what a delivery costs the server as something grows: connections, destinations,
//! subscribers, bodies, stored messages, members of a group.
//!
//! `growth --help` lists what can be set; docs/performance.md says what it does.

mod curve;
mod page;
mod server;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use stomp_load::{LoadError, Setting, raise_file_limit};

use curve::{Curve, Pace};
use server::Server;

/// What ends the program early
type Failure = Box<dyn std::error::Error>;

/// Measures what a delivery costs im-server as something grows.
#[derive(Debug, Parser)]
#[command(max_term_width = 100)]
struct Options {
    /// Shorter runs, and not as far: a first look, in some minutes
    #[arg(long)]
    quick: bool,

    /// Only curves whose name contains one of these
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,

    /// Stored messages up to which it is measured [default: 1000000, quick: 100000]
    #[arg(long)]
    stored: Option<usize>,

    #[command(flatten)]
    setting: Setting,
}

/// What a curve has shown
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Results {
    quick: bool,
    minutes: f64,
    curves: Vec<(Curve, Vec<Point>)>,
}

/// One size, measured some times
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Point {
    size: usize,
    per_second: Vec<f64>,
    cpu_micros: Vec<f64>,
    /// Of the bare forwarder, where it does the same
    #[serde(default)]
    forwarder_micros: Vec<f64>,
    rss: u64,
    /// What a server may not do to messages, or why it could not be measured
    problem: Option<String>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("growth: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether no message was lost, repeated, reordered or corrupted.
fn run(options: &Options) -> Result<bool, Failure> {
    let results: Results = options.setting.results(|| measure(options))?;
    let tables = page::tables(&results);
    println!("{tables}");
    let chart = || page::svg(&results);
    let shows = "the same as curves";
    options.setting.publish("growth", Some("growth.svg"), shows, chart, &tables)?;
    let mut points = results.curves.iter().flat_map(|(_, points)| points);
    Ok(points.all(|point| point.problem.is_none()))
}

fn measure(options: &Options) -> Result<Results, Failure> {
    raise_file_limit();
    let program = options.setting.program()?;
    let pace = if options.quick { Pace::QUICK } else { Pace::FULL };
    let stored = options.stored.unwrap_or(if options.quick { 100_000 } else { 1_000_000 });
    let chosen = |curve: &Curve| {
        options.only.is_empty()
            || options.only.iter().any(|only| curve.name().contains(only.as_str()))
    };
    let start = Instant::now();
    let mut curves = Vec::new();
    for curve in Curve::ALL.into_iter().filter(chosen) {
        let mut server = Server::start(curve, &options.setting, &program)?;
        let sizes = curve.sizes(options.quick, stored, server.room());
        let style = ProgressStyle::with_template("{msg:40} {wide_bar} {pos}/{len}")?;
        let bar = ProgressBar::new(sizes.len() as u64).with_style(style);
        let mut points = Vec::new();
        for size in sizes {
            bar.set_message(format!("{}: {size}", curve.name()));
            points.push(point(&mut server, size, pace));
            bar.inc(1);
        }
        bar.finish_and_clear();
        curves.push((curve, points));
    }
    let minutes = start.elapsed().as_secs_f64() / 60.0;
    Ok(Results { quick: options.quick, minutes, curves })
}

fn point(server: &mut Server<'_>, size: usize, pace: Pace) -> Point {
    let mut point = Point { size, ..Point::default() };
    let outcome = (|| {
        server.grow(size, pace)?;
        for _ in 0..pace.rounds {
            let report = server.measure(size, pace)?;
            point.per_second.push(report.per_second);
            point.cpu_micros.extend(report.server_cpu_micros);
            point.rss = report.server_rss.unwrap_or_default();
            if report.faults.any() {
                point.problem = Some(report.faults.to_string());
            }
            if let Some(report) = server.measure_forwarder(size, pace)? {
                point.forwarder_micros.extend(report.server_cpu_micros);
            }
        }
        Ok::<(), LoadError>(())
    })();
    if let Err(error) = outcome {
        point.problem = Some(error.to_string());
    }
    point
}
