//! The world of one run: a clock, the events to come, the gate and the engine.

use crate::Error;
use crate::engine::spec::EngineSpec;
use crate::engine::{Emission, Engine};
use crate::gate::{Gate, Limits};
use crate::policy::Contestant;
use crate::workload::{Arrivals, Workload};
use expresslane_scheduler::{Outcome, Usage};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What became of a request; times as its caller sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) arrival_ns: u64,
    pub(crate) first_token_ns: u64,
    pub(crate) done_ns: u64,
    /// The engine could never have run it.
    pub(crate) rejected: bool,
}

impl Record {
    pub(crate) fn ttft_s(&self) -> f64 {
        (self.first_token_ns - self.arrival_ns) as f64 / 1e9
    }

    pub(crate) fn total_s(&self) -> f64 {
        (self.done_ns - self.arrival_ns) as f64 / 1e9
    }
}

/// One run's records, in the order of the workload.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) records: Vec<Record>,
    /// Times that the engine's KV cache ran out.
    pub(crate) preemptions: u64,
}

/// Those of one moment are handled in the order in which they were scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    StepEnd,
    FirstToken(u32),
    Done(u32),
    Rejected(u32),
    Arrival(u32),
    ReachesEngine(u32),
}

struct World<'a> {
    workload: &'a Workload,
    now_ns: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    scheduled: u64,
    /// The next request of a closed loop.
    next_closed: usize,
    gate: Gate,
    engine: Engine,
    half_rtt_ns: u64,
    records: Vec<Record>,
    emissions: Vec<Emission>,
}

/// Runs a workload to its end.
pub(crate) fn run(
    workload: &Workload,
    spec: &EngineSpec,
    contestant: &Contestant,
    limits: &Limits,
) -> Result<Run, Error> {
    let mut world = World {
        workload,
        now_ns: 0,
        events: BinaryHeap::new(),
        scheduled: 0,
        next_closed: 0,
        gate: Gate::new(contestant, limits, spec)?,
        engine: Engine::new(spec.clone()),
        half_rtt_ns: spec.half_rtt_ns(),
        records: vec![Record::default(); workload.requests.len()],
        emissions: Vec::new(),
    };
    world.open();
    world.run()?;
    Ok(Run { records: world.records, preemptions: world.engine.preemptions() })
}

