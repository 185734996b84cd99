//! The results as Markdown, and as small charts.

use stomp_load::figures::{Spread, number};

use super::curve::Curve;
use super::{Point, Results};

impl Point {
    fn cpu(&self) -> Option<Spread> {
        Spread::of(self.cpu_micros.clone())
    }

    /// Of the bare forwarder.
    fn forwarder_cpu(&self) -> Option<Spread> {
        Spread::of(self.forwarder_micros.clone())
    }
}

/// A table for each curve.
pub(crate) fn tables(results: &Results) -> String {
    let mut out = format!(
        "One im-server on one core, the generator on another; {:.0} minutes, by `growth{}`. Medians, and the \
         least to the most of the rounds.\n",
        results.minutes,
        if results.quick { " --quick" } else { "" }
    );
    for (curve, points) in &results.curves {
        let (name, work) = (curve.name(), curve.work());
        let mut heads = vec![name, "deliveries/s"];
        if *curve == Curve::Body {
            heads.push("MiB/s");
        }
        heads.extend(["server CPU each, µs", "by the first", "server's memory, MiB"]);
        if curve.beside_forwarder() {
            heads.extend(["bare forwarder's CPU each, µs", "by its first", "the server's by it"]);
        }
        let line = "---|".repeat(heads.len());
        out.push_str(&format!("\n**{name}**: {work}\n\n| {} |\n|{line}\n", heads.join(" | ")));
        for point in points {
            if let Some(problem) = &point.problem {
                out.push_str(&format!("| {} | {problem} |\n", grouped(point.size)));
            }
            if let Some(cells) = points.first().and_then(|first| cells(*curve, point, first)) {
                out.push_str(&format!("| {} |\n", cells.join(" | ")));
            }
        }
    }
    out
}

/// What was measured at one size.
fn cells(curve: Curve, point: &Point, first: &Point) -> Option<Vec<String>> {
    let (rate, cpu) = (Spread::of(point.per_second.clone())?, point.cpu()?);
    let by = |cpu: Spread, other: Option<Spread>| {
        format!("{:.2}", other.map_or(1.0, |other| cpu.median / other.median))
    };
    let mut cells = vec![grouped(point.size), number(rate.median)];
    if curve == Curve::Body {
        cells.push(number(rate.median * point.size as f64 / 1_048_576.0));
    }
    cells.extend([cpu.to_string(), by(cpu, first.cpu()), number(point.rss as f64 / 1_048_576.0)]);
    if let Some(forwarder) = point.forwarder_cpu() {
        let by_first = by(forwarder, first.forwarder_cpu());
        cells.extend([forwarder.to_string(), by_first, by(cpu, Some(forwarder))]);
    }
    Some(cells)
}

fn grouped(size: usize) -> String {
    let digits = size.to_string();
    let groups: Vec<&[u8]> = digits.as_bytes().rchunks(3).rev().collect();
    let groups: Vec<_> = groups.into_iter().map(String::from_utf8_lossy).collect();
    groups.join(" ")
}

const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 190.0;
const COLUMNS: usize = 3;

