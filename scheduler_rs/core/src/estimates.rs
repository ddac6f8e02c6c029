//! What a backend's own times teach: how long a prefill takes with no other beside it, and how long decoding lasts.

mod curve;
mod fit;
mod mean;
mod solve;

pub(crate) use curve::Curve;
use fit::PrefillFit;
pub(crate) use mean::Mean;

/// Estimates are worked out anew at most this often: what is learned from is many prompts, not one.
const INTERVAL_NS: u64 = 1_000_000_000;
/// Fewer samples than this teach nothing.
const SAMPLES_MIN: u64 = 8;
/// About how many samples are remembered, the last ones most.
const MEMORY: f64 = 256.0;
/// Scores stay as they are until what they were worked out from has moved by this ratio.
const MOVED: f64 = 1.1;
/// Lengths at which two estimates are compared.
const COMPARED_TOKENS: [f64; 3] = [256.0, 4_096.0, 65_536.0];

/// How long a prompt keeps a backend busy that it has for itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ServiceTime {
    /// From the release to the first token.
    pub(crate) prefill: Curve,
    /// From the first token to the end; the same for all prompts, because output is not known before.
    pub(crate) decode_ns: f64,
}

impl ServiceTime {
    pub(crate) fn at(&self, tokens: f64) -> f64 {
        self.prefill.at(tokens) + self.decode_ns
    }

    fn has_moved_from(&self, other: &Self) -> bool {
        let differ = |a: f64, b: f64| a > b * MOVED || b > a * MOVED;
        COMPARED_TOKENS.iter().any(|&tokens| {
            differ(self.prefill.at(tokens), other.prefill.at(tokens))
                || differ(self.at(tokens), other.at(tokens))
        })
    }
}

/// Of one backend.
#[derive(Debug)]
pub(crate) struct Estimates {
    configured: Curve,
    in_force: ServiceTime,
    scored: ServiceTime,
    fit: PrefillFit,
    decode: Mean,
    next_ns: u64,
}

impl Estimates {
    /// Until enough is learned prefill goes at the configured rate, and decoding is not counted.
    pub(crate) fn new(prefill_tokens_per_s: f64) -> Self {
        let configured = Curve::from_rate(prefill_tokens_per_s);
        let in_force = ServiceTime { prefill: configured, decode_ns: 0.0 };
        Self {
            configured,
            in_force,
            scored: in_force,
            fit: PrefillFit::default(),
            decode: Mean::default(),
            next_ns: 0,
        }
    }

    /// A new rate counts only where nothing better is known.
    pub(crate) fn configure(&mut self, prefill_tokens_per_s: f64) {
        self.configured = Curve::from_rate(prefill_tokens_per_s);
        self.in_force = self.learned();
        self.scored = self.in_force;
    }

    /// As of the last refresh.
    pub(crate) fn in_force(&self) -> &ServiceTime {
        &self.in_force
    }

    /// What scores are worked out from: the estimates in force, give or take a tenth.
    pub(crate) fn scored(&self) -> &ServiceTime {
        &self.scored
    }

    pub(crate) fn prefill_samples(&self) -> u64 {
        self.fit.samples()
    }

    pub(crate) fn decode_samples(&self) -> u64 {
        self.decode.samples()
    }

    /// A prompt of so many uncached tokens took so long to its first token, alone in prefill.
    pub(crate) fn add_prefill(&mut self, tokens: u32, took_ns: u64) {
        self.fit.add(f64::from(tokens), took_ns as f64, self.configured);
    }

    /// An answer took so long from its first token to its end.
    pub(crate) fn add_decode(&mut self, took_ns: u64) {
        self.decode.add(took_ns as f64);
    }

    /// Whether it is time to put in force what was learned since.
    pub(crate) fn is_due(&self, now_ns: u64) -> bool {
        now_ns >= self.next_ns
    }

    /// Puts in force what was learned; whether that changes what scores are worked out from.
    pub(crate) fn refresh(&mut self, now_ns: u64) -> bool {
        self.next_ns = now_ns.saturating_add(INTERVAL_NS);
        self.fit.solve();
        self.in_force = self.learned();
        let has_moved = self.in_force.has_moved_from(&self.scored);
        if has_moved {
            self.scored = self.in_force;
        }
        has_moved
    }

    fn learned(&self) -> ServiceTime {
        ServiceTime {
            prefill: self.fit.curve().unwrap_or(self.configured),
            decode_ns: self.decode.get().unwrap_or(0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Without samples the configured rate holds; a mean decode time counts from the eighth answer on.
    #[test]
    fn until_enough_is_known() {
        let mut estimates = Estimates::new(5_000.0);
        let configured = estimates.in_force().at(5_000.0);
        assert!((configured - 1.005e9).abs() < 1.0, "{configured}");
        for answer in 1..=8 {
            estimates.add_decode(4 * SECOND);
            assert_eq!(estimates.refresh(answer * SECOND), answer == 8, "after {answer}");
        }
        assert!((estimates.in_force().at(5_000.0) - configured - 4e9).abs() < 1.0);
    }

    /// A move by less than a tenth changes no scores, and what is in force changes at most once a second.
    #[test]
    fn moves_rarely() {
        let mut estimates = Estimates::new(5_000.0);
        (0..8).for_each(|_| estimates.add_decode(4 * SECOND));
        assert!(estimates.refresh(SECOND));
        (0..4).for_each(|_| estimates.add_decode(5 * SECOND));
        assert!(!estimates.is_due(2 * SECOND - 1) && estimates.is_due(2 * SECOND));
        assert!(!estimates.refresh(2 * SECOND), "a mean of 4.33 s is no move from 4");
        assert!((estimates.in_force().decode_ns / 1e9 - 4.33).abs() < 0.01);
        assert!((estimates.scored().decode_ns / 1e9 - 4.0).abs() < 0.01);
        (0..20).for_each(|_| estimates.add_decode(20 * SECOND));
        assert!(estimates.refresh(3 * SECOND));
        assert_eq!(estimates.scored(), estimates.in_force());
    }

    /// A new configured rate replaces the old one, but not what was learned.
    #[test]
    fn configured_anew() {
        let mut estimates = Estimates::new(5_000.0);
        estimates.configure(1_000.0);
        assert!((estimates.in_force().at(1_000.0) - 1.005e9).abs() < 1.0);
        for tokens in [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800] {
            estimates.add_prefill(tokens, 10_000_000 + u64::from(tokens) * 100_000);
        }
        assert!(estimates.refresh(SECOND));
        let learned = *estimates.in_force();
        estimates.configure(500.0);
        assert_eq!(*estimates.in_force(), learned);
    }
}
