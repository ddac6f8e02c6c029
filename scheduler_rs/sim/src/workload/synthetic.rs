//! A made-up workload: a mix of lengths with a kind of arrivals, named `MIX[-ARRIVALS]`.

use super::arrivals::{Process, TURNS};
use super::mix::Mix;
use super::{Arrivals, Request, Workload, rng};
use crate::Error;

/// About as many as the scheduler's queue can hold.
pub(crate) const REQUESTS_MAX: usize = 1_000_000;
/// A session's prompt grows up to this.
const SESSION_TOKENS_MAX: u32 = 100_000;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Synthetic {
    mix: Mix,
    process: Process,
    pub(crate) requests: usize,
}

impl Synthetic {
    pub(crate) fn named(name: &str, requests: usize) -> Result<Self, Error> {
        let (mix, process) = Mix::split(name)?;
        let process = process.map_or(Ok(Process::Poisson), Process::named)?;
        Ok(Self { mix, process, requests })
    }

    /// A draw with mean rate 1 a second; a closed loop has as many users as given.
    pub(crate) fn draw(&self, seed: u64, users: usize) -> Workload {
        const LENGTHS: u64 = 11;
        const TIMES: u64 = 12;
        let mut lengths = rng(seed, LENGTHS);
        let times = self.process.times(self.requests, &mut rng(seed, TIMES));
        let draw = |at_s| {
            let (prompt, output) = self.mix.draw(&mut lengths);
            Request::new(at_s, prompt, output)
        };
        let mut workload = Workload::open(times.into_iter().map(draw).collect());
        match self.process {
            Process::Closed => workload.arrivals = Arrivals::Closed { users: users.max(1) },
            Process::Turns => {
                workload.requests.chunks_mut(TURNS).for_each(grow);
                workload.sort();
            }
            _ => {}
        }
        workload
    }
}

/// Each request of a session has the ones before and their answers in its prompt.
fn grow(session: &mut [Request]) {
    let mut before = 0;
    for request in session {
        // Its own part is smaller than a first prompt: a tool's result, an answer.
        let own = if before == 0 { request.prompt_tokens } else { request.prompt_tokens / 4 };
        request.prompt_tokens = (before + own).min(SESSION_TOKENS_MAX);
        request.estimate_tokens = request.prompt_tokens;
        before = request.prompt_tokens + request.output_tokens;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(name: &str) -> Workload {
        Synthetic::named(name, 20_000).unwrap().draw(1, 4)
    }

    /// A batch is there at once, a closed loop has its users, and a wrong name is told what there is.
    #[test]
    fn names() {
        assert!(draw("wide-batch").span_s() == 0.0);
        assert_eq!(draw("mixed-closed").arrivals, Arrivals::Closed { users: 4 });
        assert!(draw("two-peaks-batch").span_s() == 0.0 && draw("two-peaks").span_s() > 0.0);
        let error = Synthetic::named("chess-batch", 10).unwrap_err().to_string();
        assert!(error.contains("\"chess\"") && error.contains("mixed, papers, rag, two-peaks, wide"));
        let error = Synthetic::named("chat-hail", 10).unwrap_err().to_string();
        assert!(error.contains("poisson, bursts, closed, batch, diurnal, storms, turns"));
    }

    /// Sessions grow, and arrive among each other in order of time.
    #[test]
    fn sessions() {
        let mut session = [(1_000, 100), (400, 50), (800, 10)].map(|(p, o)| Request::new(0.0, p, o));
        grow(&mut session);
        assert_eq!(session.map(|request| request.prompt_tokens), [1_000, 1_200, 1_450]);
        let requests = draw("chat-turns").requests;
        assert!(requests.is_sorted_by_key(|request| request.arrival_s));
        let mean = |requests: &[Request]| {
            requests.iter().map(|request| f64::from(request.prompt_tokens)).sum::<f64>()
                / requests.len() as f64
        };
        assert!(mean(&requests) > 2.0 * mean(&draw("chat").requests));
    }
}
