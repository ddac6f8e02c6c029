//! Two tenants that both ask for more than their share: first come, first served against fair queueing.
//!
//! The set-up of Virtual Token Counter (Sheng et al., OSDI 2024), figure 3: 1.5 and 3 requests a second of 256 prompt
//! and 256 output tokens for 10 minutes, on an engine that serves fewer than twice the lower rate. Service is counted as
//! it is given: a prompt's tokens at its first token, two for each output token when it is decoded. First come, first
//! served gives each tenant in proportion to what it asks for: the gap between them grows by the same amount every
//! minute, and Jain's index of their service is that of 1.5 and 3, (1.5 + 3)^2 / (2 (1.5^2 + 3^2)) = 0.90. With fair
//! queueing both have the same, and the gap stays below what is in flight and what one release adds.

use super::Check;
use crate::Error;
use crate::engine::catalog;
use crate::engine::spec::EngineSpec;
use crate::figure::Caption;
use crate::figure::curves::Curves;
use crate::gate::Limits;
use crate::policy::Contestant;
use crate::saturation::Saturation;
use crate::statistics::jain;
use crate::workload::{Request, Workload};
use crate::world::{self, Record};
use expresslane_scheduler::Policy;

const RATES_PER_S: [f64; 2] = [1.5, 3.0];
const PROMPT_TOKENS: u32 = 256;
const OUTPUT_TOKENS: u32 = 256;
const SPAN_S: u32 = 600;
/// What the scheduler charges for a request.
const CHARGE: f64 = PROMPT_TOKENS as f64 + 2.0 * OUTPUT_TOKENS as f64;
/// A small engine's worth of sequences: about what a KV cache of 10,000 tokens holds of such requests.
const MAX_NUM_SEQS: usize = 24;

fn engine() -> Result<EngineSpec, Error> {
    Ok(EngineSpec { max_num_seqs: MAX_NUM_SEQS, ..catalog::engine("llama2-70b-a100-tp4")? })
}

/// The gap between the tenants over time.
pub(crate) fn figure() -> Result<Curves, Error> {
    let engine = engine()?;
    let lines = vec![
        format!(
            "SIMULATED: 1.5 and 3 requests/s of 256/256 tokens on {} with {MAX_NUM_SEQS} sequences",
            engine.name
        ),
        "service counted as input + 2 x output tokens, as it is given".to_owned(),
    ];
    let gaps = |contestant| {
        let served = Served::under(&contestant, &engine)?;
        let at = |at_s: u32| [f64::from(at_s) / 60.0, served.gap(f64::from(at_s))];
        Ok::<_, Error>((0..=SPAN_S).step_by(5).map(at).collect())
    };
    Ok(Curves {
        caption: Caption { title: "Service gap between two tenants".to_owned(), lines },
        x_axis: "minutes since the first request".to_owned(),
        y_axis: "tokens".to_owned(),
        logarithmic: false,
        series: vec![
            ("first come, first served".to_owned(), gaps(Contestant::CapFcfs)?),
            ("fair queueing".to_owned(), gaps(Contestant::Core(Policy::Fcfs))?),
        ],
    })
}

pub(super) fn checks() -> Result<Vec<Check>, Error> {
    let engine = engine()?;
    let fcfs = Served::under(&Contestant::CapFcfs, &engine)?;
    let fair = Served::under(&Contestant::Core(Policy::Fcfs), &engine)?;
    let hrrn = Served::under(&Contestant::Core(Policy::Hrrn), &engine)?;
    let end_s = f64::from(SPAN_S);
    // Both tenants' requests in flight, of which each had its share when it was released.
    let bound = 2.0 * MAX_NUM_SEQS as f64 * CHARGE;
    Ok(vec![
        Check::at_most(
            "two tenants: the engine's rate over twice the lower one",
            1.0,
            Saturation::measure(&workload(), &engine)?.requests_per_s / (2.0 * RATES_PER_S[0]),
        ),
        Check::new("... first come, first served: Jain's index of service", 0.90, fcfs.jain(end_s), 0.01),
        Check::new(
            "... first come, first served: gap after 10 minutes over that after 5",
            2.0,
            fcfs.gap(end_s) / fcfs.gap(end_s / 2.0),
            0.05,
        ),
        Check::new("... fair queueing: Jain's index of service", 1.0, fair.jain(end_s), 0.002),
        Check::at_most("... fair queueing: largest gap ever, tokens", bound, fair.largest_gap()),
        Check::at_most("... fair queueing with hrrn: largest gap ever, tokens", bound, hrrn.largest_gap()),
        Check::at_most(
            "... the largest gap of fair queueing over that of first come, first served",
            0.1,
            fair.largest_gap() / fcfs.largest_gap(),
        ),
    ])
}

/// Both tenants' requests, each at its constant rate.
fn workload() -> Workload {
    let of = |tenant: u32| {
        let per_s = RATES_PER_S[tenant as usize];
        let count = (per_s * f64::from(SPAN_S)) as u32;
        (0..count).map(move |at| Request {
            tenant,
            ..Request::new((f64::from(at) + 0.5) / per_s, PROMPT_TOKENS, OUTPUT_TOKENS)
        })
    };
    let mut workload = Workload { tenants: 2, ..Workload::open(of(0).chain(of(1)).collect()) };
    workload.sort();
    workload
}

/// A run, and whose its requests are.
struct Served {
    records: Vec<(u32, Record)>,
}

impl Served {
    fn under(contestant: &Contestant, engine: &EngineSpec) -> Result<Self, Error> {
        let workload = workload();
        let run = world::run(&workload, engine, contestant, &Limits::defaults(engine))?;
        let tenants = workload.requests.iter().map(|request| request.tenant);
        Ok(Self { records: tenants.zip(run.records).collect() })
    }

    /// What each tenant has had at a time: `input + 2 x output` tokens.
    fn service(&self, at_s: f64) -> [f64; 2] {
        let mut service = [0.0; 2];
        for (tenant, record) in &self.records {
            let [first_s, done_s] = [record.first_token_ns, record.done_ns].map(|at_ns| at_ns as f64 / 1e9);
            if at_s >= first_s {
                let decoded = ((at_s - first_s) / (done_s - first_s)).min(1.0);
                service[*tenant as usize] +=
                    f64::from(PROMPT_TOKENS) + 2.0 * f64::from(OUTPUT_TOKENS) * decoded;
            }
        }
        service
    }

    fn jain(&self, at_s: f64) -> f64 {
        jain(&self.service(at_s))
    }

    fn gap(&self, at_s: f64) -> f64 {
        let [a, b] = self.service(at_s);
        (a - b).abs()
    }

    /// While both have something waiting: from start to end of the arrivals.
    fn largest_gap(&self) -> f64 {
        (0..=SPAN_S).map(|at_s| self.gap(f64::from(at_s))).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All of it holds.
    #[test]
    fn published() {
        for check in checks().unwrap() {
            assert!(check.is_sound(), "{check:?}");
        }
    }
}
