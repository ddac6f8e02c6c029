use super::*;

const MS: f64 = 1e6;

/// llama2-70b on four A100, by its published fit.
const KNOWN: Curve = Curve { c0: 43.0 * MS, c1: 0.156 * MS, c2: 1.515e-5 * MS };

/// Even numbers between 0 and 1 in a fixed order.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Lengths from 2^`low` to 2^`high`, each power of two as likely as any other.
    fn tokens(&mut self, low: f64, high: f64) -> f64 {
        (low + (high - low) * self.next()).exp2().round()
    }

    /// A factor of 1 give or take `spread`.
    fn noise(&mut self, spread: f64) -> f64 {
        1.0 + spread * (2.0 * self.next() - 1.0)
    }
}

/// A fit that starts from a configured 5,000 tokens per second.
struct Learner {
    fit: PrefillFit,
    draws: Draws,
}

impl Learner {
    fn new() -> Self {
        Self { fit: PrefillFit::default(), draws: Draws(7) }
    }

    fn sample(&mut self, tokens: f64, took_ns: f64) {
        self.fit.add(tokens, took_ns, Curve::from_rate(5_000.0));
        self.fit.solve();
    }

    /// Prompts of 32 to 2^`high` tokens with 10 % of noise.
    fn run(&mut self, engine: Curve, count: usize, high: f64) {
        for _ in 0..count {
            let tokens = self.draws.tokens(5.0, high);
            let took_ns = engine.at(tokens) * self.draws.noise(0.1);
            self.sample(tokens, took_ns);
        }
    }

    fn curve(&self) -> Curve {
        self.fit.curve().expect("there are enough samples")
    }

    /// The largest ratio, either way, between the curve and the engine over some lengths.
    fn error(&self, engine: Curve, lengths: &[f64]) -> f64 {
        let ratios = lengths.iter().map(|&tokens| self.curve().at(tokens) / engine.at(tokens));
        ratios.map(|ratio| ratio.max(ratio.recip()) - 1.0).fold(0.0, f64::max)
    }
}

const LENGTHS: [f64; 6] = [32.0, 256.0, 1_024.0, 4_096.0, 16_384.0, 32_768.0];

/// Noisy samples give the engine's curve and each of its coefficients.
#[test]
fn recovers_a_known_engine() {
    let mut learner = Learner::new();
    learner.run(KNOWN, 400, 15.0);
    let error = learner.error(KNOWN, &LENGTHS);
    assert!(error < 0.03, "off by {error}");
    let curve = learner.curve();
    let pairs = [(curve.c0, KNOWN.c0), (curve.c1, KNOWN.c1), (curve.c2, KNOWN.c2)];
    for (at, (found, known)) in pairs.into_iter().enumerate() {
        assert!((found / known - 1.0).abs() < 0.15, "c{at} = {found} instead of {known}");
    }
}

/// Eight samples are enough to be near, seven say nothing.
#[test]
fn the_first_samples() {
    let mut learner = Learner::new();
    learner.run(KNOWN, 7, 13.0);
    assert_eq!(learner.fit.curve(), None);
    learner.run(KNOWN, 1, 13.0);
    let error = learner.error(KNOWN, &LENGTHS[1..4]);
    assert!(error < 0.3, "off by {error}");
}

/// An engine that becomes a few times slower or faster is followed as the past is forgotten.
#[test]
fn forgets() {
    for factor in [3.0, 1.0 / 3.0] {
        let mut learner = Learner::new();
        learner.run(KNOWN, 500, 14.0);
        learner.run(KNOWN.times(factor), 512, 14.0);
        let halfway = learner.error(KNOWN.times(factor), &LENGTHS[..5]);
        assert!(halfway < 0.5, "times {factor}: off by {halfway}");
        learner.run(KNOWN.times(factor), 1_024, 14.0);
        let error = learner.error(KNOWN.times(factor), &LENGTHS[..5]);
        assert!(error < 0.05, "times {factor}: off by {error}");
    }
}

