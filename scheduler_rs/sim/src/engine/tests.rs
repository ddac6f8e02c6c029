//! The engine model against closed forms.

use super::cost::StepCost;
use super::*;
use proptest::prelude::*;

fn spec() -> EngineSpec {
    EngineSpec {
        name: "test".to_owned(),
        cost: StepCost {
            prefill_base_ms: 10.0,
            prefill_token_ms: 0.1,
            prefill_square_ms: 1e-5,
            decode_base_ms: 12.0,
            decode_sequence_ms: 0.5,
        },
        max_num_seqs: 8,
        max_num_batched_tokens: 1_000,
        long_prefill_token_threshold: 0,
        kv_tokens: 100_000,
        rtt_ms: 0.0,
    }
}

/// Runs the engine dry; `(emission, ms)` in order.
fn run(engine: &mut Engine, horizon_ns: u64) -> Vec<(Emission, f64)> {
    let (mut now_ns, mut log, mut out) = (0, Vec::new(), Vec::new());
    while let Some(end_ns) = engine.start(now_ns, horizon_ns.max(now_ns + 1)) {
        now_ns = end_ns;
        engine.complete(&mut out);
        log.extend(out.drain(..).map(|emission| (emission, now_ns as f64 / 1e6)));
    }
    log
}

fn when(log: &[(Emission, f64)], emission: Emission) -> f64 {
    log.iter().find(|(of, _)| *of == emission).expect("it comes").1
}

fn close(ours: f64, expected: f64) -> bool {
    (ours - expected).abs() < 1e-3
}

/// A prompt alone: chunks, then one decode step for each further token.
#[test]
fn alone() {
    let mut engine = Engine::new(spec());
    assert!(engine.submit(7, 2_500, 11));
    let log = run(&mut engine, u64::MAX);
    let ttft_ms = 3.0 * 10.0 + 250.0 + 1e-5 * 2_500.0 * 2_500.0;
    assert!(close(when(&log, Emission::FirstToken(7)), ttft_ms));
    assert!(close(when(&log, Emission::Done(7)), ttft_ms + 10.0 * 12.5));
    assert_eq!((engine.kv_used, engine.decodes, engine.running.len()), (0, 0, 0));
}

/// Without a threshold a short prompt waits for the long one before it; with one it shares the next step.
#[test]
fn threshold_shares_the_step() {
    let first_short = |threshold| {
        let mut engine = Engine::new(EngineSpec { long_prefill_token_threshold: threshold, ..spec() });
        engine.submit(0, 20_000, 1);
        engine.submit(1, 100, 1);
        when(&run(&mut engine, u64::MAX), Emission::FirstToken(1))
    };
    assert!(first_short(0) > 2_000.0);
    assert!(close(first_short(500), 10.0 + 50.0 + 10.0 + 1e-5 * (250_000.0 + 10_000.0)));
}

/// Decodes take their token of the budget first.
#[test]
fn decodes_first() {
    let mut engine = Engine::new(EngineSpec { max_num_batched_tokens: 100, ..spec() });
    engine.submit(0, 50, 100);
    engine.submit(1, 150, 1);
    let log = run(&mut engine, u64::MAX);
    // 50 + 50, then 1 + 99, then 1 + 1 tokens.
    let squares = [2_500.0 + 2_500.0, 149.0 * 149.0 - 2_500.0, 22_500.0 - 149.0 * 149.0];
    let steps = [10.0 + 10.0, 12.5 + 9.9, 12.5 + 0.1];
    let expected: f64 = steps.iter().sum::<f64>() + 1e-5 * squares.iter().sum::<f64>();
    assert!(close(when(&log, Emission::FirstToken(1)), expected));
}

/// No more run at once than sequences or KV cache allow; what cannot ever fit is refused.
#[test]
fn limits() {
    let mut engine = Engine::new(EngineSpec { max_num_seqs: 1, ..spec() });
    engine.submit(0, 10, 5);
    engine.submit(1, 10, 5);
    let log = run(&mut engine, u64::MAX);
    assert!(when(&log, Emission::FirstToken(1)) > when(&log, Emission::Done(0)));

    let mut engine = Engine::new(EngineSpec { kv_tokens: 1_000, ..spec() });
    assert!(!engine.submit(0, 990, 11) && engine.submit(0, 990, 10));
}

/// When the KV cache is full the youngest starts again, and still every token comes.
#[test]
fn preemption() {
    let mut engine = Engine::new(EngineSpec { kv_tokens: 1_000, ..spec() });
    engine.submit(0, 400, 300);
    engine.submit(1, 400, 300);
    let log = run(&mut engine, u64::MAX);
    assert!(engine.preemptions > 0);
    assert!(when(&log, Emission::Done(1)) > when(&log, Emission::Done(0)) + 100.0 * 12.5);
    assert_eq!(log.iter().filter(|(of, _)| matches!(of, Emission::FirstToken(_))).count(), 2);
    assert_eq!(engine.kv_used, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Taking equal decode steps as one changes nothing; everything ends, and nothing of the KV cache stays taken.
    #[test]
    fn batched_steps_are_exact(
        requests in prop::collection::vec((1_u32..1_500, 1_u32..200), 1..30),
        threshold in prop::sample::select(vec![0_u32, 64, 512]),
        kv_tokens in 2_000_u64..20_000,
    ) {
        let spec = EngineSpec { long_prefill_token_threshold: threshold, kv_tokens, ..spec() };
        let [mut batched, mut single] = [Engine::new(spec.clone()), Engine::new(spec)];
        for (&(prompt, output), request) in requests.iter().zip(0..) {
            prop_assert!(batched.submit(request, prompt, output) && single.submit(request, prompt, output));
        }
        let log = run(&mut batched, u64::MAX);
        prop_assert_eq!(&log, &run(&mut single, 0));
        prop_assert_eq!(log.len(), 2 * requests.len());
        prop_assert_eq!((batched.kv_used, batched.decodes), (0, 0));
    }
}
