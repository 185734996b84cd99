use serde::{Deserialize, Serialize};

use crate::{Faults, Latency};

/// What a run has shown
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// The scenario
    pub scenario: String,
    /// Connections
    pub connections: usize,
    /// Octets of a body
    pub size: usize,
    /// Length of the measured part, in seconds
    pub seconds: f64,
    /// Messages sent in a second
    pub sent_per_second: f64,
    /// Messages delivered in a second; in scenarios of connections, connections made in a second
    pub per_second: f64,
    /// How long a delivery took; in scenarios of connections, how long a connection took
    pub latency: Latency,
    /// CPU time of the server for each delivery or connection, in microseconds
    pub server_cpu_micros: Option<f64>,
    /// Part of a core that the server used
    pub server_cores: Option<f64>,
    /// Resident memory of the server at the end, in octets
    pub server_rss: Option<u64>,
    /// Resident memory of the server that one idle connection costs, in octets
    pub rss_per_connection: Option<f64>,
    /// Part of a core that this generator used: near 1 it is the generator that was measured
    pub generator_cores: f64,
    /// Messages that were sent in the whole run
    pub sent: u64,
    /// Messages that were delivered in the whole run
    pub delivered: u64,
    /// Messages that slow readers did not get, which their server may drop
    pub dropped: u64,
    /// What must not happen
    pub faults: Faults,
}

impl Report {
    /// The report as a table.
    #[must_use]
    pub fn table(&self) -> String {
        let mut rows = vec![
            ("scenario", self.scenario.clone()),
            ("connections", self.connections.to_string()),
            ("measured", format!("{:.2} s", self.seconds)),
        ];
        if self.size > 0 {
            rows.push(("body", format!("{} B", self.size)));
            rows.push(("sent", format!("{} /s", grouped(self.sent_per_second))));
            rows.push(("delivered", format!("{} /s", grouped(self.per_second))));
        } else if self.per_second > 0.0 {
            rows.push(("connected", format!("{} /s", grouped(self.per_second))));
        }
        let Latency { count, p50, p90, p99, p999, max } = self.latency;
        if count > 0 {
            let all =
                [p50, p90, p99, p999, max].map(|micros| format!("{:.3}", micros as f64 / 1e3));
            rows.push(("p50 p90 p99 p99.9 max", format!("{} ms", all.join("  "))));
        }
        if let Some(micros) = self.server_cpu_micros {
            rows.push(("server CPU each", format!("{micros:.2} us")));
        }
        if let Some(cores) = self.server_cores {
            rows.push(("server CPU", format!("{:.0} % of a core", cores * 100.0)));
        }
        rows.push(("generator CPU", format!("{:.0} % of a core", self.generator_cores * 100.0)));
        if let Some(rss) = self.server_rss {
            rows.push(("server RSS", format!("{:.1} MiB", rss as f64 / 1_048_576.0)));
        }
        if let Some(octets) = self.rss_per_connection {
            rows.push(("RSS per connection", format!("{:.2} KiB", octets / 1024.0)));
        }
        if self.dropped > 0 {
            rows.push(("dropped for slow readers", grouped(self.dropped as f64)));
        }
        rows.push(("faults", self.faults.to_string()));
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        rows.iter().map(|(name, value)| format!("{name:<width$}  {value}\n")).collect()
    }
}

/// A number with a blank between its thousands.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        let shown = [7.4, 999.0, 1000.0, 1_234_567.0].map(grouped);
        assert_eq!(shown, ["7", "999", "1 000", "1 234 567"]);
    }

    #[test]
    fn the_table_shows_what_was_measured_and_the_faults() {
        let faults = Faults { lost: 2, ..Faults::default() };
        let report = Report { per_second: 1234.0, size: 16, faults, ..Report::default() };
        let table = report.table();
        assert!(table.contains("1 234 /s") && table.contains("2 lost"), "{table}");
        assert!(!table.contains("RSS"), "{table}");
    }
}