/// A change that is too large to be forgotten into is followed at once, when nothing else is seen any more.
#[test]
fn begins_anew() {
    for factor in [30.0, 1.0 / 30.0] {
        let mut learner = Learner::new();
        learner.run(KNOWN, 500, 14.0);
        learner.run(KNOWN.times(factor), 30, 14.0);
        let error = learner.error(KNOWN.times(factor), &LENGTHS[1..5]);
        assert!(error < 0.2, "times {factor}: off by {error}");
    }
}

/// Eight in a row it takes to begin anew, however many are strange in all: one that is as usual ends the row.
#[test]
fn strange_ones_between_usual_ones() {
    for factor in [30.0, 1.0 / 30.0] {
        let mut learner = Learner::new();
        learner.run(KNOWN, 500, 14.0);
        for strange in 1..=24 {
            learner.run(KNOWN, 9, 14.0);
            learner.run(KNOWN.times(factor), 1, 14.0);
            let error = learner.error(KNOWN, &LENGTHS[1..5]);
            assert!(error < 0.5, "after {strange} times {factor}: off by {error}");
        }
    }
}

/// One prompt in fifty that takes a hundred times as long, or is found in a cache, moves the curve by little.
#[test]
fn outliers() {
    for (factor, tolerance) in [(100.0, 0.15), (0.01, 0.15)] {
        let mut learner = Learner::new();
        for at in 0..1_000 {
            learner.run(KNOWN, 1, 14.0);
            if at % 50 == 49 {
                let tokens = learner.draws.tokens(5.0, 14.0);
                learner.sample(tokens, KNOWN.at(tokens) * factor);
            }
        }
        let error = learner.error(KNOWN, &LENGTHS[..5]);
        assert!(error < tolerance, "times {factor}: off by {error}");
    }
}

/// An outlier among the very first samples does no harm either.
#[test]
fn early_outlier() {
    for factor in [100.0, 0.01] {
        let mut learner = Learner::new();
        learner.run(KNOWN, 3, 13.0);
        learner.sample(1_024.0, KNOWN.at(1_024.0) * factor);
        learner.run(KNOWN, 20, 13.0);
        let error = learner.error(KNOWN, &LENGTHS[1..4]);
        assert!(error < 0.35, "times {factor}: off by {error}");
    }
}

/// From short prompts alone longer ones are still predicted as longer, at a rate that is no dream.
#[test]
fn goes_on_beyond_what_it_saw() {
    for high in [6.0, 8.0, 11.0] {
        let mut learner = Learner::new();
        learner.run(KNOWN, 300, high);
        let error = learner.error(KNOWN, &[8_192.0, 32_768.0]);
        assert!(error < 2.0, "from up to 2^{high} tokens: off by {error}");
        let error = learner.error(KNOWN, &[high.exp2()]);
        assert!(error < 0.05, "at 2^{high} tokens: off by {error}");
    }
}

/// Prompts of one length tell one time and no slope: other lengths follow the configured line, scaled to that time.
#[test]
fn one_length() {
    let engine = Curve { c0: 5.0 * MS, c1: 0.1 * MS, c2: 0.0 };
    for tokens in [64.0, 512.0, 4_096.0, 16_384.0] {
        for spread in [0.0, 0.1] {
            let mut learner = Learner::new();
            for _ in 0..100 {
                let took_ns = engine.at(tokens) * learner.draws.noise(spread);
                learner.sample(tokens, took_ns);
            }
            let error = learner.error(engine, &[tokens / 8.0, tokens, tokens * 4.0]);
            assert!(
                error < 0.5,
                "from {tokens} tokens, spread {spread}: off by {error}: {:?}",
                learner.curve()
            );
        }
    }
}

/// Whatever is measured, the curve is finite, above 0 and never falls.
#[test]
fn absurd_samples() {
    for took_ns in [0.0, 1.0, 1e18] {
        for tokens in [0.0, 1.0, f64::from(crate::TOKENS_MAX)] {
            let mut learner = Learner::new();
            (0..600).for_each(|_| learner.sample(tokens, took_ns));
            let curve = learner.curve();
            assert!(curve.at(1.0) > 0.0 && curve.at(f64::from(crate::TOKENS_MAX)).is_finite(), "{curve:?}");
            assert!(curve.c0 >= 0.0 && curve.c1 >= 0.0 && curve.c2 >= 0.0, "{curve:?}");
        }
    }
}
