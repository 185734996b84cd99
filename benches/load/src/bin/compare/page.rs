//! The results as Markdown.

use super::contender::Contender;
use super::results::{Results, Spread};
use super::work::{Measure, Work};

const BEGIN: &str = "<!-- compare: begin -->";
const END: &str = "<!-- compare: end -->";

/// The page with the tables between its marks.
pub(crate) fn insert(page: &str, tables: &str, chart: &str) -> Result<String, String> {
    let missing = || format!("the page lacks {BEGIN} and {END}");
    let (before, rest) = page.split_once(BEGIN).ok_or_else(missing)?;
    let (_, after) = rest.split_once(END).ok_or_else(missing)?;
    Ok(format!("{before}{BEGIN}\n\n![the same as a chart]({chart})\n\n{tables}\n{END}{after}"))
}

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
        let Some(bar) = bar else { return spread(ratio) };
        let good = if less { ratio.median <= bar } else { ratio.median >= bar };
        met &= good;
        let sign = if less { "≤" } else { "≥" };
        format!("{} {} {sign} {}", spread(ratio), mark(good), number(bar))
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

fn spread(Spread { median, least, most }: Spread) -> String {
    format!("{} ({} to {})", number(median), number(least), number(most))
}

fn shown(measure: Measure, value: f64) -> String {
    match measure {
        Measure::Rate => number(value),
        Measure::P99 => format!("{:.2}", value / 1000.0),
        Measure::Memory => format!("{:.2}", value / 1024.0),
    }
}

/// Three digits that mean something, blanks between thousands.
pub(crate) fn number(value: f64) -> String {
    if value >= 1000.0 {
        let step = 10_f64.powf(value.log10().floor() - 2.0);
        let digits = format!("{:.0}", (value / step).round() * step);
        let groups: Vec<&[u8]> = digits.as_bytes().rchunks(3).rev().collect();
        let groups: Vec<_> = groups.into_iter().map(String::from_utf8_lossy).collect();
        groups.join(" ")
    } else if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_mean_something() {
        let shown = [0.333, 9.87, 12.34, 123.4, 1234.0, 98_765.0, 1_234_567.0].map(number);
        assert_eq!(shown, ["0.33", "9.87", "12.3", "123", "1 230", "98 800", "1 230 000"]);
    }

    #[test]
    fn tables_go_between_the_marks_and_nowhere_else() {
        let page = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let new = insert(&page, "new\n", "p.svg").expect("marks");
        assert!(new.starts_with("a\n") && new.ends_with("\nb\n"), "{new}");
        assert!(new.contains("new") && !new.contains("old"), "{new}");
        assert_eq!(insert(&new, "new\n", "p.svg").expect("marks"), new, "again changes nothing");
        assert!(insert("no marks", "new", "p.svg").is_err());
    }
}
