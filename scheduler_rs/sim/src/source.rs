//! Where a workload comes from: a file, or a name after `synthetic:`.

use crate::Error;
use crate::workload::synthetic::Synthetic;
use crate::workload::{Arrivals, Perturbation, Workload, recorded};
use expresslane_scheduler::Fairness;
use std::path::Path;

/// Arrivals of a recorded workload move by up to a second either way, so that seeds differ.
const JITTER_S: f64 = 1.0;

#[derive(Clone)]
pub(crate) enum Source {
    Recorded(Workload),
    Synthetic(Synthetic),
}

/// Where recorded workloads of these names come from, and under which licence.
const CREDITS: [(&str, &str); 3] = [
    (
        "azure-2023-conv",
        "Azure/AzurePublicDataset, AzureLLMInferenceTrace_conv (Splitwise, ISCA 2024), CC-BY-4.0",
    ),
    ("mooncake-synthetic", "kvcache-ai/Mooncake, FAST25-release synthetic_trace, Apache-2.0"),
    ("vtc-lmsys-arena", "Ying1123/VTC-artifact, fair_bench real_trace (Chatbot Arena), Apache-2.0"),
];

/// The source of a recorded workload, as far as it is known.
pub(crate) fn credit(name: &str) -> Option<&'static str> {
    CREDITS.iter().find(|(known, _)| *known == name).map(|(_, credit)| *credit)
}

/// A workload's name without its folder and ending.
pub(crate) fn short_name(trace: &str) -> &str {
    let name = trace.strip_prefix("synthetic:").unwrap_or(trace);
    Path::new(name).file_stem().and_then(std::ffi::OsStr::to_str).unwrap_or(name)
}

impl Source {
    pub(crate) fn open(name: &str, requests: usize) -> Result<Self, Error> {
        if name.is_empty() {
            let rule = "must name a CSV file, or synthetic:MIX[-ARRIVALS]";
            return Err(Error::value("a workload", &"\"\"", rule));
        }
        match name.strip_prefix("synthetic:") {
            Some(name) => Synthetic::named(name, requests).map(Self::Synthetic),
            None => recorded::read(Path::new(name)).map(Self::Recorded),
        }
    }

    /// How many requests are made up; none of a recorded workload.
    pub(crate) fn drawn(&self) -> Option<usize> {
        match self {
            Self::Recorded(_) => None,
            Self::Synthetic(synthetic) => Some(synthetic.requests),
        }
    }

    pub(crate) fn jitter_s(&self) -> f64 {
        match self {
            Self::Recorded(_) => JITTER_S,
            Self::Synthetic(_) => 0.0,
        }
    }

    /// Whose requests share the engine fairly unless the user says otherwise: nobody's where only sessions are known.
    pub(crate) fn fairness(&self) -> Fairness {
        match self {
            Self::Recorded(workload) if workload.has_sessions_only => Fairness::None,
            _ => Fairness::default(),
        }
    }

    /// The workload as it stands, for measuring what an engine can do with it.
    pub(crate) fn typical(&self) -> Workload {
        match self {
            Self::Recorded(workload) => workload.clone(),
            Self::Synthetic(synthetic) => synthetic.draw(0, 1),
        }
    }

    /// One seed's copy at this rate; a closed loop has its users instead.
    pub(crate) fn seeded(&self, seed: u64, per_s: f64, users: usize, noise_sigma: f64) -> Workload {
        let mut workload = match self {
            Self::Recorded(workload) => workload.clone(),
            Self::Synthetic(synthetic) => synthetic.draw(seed, users),
        };
        if workload.arrivals == Arrivals::Open {
            workload.scale_to_rate(per_s);
        }
        Perturbation { noise_sigma, jitter_s: self.jitter_s() }.apply(&mut workload, seed);
        workload
    }
}
