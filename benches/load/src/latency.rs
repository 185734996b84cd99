use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::LoadError;

/// Quantiles of a latency, in microseconds
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Latency {
    /// How many were measured
    pub count: u64,
    /// The median
    pub p50: u64,
    /// 90 of 100 are no longer
    pub p90: u64,
    /// 99 of 100 are no longer
    pub p99: u64,
    /// 999 of 1000 are no longer
    pub p999: u64,
    /// The longest
    pub max: u64,
}

/// Collects latencies: 3 significant digits, up to an hour
#[derive(Debug)]
pub(crate) struct Recorder {
    histogram: Histogram<u64>,
}

impl Recorder {
    pub(crate) fn new() -> Result<Self, LoadError> {
        let histogram = Histogram::new_with_bounds(1, 3_600_000_000, 3);
        Ok(Self { histogram: histogram.map_err(|error| LoadError::Plan(error.to_string()))? })
    }

    #[inline]
    pub(crate) fn record(&mut self, micros: u64) {
        self.histogram.saturating_record(micros);
    }

    pub(crate) fn latency(&self) -> Latency {
        let at = |quantile| self.histogram.value_at_quantile(quantile);
        Latency {
            count: self.histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: self.histogram.max(),
        }
    }
}
