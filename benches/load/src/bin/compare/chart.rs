//! The rates as a chart: bars on a logarithmic axis.

use stomp_load::figures::number;

use super::contender::Contender;
use super::results::Results;
use super::work::{Measure, Work};

const LEFT: f64 = 300.0;
const WIDTH: f64 = 940.0;
const BAR: f64 = 13.0;
/// The axis begins at this many a second.
const FIRST: f64 = 100.0;

const fn colour(contender: Contender) -> &'static str {
    match contender {
        Contender::ImServer => "#d9480f",
        Contender::Forwarder => "#adb5bd",
        Contender::Rabbitmq => "#1971c2",
        Contender::Activemq => "#2f9e44",
    }
}

/// An SVG of everything that is a rate.
pub(crate) fn svg(results: &Results) -> String {
    let works: Vec<Work> =
        Work::all().into_iter().filter(|work| work.measure == Measure::Rate).collect();
    let values = |work: &Work| -> Vec<(Contender, f64)> {
        let all = Contender::ALL.into_iter();
        all.filter_map(|one| Some((one, results.value(work, one)?.median))).collect()
    };
    let most = works.iter().flat_map(values).map(|(_, value)| value).fold(10.0 * FIRST, f64::max);
    let decades = (most / FIRST).log10().ceil();
    let scale = (WIDTH - LEFT - 80.0) / decades;
    let x = |value: f64| LEFT + (value / FIRST).log10().max(0.0) * scale;

    let mut body = String::new();
    let mut y = 60.0;
    for work in &works {
        let values = values(work);
        if values.is_empty() {
            continue;
        }
        let middle = y + values.len() as f64 * BAR / 2.0 + 4.0;
        body.push_str(&format!(
            "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{}</text>\n",
            LEFT - 10.0,
            work.name
        ));
        for (contender, value) in values {
            let width = (x(value) - LEFT).max(1.0);
            body.push_str(&format!(
                "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" fill=\"{}\"/>\n\
                 <text x=\"{:.1}\" y=\"{}\" class=\"value\">{}</text>\n",
                BAR - 2.0,
                colour(contender),
                x(value) + 4.0,
                y + BAR - 4.0,
                number(value)
            ));
            y += BAR;
        }
        y += 12.0;
    }
    let height = y + 20.0;
    let mut axis = String::new();
    for decade in 0..=decades as i32 {
        let value = FIRST * 10_f64.powi(decade);
        let x = x(value);
        axis.push_str(&format!(
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"50\" y2=\"{}\" stroke=\"#dee2e6\"/>\n\
             <text x=\"{x:.1}\" y=\"{height}\" dy=\"-4\" text-anchor=\"middle\" class=\"value\">{}</text>\n",
            y - 6.0,
            number(value)
        ));
    }
    let mut legend = String::new();
    let mut at = LEFT;
    for contender in Contender::ALL {
        legend.push_str(&format!(
            "<rect x=\"{at}\" y=\"30\" width=\"11\" height=\"11\" fill=\"{}\"/>\n\
             <text x=\"{}\" y=\"40\">{contender}</text>\n",
            colour(contender),
            at + 16.0
        ));
        at += 40.0 + 7.0 * contender.name().len() as f64;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\" fill=\"#212529\">\n<style>.value {{ font-size: 10px; fill: #495057 }}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"18\" font-weight=\"bold\">deliveries (or connections) in a second, one core; \
         each line of the axis is ten times the one before</text>\n{legend}{axis}{body}</svg>\n"
    )
}