/// A small chart for each curve: CPU time of a delivery, over the size, whose axis is logarithmic.
pub(crate) fn svg(results: &Results) -> String {
    let mut body = String::new();
    for (index, (curve, points)) in results.curves.iter().enumerate() {
        let (left, top) =
            ((index % COLUMNS) as f64 * WIDTH + 45.0, (index / COLUMNS) as f64 * HEIGHT + 40.0);
        let (width, height) = (WIDTH - 70.0, HEIGHT - 80.0);
        let shown = |cpu: fn(&Point) -> Option<Spread>| -> Vec<(f64, f64)> {
            let points = points.iter();
            points
                .filter_map(|point| Some((point.size.max(1) as f64, cpu(point)?.median)))
                .collect()
        };
        let (server, forwarder) = (shown(Point::cpu), shown(Point::forwarder_cpu));
        let (Some(first), Some(last)) = (server.first(), server.last()) else { continue };
        let most = server.iter().map(|(_, cpu)| *cpu).fold(0.0, f64::max) * 1.15;
        let decades = (last.0 / first.0).log10().max(1.0);
        let x = |size: f64| left + (size / first.0).log10() / decades * width;
        let y = |cpu: f64| top + height - cpu / most * height;
        body.push_str(&format!(
            "<text x=\"{left}\" y=\"{}\" font-weight=\"bold\">{}</text>\n\
             <path d=\"M{left} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"#adb5bd\"/>\n",
            top - 12.0,
            curve.name(),
            bottom = top + height,
            right = left + width,
        ));
        for (points, color) in [(&forwarder, "#868e96"), (&server, "#d9480f")] {
            let line: Vec<_> = points
                .iter()
                .map(|(size, cpu)| format!("{:.1},{:.1}", x(*size), y(*cpu)))
                .collect();
            if !line.is_empty() {
                body.push_str(&format!(
                    "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>\n",
                    line.join(" ")
                ));
            }
        }
        for (size, cpu) in &server {
            body.push_str(&format!(
                "<circle cx=\"{0:.1}\" cy=\"{1:.1}\" r=\"3\" fill=\"#d9480f\"/>\n\
                 <text x=\"{0:.1}\" y=\"{2:.1}\" text-anchor=\"middle\" class=\"value\">{3}</text>\n\
                 <text x=\"{0:.1}\" y=\"{4}\" text-anchor=\"middle\" class=\"value\">{5}</text>\n",
                x(*size),
                y(*cpu),
                y(*cpu) - 7.0,
                number(*cpu),
                top + height + 14.0,
                short(*size),
            ));
        }
    }
    let (width, height) =
        (COLUMNS as f64 * WIDTH, results.curves.len().div_ceil(COLUMNS) as f64 * HEIGHT);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#212529\">\n\
         <style>.value {{ font-size: 10px; fill: #495057 }}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{width}\" dx=\"-8\" y=\"14\" text-anchor=\"end\" class=\"value\">CPU time of the server for each \
         delivery, in microseconds; grey: of the bare forwarder</text>\n{body}</svg>\n"
    )
}

fn short(size: f64) -> String {
    match size {
        size if size >= 1e6 => format!("{:.0}M", size / 1e6),
        size if size >= 1e3 => format!("{:.0}k", size / 1e3),
        size => format!("{size:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(size: usize, cpu: f64) -> Point {
        let (per_second, cpu_micros) = (vec![1e6 / cpu], vec![cpu]);
        Point { size, per_second, cpu_micros, rss: 10 << 20, ..Point::default() }
    }

    fn results() -> Results {
        let beside =
            |size, cpu, forwarder| Point { forwarder_micros: vec![forwarder], ..point(size, cpu) };
        let curves = vec![
            (Curve::Body, vec![point(16, 2.0), point(1 << 20, 500.0)]),
            (Curve::Stored, vec![point(0, 40.0), point(100_000, 44.0)]),
            (Curve::ActiveConnections, vec![beside(10, 4.0, 1.0), beside(1000, 6.0, 2.0)]),
        ];
        Results { quick: true, minutes: 1.0, curves }
    }

    #[test]
    fn each_size_has_a_row_with_its_growth() {
        let tables = tables(&results());
        for row in [
            "| 100 000 | 22 700 | 44.0 (44.0 to 44.0) | 1.10 | 10.0 |",
            "| 1 048 576 | 2 000 | 2 000 | 500 (500 to 500) | 250.00 | 10.0 |",
            "| 1 000 | 167 000 | 6.00 (6.00 to 6.00) | 1.50 | 10.0 | 2.00 (2.00 to 2.00) | 2.00 | 3.00 |",
        ] {
            assert!(tables.contains(row), "{tables}");
        }
        let columns = |line: &str| line.matches('|').count();
        let lines: Vec<&str> = tables.lines().filter(|line| line.starts_with('|')).collect();
        for table in lines.chunks(4) {
            assert!(table.iter().all(|line| columns(line) == columns(table[0])), "{table:?}");
        }
    }

    #[test]
    fn a_size_that_could_not_be_measured_says_why() {
        let mut results = results();
        results.curves[0].1[1].problem = Some("refused".into());
        results.curves[0].1[1].cpu_micros.clear();
        assert!(tables(&results).contains("| 1 048 576 | refused |"));
        assert!(svg(&results).contains("octets of a body"));
    }

    #[test]
    fn the_forwarder_has_a_line_of_its_own() {
        assert_eq!(svg(&results()).matches("<polyline").count(), 4);
    }
}
