//! What happened since start.

use crate::histogram::Histogram;
use crate::ratios::Ratios;
use crate::{AttemptEnd, CLASSES, HistogramName, Outcome};

/// Histograms by name and class.
#[derive(Debug, Default)]
pub(crate) struct Histograms([[Histogram; CLASSES]; HistogramName::ALL.len()]);

impl Histograms {
    pub(crate) fn record(&mut self, name: HistogramName, class: u8, value_ns: u64) {
        self.0[name as usize][usize::from(class)].record(value_ns);
    }

    /// Those that hold anything.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (HistogramName, u32, &Histogram)> {
        HistogramName::ALL.into_iter().flat_map(|name| {
            (0..).zip(&self.0[name as usize]).map(move |(class, histogram)| (name, class, histogram))
        })
    }
}

#[derive(Debug, Default)]
pub(crate) struct BackendCounters {
    pub(crate) dispatched: u64,
    pub(crate) turned_away: u64,
    /// By [`AttemptEnd`].
    pub(crate) outcomes: [u64; AttemptEnd::ALL.len()],
    pub(crate) histograms: Histograms,
    pub(crate) ratios: Ratios,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) queued: u32,
    pub(crate) held: u32,
    pub(crate) retry_waiting: u32,
    pub(crate) in_flight: u32,
    pub(crate) submitted: u64,
    pub(crate) refused: u64,
    pub(crate) retried: u64,
    pub(crate) retries_denied: u64,
    /// Ended tickets by [`Outcome`].
    pub(crate) outcomes: [u64; Outcome::ALL.len()],
    /// Of tickets that were never released.
    pub(crate) unreleased: Histograms,
}