impl World<'_> {
    fn open(&mut self) {
        match self.workload.arrivals {
            Arrivals::Open => {
                for (request, number) in self.workload.requests.iter().zip(0..) {
                    self.at((request.arrival_s * 1e9).round() as u64, Event::Arrival(number));
                }
            }
            // Further users have no request: there may be far more of them than requests.
            Arrivals::Closed { users } => {
                (0..users.min(self.workload.requests.len())).for_each(|_| self.next_of_closed_loop());
            }
        }
    }

    fn run(&mut self) -> Result<(), Error> {
        while let Some(&Reverse((at_ns, ..))) = self.events.peek() {
            self.now_ns = at_ns;
            while let Some(event) = self.next_due() {
                self.handle(event)?;
            }
            for number in self.gate.poll(self.now_ns) {
                self.in_half_rtt(Event::ReachesEngine(number));
            }
            let next_ns = self.events.peek().map_or(u64::MAX, |Reverse((at_ns, ..))| *at_ns);
            if next_ns > self.now_ns
                && !self.engine.is_stepping()
                && let Some(end_ns) = self.engine.start(self.now_ns, next_ns)
            {
                self.at(end_ns, Event::StepEnd);
            }
        }
        Ok(())
    }

    fn at(&mut self, at_ns: u64, event: Event) {
        self.events.push(Reverse((at_ns, self.scheduled, event)));
        self.scheduled += 1;
    }

    fn in_half_rtt(&mut self, event: Event) {
        self.at(self.now_ns + self.half_rtt_ns, event);
    }

    fn next_due(&mut self) -> Option<Event> {
        let due = self.events.peek().is_some_and(|Reverse((at_ns, ..))| *at_ns == self.now_ns);
        due.then(|| self.events.pop()).flatten().map(|Reverse((.., event))| event)
    }

    fn handle(&mut self, event: Event) -> Result<(), Error> {
        let now_ns = self.now_ns;
        match event {
            Event::StepEnd => self.end_step(),
            Event::Arrival(number) => {
                self.records[number as usize].arrival_ns = now_ns;
                self.gate.submit(now_ns, number, &self.workload.requests[number as usize])?;
            }
            Event::ReachesEngine(number) => {
                let request = &self.workload.requests[number as usize];
                if !self.engine.submit(number, request.prompt_tokens, request.output_tokens) {
                    self.in_half_rtt(Event::Rejected(number));
                }
            }
            Event::FirstToken(number) => {
                self.records[number as usize].first_token_ns = now_ns;
                self.gate.first_token(now_ns, number)?;
            }
            Event::Done(number) => {
                self.records[number as usize].done_ns = now_ns;
                let request = &self.workload.requests[number as usize];
                let usage = Usage {
                    uncached_input_tokens: request.prompt_tokens,
                    cached_input_tokens: 0,
                    output_tokens: request.output_tokens,
                };
                self.gate.finish(now_ns, number, Outcome::Success, Some(usage))?;
                self.next_of_closed_loop();
            }
            Event::Rejected(number) => {
                self.records[number as usize].rejected = true;
                self.gate.finish(now_ns, number, Outcome::Failed, None)?;
                self.next_of_closed_loop();
            }
        }
        Ok(())
    }

    fn end_step(&mut self) {
        let mut emissions = std::mem::take(&mut self.emissions);
        self.engine.complete(&mut emissions);
        for emission in emissions.drain(..) {
            self.in_half_rtt(match emission {
                Emission::FirstToken(number) => Event::FirstToken(number),
                Emission::Done(number) => Event::Done(number),
            });
        }
        self.emissions = emissions;
    }

    fn next_of_closed_loop(&mut self) {
        if self.workload.arrivals != Arrivals::Open && self.next_closed < self.workload.requests.len() {
            let number = self.next_closed as u32;
            self.next_closed += 1;
            self.at(self.now_ns, Event::Arrival(number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::catalog::engine;
    use crate::workload::Request;

    fn policies() -> [Contestant; 4] {
        ["passthrough", "cap-fcfs", "sjf", "hrrn"].map(|name| Contestant::named(name).unwrap())
    }

    /// Whatever stands in front, a prompt alone takes its isolated time.
    #[test]
    fn alone() {
        let spec = engine("llama2-70b-a100-tp4").unwrap();
        let workload = Workload::open(vec![Request::new(3.0, 9_000, 2)]);
        for contestant in policies() {
            let run = run(&workload, &spec, &contestant, &Limits::defaults(&spec)).unwrap();
            let record = run.records[0];
            assert!((record.ttft_s() - spec.isolated_ttft_s(9_000)).abs() < 1e-6);
            let decode_s = (spec.cost.decode_base_ms + spec.cost.decode_sequence_ms) / 1e3;
            assert!((record.total_s() - record.ttft_s() - decode_s).abs() < 1e-6);
        }
    }

    /// Everything ends exactly once under every policy, in a closed loop too; what cannot fit is rejected.
    #[test]
    fn everything_ends() {
        let spec = EngineSpec { kv_tokens: 30_000, ..engine("llama2-70b-a100-tp4").unwrap() };
        let lengths = (0..300_u32).map(|at| (at * 7_919 % 9_000, at * 31 % 200));
        let mut requests: Vec<Request> = lengths
            .zip(0..)
            .map(|((prompt, output), at)| Request::new(f64::from(at) * 0.05, prompt, output))
            .collect();
        requests[100].prompt_tokens = 50_000;
        for arrivals in [Arrivals::Open, Arrivals::Closed { users: 7 }] {
            let workload = Workload { arrivals, ..Workload::open(requests.clone()) };
            for contestant in policies() {
                let run = run(&workload, &spec, &contestant, &Limits::defaults(&spec)).unwrap();
                assert_eq!(run.records.iter().filter(|record| record.rejected).count(), 1);
                let done =
                    |record: &&Record| record.done_ns >= record.first_token_ns && record.first_token_ns > 0;
                assert_eq!(run.records.iter().filter(done).count(), 299);
            }
        }
    }
}
