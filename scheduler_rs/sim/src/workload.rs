//! A workload: requests with arrival times and lengths, recorded or made up.

pub(crate) mod arrivals;
pub(crate) mod deadlines;
pub(crate) mod mix;
pub(crate) mod recorded;
mod seeded;
pub(crate) mod synthetic;

pub(crate) use seeded::{Perturbation, rng};

/// One prompt as a workload has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Request {
    pub(crate) arrival_s: f64,
    pub(crate) prompt_tokens: u32,
    pub(crate) output_tokens: u32,
    /// What the scheduler is told of the prompt's length.
    pub(crate) estimate_tokens: u32,
    /// 0 interactive, 1 standard, 2 batch.
    pub(crate) class: u32,
    pub(crate) tenant: u32,
    /// Within which time its first token is wanted; 0 = none said.
    pub(crate) ttft_deadline_ns: u64,
}

impl Request {
    pub(crate) fn new(arrival_s: f64, prompt_tokens: u32, output_tokens: u32) -> Self {
        Self {
            arrival_s,
            prompt_tokens,
            output_tokens,
            estimate_tokens: prompt_tokens,
            class: 1,
            tenant: 0,
            ttft_deadline_ns: 0,
        }
    }
}

/// How requests come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrivals {
    /// Each at its time, whatever the engine does.
    Open,
    /// So many users, each with one request at a time.
    Closed { users: usize },
}

#[derive(Clone, Debug)]
pub(crate) struct Workload {
    /// Ascending by arrival.
    pub(crate) requests: Vec<Request>,
    pub(crate) arrivals: Arrivals,
    /// 0 when nothing is known of tenants; sessions count as such.
    pub(crate) tenants: u32,
    /// Sessions may be conversations: they are no tenants unless somebody says so.
    pub(crate) has_sessions_only: bool,
}

impl Workload {
    pub(crate) fn open(requests: Vec<Request>) -> Self {
        Self { requests, arrivals: Arrivals::Open, tenants: 0, has_sessions_only: false }
    }

    /// From the first arrival to the last.
    pub(crate) fn span_s(&self) -> f64 {
        match (self.requests.first(), self.requests.last()) {
            (Some(first), Some(last)) => last.arrival_s - first.arrival_s,
            _ => 0.0,
        }
    }

    /// Stretches time so that the mean rate is the given one; requests that all come at once stay so.
    pub(crate) fn scale_to_rate(&mut self, per_s: f64) {
        let span_s = self.span_s();
        if span_s <= 0.0 {
            return;
        }
        let first_s = self.requests[0].arrival_s;
        let factor = (self.requests.len() - 1) as f64 / per_s / span_s;
        for request in &mut self.requests {
            request.arrival_s = (request.arrival_s - first_s) * factor;
        }
    }

    pub(crate) fn sort(&mut self) {
        self.requests.sort_by(|a, b| a.arrival_s.total_cmp(&b.arrival_s));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scaling keeps the shape and meets the rate.
    #[test]
    fn scaling() {
        let times = [3.0, 4.0, 8.0];
        let mut workload = Workload::open(times.iter().map(|&at| Request::new(at, 1, 1)).collect());
        workload.scale_to_rate(0.5);
        let scaled: Vec<f64> = workload.requests.iter().map(|request| request.arrival_s).collect();
        assert_eq!(scaled, [0.0, 0.8, 4.0]);
    }
}
