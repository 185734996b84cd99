use std::collections::BTreeMap;
use std::fs;

use serde::{Deserialize, Serialize};
use stomp_load::Report;
use stomp_load::figures::Spread;

use super::contender::Contender;
use super::work::Work;

/// Everything that was measured
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) quick: bool,
    pub(crate) minutes: f64,
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) versions: BTreeMap<String, String>,
    pub(crate) runs: Vec<Run>,
}

/// One run of one contender
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) round: usize,
    pub(crate) work: String,
    pub(crate) contender: Contender,
    pub(crate) outcome: Outcome,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    Report(Box<Report>),
    Failed(String),
}

impl Outcome {
    pub(crate) fn problem(&self) -> Option<String> {
        match self {
            Self::Report(report) if report.faults.any() => Some(report.faults.to_string()),
            Self::Report(_) => None,
            Self::Failed(reason) => Some(reason.clone()),
        }
    }
}

impl Results {
    pub(crate) fn new(quick: bool, cores: usize) -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find_map(|line| line.strip_prefix("model name"));
        let processor =
            model.and_then(|line| line.split_once(':')).map_or("unknown", |(_, name)| name);
        Self {
            quick,
            minutes: 0.0,
            processor: processor.trim().to_owned(),
            cores,
            versions: BTreeMap::new(),
            runs: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, round: usize, work: &str, contender: Contender, outcome: Outcome) {
        self.runs.push(Run { round, work: work.to_owned(), contender, outcome });
    }

    /// Whether im-server lost, repeated, reordered and corrupted nothing.
    pub(crate) fn is_clean(&self) -> bool {
        let ours = self.runs.iter().filter(|run| run.contender == Contender::ImServer);
        ours.map(|run| run.outcome.problem()).all(|problem| problem.is_none())
    }

    pub(crate) fn rounds(&self) -> usize {
        self.runs.iter().map(|run| run.round + 1).max().unwrap_or_default()
    }

    /// The reports of a contender, by round.
    pub(crate) fn reports(
        &self,
        key: &str,
        contender: Contender,
    ) -> impl Iterator<Item = (usize, &Report)> {
        self.runs.iter().filter_map(move |run| match &run.outcome {
            Outcome::Report(report) if run.work == key && run.contender == contender => {
                Some((run.round, &**report))
            }
            _ => None,
        })
    }

    /// What a contender reached.
    pub(crate) fn value(&self, work: &Work, contender: Contender) -> Option<Spread> {
        let reports = self.reports(work.key, contender);
        Spread::of(reports.filter_map(|(_, report)| work.value(report)).collect())
    }

    /// CPU time of the server for each delivery or connection, in microseconds.
    pub(crate) fn cpu(&self, work: &Work, contender: Contender) -> Option<Spread> {
        let reports = self.reports(work.key, contender);
        Spread::of(reports.filter_map(|(_, report)| report.server_cpu_micros).collect())
    }

    /// Ours by theirs, each round for itself: what disturbs a machine for a while disturbs both.
    pub(crate) fn ratio(&self, work: &Work, other: Contender) -> Option<Spread> {
        let own: Vec<_> = self.reports(other_key(work, other), other).collect();
        let ratios = self.reports(work.key, Contender::ImServer).filter_map(|(round, ours)| {
            // One that was measured in the first round only stands for all.
            let same = own.iter().find(|(at, _)| *at == round);
            let (_, theirs) = same.or_else(|| own.first().filter(|_| own.len() == 1))?;
            Some(work.value(ours)? / work.value(theirs).filter(|value| *value > 0.0)?)
        });
        Spread::of(ratios.collect())
    }
}

/// The work of another contender that ours is compared with.
fn other_key(work: &Work, other: Contender) -> &'static str {
    if work.contenders(&[other]).is_empty() {
        work.compare_with.unwrap_or(work.key)
    } else {
        work.key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(per_second: f64) -> Outcome {
        let text = serde_json::to_value(Report::default()).expect("JSON");
        let mut report: Report = serde_json::from_value(text).expect("a report");
        report.per_second = per_second;
        Outcome::Report(Box::new(report))
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let mut results = Results::new(true, 2);
        let work = Work::all().into_iter().find(|work| work.key == "pair-128").expect("it");
        for (round, ours, theirs) in [(0, 100.0, 10.0), (1, 10.0, 1.0), (2, 50.0, 4.0)] {
            results.add(round, work.key, Contender::ImServer, report(ours));
            results.add(round, work.key, Contender::Rabbitmq, report(theirs));
        }
        let ratio = results.ratio(&work, Contender::Rabbitmq).expect("a ratio");
        assert_eq!((ratio.least, ratio.median, ratio.most), (10.0, 10.0, 12.5));
        assert_eq!(results.ratio(&work, Contender::Activemq), None);
    }

    #[test]
    fn what_another_cannot_do_is_compared_with_what_it_can() {
        let mut results = Results::new(true, 2);
        let work = Work::all().into_iter().find(|work| work.key == "direct").expect("it");
        results.add(0, "direct", Contender::ImServer, report(30.0));
        results.add(0, "durable", Contender::Rabbitmq, report(10.0));
        assert_eq!(results.ratio(&work, Contender::Rabbitmq).expect("a ratio").median, 3.0);
    }
}
