//! Deadlines for the first token, by length class: what the callers of a comparison ask for.

use super::Workload;
use crate::Error;
use crate::error::listed;
use serde::Serialize;

/// Seconds from arrival to the first token; 0 = none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Deadlines {
    pub(crate) short_s: f64,
    pub(crate) long_s: f64,
}

impl Deadlines {
    /// What somebody in front of a screen bears with for a question, and for a document.
    pub(crate) const DEFAULT: Self = Self { short_s: 10.0, long_s: 120.0 };

    pub(crate) const MOST_S: f64 = 86_400.0;

    /// From one value for all prompts, or one for short and one for long ones.
    pub(crate) fn from_seconds(seconds: &[f64]) -> Result<Self, Error> {
        match *seconds {
            [both_s] => Ok(Self { short_s: both_s, long_s: both_s }),
            [short_s, long_s] => Ok(Self { short_s, long_s }),
            _ => Err(Error::value("--ttft-deadline", &listed(seconds), "must be SECONDS or SHORT,LONG")),
        }
    }

    /// Which class a prompt is in goes by the estimate: nobody knows more when a deadline is set.
    pub(crate) fn apply(&self, workload: &mut Workload, short_tokens: u32) {
        for request in &mut workload.requests {
            let within_s = if request.estimate_tokens <= short_tokens { self.short_s } else { self.long_s };
            request.ttft_deadline_ns = (within_s * 1e9).round() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Request;

    /// Each class gets its own, or all the same; more than two are refused.
    #[test]
    fn by_class() {
        let deadlines = Deadlines::from_seconds(&[2.0, 60.0]).unwrap();
        let mut workload = Workload::open([1_000, 9_000].map(|n| Request::new(0.0, n, 1)).to_vec());
        deadlines.apply(&mut workload, 4_096);
        let given: Vec<u64> = workload.requests.iter().map(|request| request.ttft_deadline_ns).collect();
        assert_eq!(given, [2_000_000_000, 60_000_000_000]);
        assert_eq!(Deadlines::from_seconds(&[3.0]).unwrap(), Deadlines { short_s: 3.0, long_s: 3.0 });
        let error = Deadlines::from_seconds(&[1.0, 2.0, 3.0]).unwrap_err().to_string();
        assert!(error.contains("SHORT,LONG"), "{error}");
    }
}
