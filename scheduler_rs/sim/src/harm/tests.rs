use super::Setting::{Chunks, Whole};
use super::*;

/// Workloads that are not part of the project.
const RECORDED: [&str; 1] = [WIDE];

fn row(scale: f64) -> Row {
    let some = Some(10.0 * scale);
    Row {
        policy: "any",
        ttft_mean_s: some,
        ttft_p50_s: some,
        ttft_p99_s: some,
        short_ttft_p50_s: some,
        short_ttft_p99_s: some,
        long_ttft_p50_s: some,
        long_ttft_p99_s: some,
        long_ttft_max_s: some,
        slowdown_p99: some,
        tpot_p99_s: some,
        makespan_s: some,
        completed: 1_000,
        rejected: 0,
        jain: some,
        overtakes_max: 0,
    }
}

/// The checks that are not ok, by what they are about.
fn broken(
    workload: &str,
    load: f64,
    setting: Setting,
    ours: &Row,
    samples: (usize, usize),
) -> Vec<(&'static str, Verdict)> {
    let (short_samples, long_samples) = samples;
    let case = Case { workload, load, setting, passthrough: &row(1.0), ours, short_samples, long_samples };
    let broken = case.checks().into_iter().filter(|check| check.verdict != Verdict::Ok);
    broken.map(|check| (check.what, check.verdict)).collect()
}

const MANY: (usize, usize) = (500, 500);

/// Each figure has its bound; a length class counts from 500 samples on; what is no number fails.
#[test]
fn the_rule() {
    use Verdict::Failed;
    assert_eq!(broken("any", QUIET, Whole, &row(1.05), MANY), []);
    let worse = Row { ttft_p50_s: Some(10.51), long_ttft_p99_s: Some(13.5), ..row(1.0) };
    assert_eq!(broken("any", QUIET, Whole, &worse, MANY), [("p50", Failed)]);
    let worse = Row { short_ttft_p99_s: Some(13.51), long_ttft_p99_s: Some(13.51), ..row(1.0) };
    assert_eq!(broken("any", BUSY, Whole, &worse, MANY), [("short p99", Failed), ("long p99", Failed)]);
    assert_eq!(broken("any", BUSY, Whole, &worse, (499, 500)), [("long p99", Failed)]);
    let without = Row { long_ttft_p99_s: None, makespan_s: Some(f64::NAN), ..row(1.0) };
    assert_eq!(broken("any", BUSY, Whole, &without, MANY), [("makespan", Failed)]);
}

/// The wide workload must gain at the busy load, more with a chunk threshold.
#[test]
fn the_gain() {
    let failed = |load, setting, ours| {
        let broken = broken(WIDE, load, setting, &ours, MANY);
        broken.into_iter().map(|(what, _)| what).collect::<Vec<_>>()
    };
    assert_eq!(failed(QUIET, Whole, row(1.0)), [""; 0]);
    assert_eq!(failed(BUSY, Whole, row(1.0)), ["gain: short p99", "gain: mean"]);
    let slower = Row { makespan_s: Some(10.4), ..row(0.5) };
    assert_eq!(failed(BUSY, Whole, slower.clone()), ["gain: makespan"]);
    assert_eq!(failed(BUSY, Chunks, slower), ["gain: short p99", "gain: makespan"]);
    assert_eq!(failed(BUSY, Chunks, row(0.033)), [""; 0]);
}

/// What is known to lose says so and is no failure, until it loses more; each such case is one that is looked at.
#[test]
fn what_is_known() {
    for known in known::KNOWN {
        let check = |what, ours| {
            let (passthrough, ours) = (&row(1.0), &row(ours));
            let (workload, load, setting) = (known.workload, known.load, known.setting);
            let case =
                Case { workload, load, setting, passthrough, ours, short_samples: 500, long_samples: 500 };
            case.checks().into_iter().find(|check| check.what == what).expect("it is checked")
        };
        assert!(MADE_UP.contains(&known.workload) || RECORDED.contains(&known.workload), "{known:?}");
        let same = |other: &&known::Known| {
            (other.workload, other.load, other.setting) == (known.workload, known.load, known.setting)
        };
        assert_eq!(known::KNOWN.iter().filter(same).count(), 1, "{known:?} is there twice");
        for &(what, at_most) in known.at_most {
            let (within, beyond) = (check(what, at_most - 0.001), check(what, at_most + 0.001));
            assert!(within.ours > within.target, "{what} of {known:?} is no exception");
            assert_eq!(
                (within.verdict, beyond.verdict),
                (Verdict::Known, Verdict::Failed),
                "{what} of {known:?}"
            );
            assert!(within.is_sound() && within.note.is_some() && !beyond.is_sound());
        }
    }
    let case = Case {
        workload: "mixed-closed",
        load: BUSY,
        setting: Whole,
        passthrough: &row(1.0),
        ours: &row(3.0),
        short_samples: 500,
        long_samples: 0,
    };
    assert_eq!(summary(&case.checks()), "5 checks: 0 ok, 1 worse as is known, 4 failed");
}
