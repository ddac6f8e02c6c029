//! One workload on one engine: all its runs, its figures and its tables.

use super::{BUSY, CAPS, File, SWEEP, TABLES, figures, markdown};
use crate::Error;
use crate::compare::{Choice, Comparison};
use crate::policy::Contestant;
use crate::row::Row;
use crate::source::short_name;

pub(super) struct Section {
    pub(super) text: String,
    pub(super) figures: Vec<File>,
}

/// What was simulated of a workload.
pub(super) struct Runs {
    /// By load, with all policies.
    pub(super) sweep: Vec<(f64, Comparison)>,
    /// By cap at the busy load: the mean time to first token without the gateway, under a plain cap and by default.
    pub(super) caps: Vec<(u32, Comparison)>,
}

pub(super) fn section(choice: &Choice) -> Result<Section, Error> {
    let runs = Runs::of(choice)?;
    let name = file_name(choice);
    let figures = vec![
        (format!("{name}-policies.svg"), figures::policies(runs.busy()).svg()),
        (format!("{name}-loads.svg"), figures::loads(&runs).svg()),
        (format!("{name}-caps.svg"), figures::caps(&runs).svg()),
    ];
    Ok(Section { text: markdown::section(choice, &runs, &name), figures })
}

impl Runs {
    fn of(choice: &Choice) -> Result<Self, Error> {
        let at = |load| Ok((load, Choice { load, ..choice.clone() }.run()?));
        let sweep = SWEEP.into_iter().map(at).collect::<Result<_, Error>>()?;
        let contestants = ["passthrough", "cap-fcfs", "hrrn"].map(Contestant::named);
        let contestants = contestants.into_iter().collect::<Result<Vec<_>, _>>()?;
        let with_cap = |part: u32| {
            let mut capped = Choice { load: BUSY, contestants: contestants.clone(), ..choice.clone() };
            capped.limits.cap = (choice.engine.max_num_seqs as u32 / part).max(1);
            Ok((capped.limits.cap, capped.run()?))
        };
        let caps = CAPS.into_iter().map(with_cap).collect::<Result<_, Error>>()?;
        Ok(Self { sweep, caps })
    }

    pub(super) fn busy(&self) -> &Comparison {
        let busy = self.sweep.iter().find(|(load, _)| load.total_cmp(&BUSY).is_eq());
        &busy.expect("the busy load is one of the sweep's").1
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = &(f64, Comparison)> {
        self.sweep.iter().filter(|(load, _)| TABLES.contains(load))
    }
}

/// The workload's name without its folder and ending, and the chunk threshold if there is one.
pub(super) fn file_name(choice: &Choice) -> String {
    let name = short_name(&choice.trace).to_owned();
    match choice.engine.long_prefill_token_threshold {
        0 => name,
        threshold => format!("{name}-chunk{threshold}"),
    }
}

pub(super) fn row<'a>(comparison: &'a Comparison, policy: &str) -> Option<&'a Row> {
    comparison.rows.iter().find(|row| row.policy == policy)
}
