//! The results as Markdown.

use stomp_load::figures::number;

use super::contender::Contender;
use super::results::Results;
use super::work::{Measure, Work};

/// What was measured, and where.
pub(crate) fn tables(results: &Results) -> String {
    let mut out = format!(
        "{}, {} cores; server on one core, generator on another; {} rounds, in {:.0} minutes, by `compare{}`",
        results.processor,
        results.cores,
        results.rounds(),
        results.minutes,
        if results.quick { " --quick" } else { "" },
    );
    for (name, version) in &results.versions {
        out.push_str(&format!(", {name} {version}"));
    }
    out.push_str(".\n\n");
    let works: Vec<Work> = Work::all()
        .into_iter()
        .filter(|work| results.value(work, Contender::ImServer).is_some())
        .collect();

    out.push_str("Medians:\n\n| | work | | ");
    out.push_str(&Contender::ALL.map(Contender::name).join(" | "));
    out.push_str(" |\n|---|---|---|---|---|---|---|\n");
    for work in &works {
        let cells = Contender::ALL.map(|contender| {
            let value = results.value(work, contender);
            value.map_or_else(|| "-".to_owned(), |value| shown(work.measure, value.median))
        });
        let unit = match (work.measure, work.key) {
            (Measure::Rate, "connect") => "connections/s",
            (Measure::Rate, _) => "deliveries/s",
            (Measure::P99, _) => "p99, ms",
            (Measure::Memory, _) => "KiB",
        };
        out.push_str(&format!(
            "| {} | {} | {unit} | {} |\n",
            work.id,
            work.name,
            cells.join(" | ")
        ));
    }

    out.push_str(
        "\nim-server by each of the others, each round for itself: median (least to most), and the bar. For latencies and memory \
         less is better.\n\n| | work | by RabbitMQ Web-STOMP | by ActiveMQ, TCP | by the forwarder | itself | |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for work in &works {
        out.push_str(&verdict(results, work));
    }

    out.push_str(
        "\nCPU time of the server, in microseconds for each delivery or connection:\n\n| work | ",
    );
    out.push_str(&Contender::ALL.map(Contender::name).join(" | "));
    out.push_str(" |\n|---|---|---|---|---|\n");
    for work in works.iter().filter(|work| work.measure != Measure::Memory) {
        let cells = Contender::ALL.map(|contender| {
            let cpu = results.cpu(work, contender);
            cpu.map_or_else(|| "-".to_owned(), |cpu| number(cpu.median))
        });
        out.push_str(&format!("| {} | {} |\n", work.name, cells.join(" | ")));
    }

    let problems: Vec<String> = results
        .runs
        .iter()
        .filter_map(|run| Some((run, run.outcome.problem()?)))
        .map(|(run, problem)| {
            format!("- {}, {}, round {}: {problem}\n", run.contender, run.work, run.round + 1)
        })
        .collect();
    if problems.is_empty() {
        out.push_str("\nNobody lost, repeated, reordered or corrupted a message.\n");
    } else {
        out.push_str("\nWhat went wrong:\n\n");
        out.push_str(&problems.concat());
    }
    out
}

/// A line of ratios and bars.
fn verdict(results: &Results, work: &Work) -> String {
    let less = work.measure != Measure::Rate;
    let mut met = true;
    let mut ratio = |other, bar: Option<f64>| {
        let Some(ratio) = results.ratio(work, other) else { return "-".to_owned() };
        let Some(bar) = bar else { return ratio.to_string() };
        let good = if less { ratio.median <= bar } else { ratio.median >= bar };
        met &= good;
        let sign = if less { "≤" } else { "≥" };
        format!("{ratio} {} {sign} {}", mark(good), number(bar))
    };
    let rabbitmq = ratio(Contender::Rabbitmq, work.bars.rabbitmq);
    let activemq = ratio(Contender::Activemq, work.bars.activemq);
    let forwarder = ratio(Contender::Forwarder, work.bars.forwarder);
    let own = match (results.value(work, Contender::ImServer), work.bars.most) {
        (Some(value), Some(most)) => {
            let good = value.median <= most;
            met &= good;
            let (value, most) = (shown(work.measure, value.median), shown(work.measure, most));
            format!("{value} {} ≤ {most}", mark(good))
        }
        _ => String::new(),
    };
    let met = if met { "met" } else { "**missed**" };
    format!(
        "| {} | {} | {rabbitmq} | {activemq} | {forwarder} | {own} | {met} |\n",
        work.id, work.name
    )
}

const fn mark(good: bool) -> &'static str {
    if good { "✓" } else { "✗" }
}

fn shown(measure: Measure, value: f64) -> String {
    match measure {
        Measure::Rate => number(value),
        Measure::P99 => format!("{:.2}", value / 1000.0),
        Measure::Memory => format!("{:.2}", value / 1024.0),
    }
}
