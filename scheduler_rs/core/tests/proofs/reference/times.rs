//! How long prompts take at a backend, as the scheduler says that it has learned; what scores and budgets follow from it.

use super::{Host, Item, Reference, SeenBackend};

/// The way there and one engine step, until that is learned.
const STEP_NS: f64 = 5e6;
/// Per second, for a model that no backend serves.
const UNSERVED_TOKENS_PER_S: f64 = 5_000.0;
/// Scores are worked out anew when times have moved by a tenth at one of these lengths.
const MOVED: f64 = 1.1;
const COMPARED_TOKENS: [f64; 3] = [256.0, 4_096.0, 65_536.0];
/// The fastest backend of a model is the one that has a prompt of this length done first.
const TYPICAL_TOKENS: f64 = 2_048.0;

/// For a prompt alone: `c0 + c1 n + c2 n^2` nanoseconds to its first token, then as long for all.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Times {
    pub(crate) prefill_ns: [f64; 3],
    pub(crate) decode_ns: f64,
}

impl Times {
    pub(crate) fn configured(tokens_per_s: f64) -> Self {
        Self { prefill_ns: [STEP_NS, 1e9 / tokens_per_s, 0.0], decode_ns: 0.0 }
    }

    pub(crate) fn prefill(&self, tokens: f64) -> f64 {
        let [c0, c1, c2] = self.prefill_ns;
        c0 + c1 * tokens + c2 * (tokens * tokens)
    }

    pub(crate) fn service(&self, tokens: f64) -> f64 {
        self.prefill(tokens) + self.decode_ns
    }

    fn has_moved_from(&self, other: &Self) -> bool {
        let differ = |a: f64, b: f64| a > b * MOVED || b > a * MOVED;
        COMPARED_TOKENS.iter().any(|&tokens| {
            differ(self.prefill(tokens), other.prefill(tokens))
                || differ(self.service(tokens), other.service(tokens))
        })
    }
}

impl Host {
    /// A new description: scores go by what is known now.
    pub(crate) fn set_times(&mut self, times: Times) {
        (self.in_force, self.scored) = (times, times);
    }

    fn note_times(&mut self, times: Times) {
        self.in_force = times;
        if times.has_moved_from(&self.scored) {
            self.scored = times;
        }
    }

    /// Whether the times are as described as long as nothing can be learned.
    pub(crate) fn has_right_times(&self, seen: &SeenBackend) -> bool {
        let configured = Times::configured(self.server.prefill_tokens_per_s);
        let prefill_ns = if seen.has_learned_prefill { seen.times.prefill_ns } else { configured.prefill_ns };
        let decode_ns = if seen.has_learned_decode { seen.times.decode_ns } else { configured.decode_ns };
        seen.times == Times { prefill_ns, decode_ns }
    }
}

impl Reference {
    /// Takes over what the scheduler has learned. To be called after whatever may teach it something.
    pub(crate) fn note_times(&mut self, seen: &[(u32, Times)]) {
        for &(backend, times) in seen {
            if let Some(host) = self.hosts.iter_mut().find(|host| host.id == backend) {
                host.note_times(times);
            }
        }
    }

    /// What scores of the item's model go by: the times of its fastest backend.
    pub(crate) fn fastest(&self, item: &Item) -> Times {
        let serving = self.hosts.iter().filter(|host| host.server.serves(item.request.model));
        let times = serving.map(|host| host.scored);
        let fastest = times.min_by(|a, b| a.service(TYPICAL_TOKENS).total_cmp(&b.service(TYPICAL_TOKENS)));
        fastest.unwrap_or(Times::configured(UNSERVED_TOKENS_PER_S))
    }
}
