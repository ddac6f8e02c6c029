//! The named mixes of lengths.

use crate::Error;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, LogNormal, Pareto};

/// Lengths within bounds.
#[derive(Clone, Copy, Debug)]
enum Lengths {
    LogNormal {
        median: f64,
        sigma: f64,
        most: f64,
    },
    /// A power law: `least` or more, above `n` with the probability `(least / n)^shape`.
    Pareto {
        least: f64,
        shape: f64,
        most: f64,
    },
    /// Every length from `least` to `most` alike.
    Uniform {
        least: f64,
        most: f64,
    },
}

const fn log_normal(median: f64, sigma: f64, most: f64) -> Lengths {
    Lengths::LogNormal { median, sigma, most }
}

impl Lengths {
    fn draw(&self, rng: &mut ChaCha8Rng) -> u32 {
        let (length, most) = match *self {
            Self::LogNormal { median, sigma, most } => {
                let lengths = LogNormal::new(median.ln(), sigma).expect("the sigma is finite");
                (lengths.sample(rng), most)
            }
            Self::Pareto { least, shape, most } => {
                let lengths = Pareto::new(least, shape).expect("least and shape are above 0");
                (lengths.sample(rng), most)
            }
            Self::Uniform { least, most } => (least + (most - least) * rng.random::<f64>(), most),
        };
        length.round().clamp(1.0, most) as u32
    }
}

/// A share of a mix: prompts and outputs.
type Part = (f64, Lengths, Lengths);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    pub(crate) name: &'static str,
    parts: &'static [Part],
}

const CHAT: Part = (0.9, log_normal(400.0, 1.0, 8_000.0), log_normal(180.0, 0.8, 2_000.0));
const fn long_chat(share: f64) -> Part {
    (share, log_normal(1_000.0, 0.7, 8_000.0), log_normal(160.0, 0.8, 1_000.0))
}
const fn document(share: f64) -> Part {
    (share, Lengths::Uniform { least: 20_000.0, most: 60_000.0 }, log_normal(160.0, 0.8, 1_000.0))
}
const DOCUMENTS: Part = (0.1, log_normal(16_000.0, 0.6, 60_000.0), log_normal(250.0, 0.6, 2_000.0));
const WIDE: Part = (1.0, log_normal(2_000.0, 1.6, 60_000.0), log_normal(120.0, 1.0, 2_000.0));
const SNIPPETS: Part = (0.5, log_normal(100.0, 0.4, 1_000.0), log_normal(20.0, 0.5, 200.0));
const FILES: Part = (0.5, log_normal(12_000.0, 0.2, 30_000.0), log_normal(400.0, 0.4, 2_000.0));
const HEAVY: Part =
    (1.0, Lengths::Pareto { least: 150.0, shape: 0.9, most: 100_000.0 }, log_normal(150.0, 1.0, 2_000.0));

const RETRIEVAL: Part = (1.0, log_normal(8_100.0, 0.25, 60_000.0), log_normal(150.0, 0.5, 2_000.0));
const PAPERS: Part = (1.0, log_normal(12_000.0, 0.35, 60_000.0), log_normal(150.0, 0.5, 2_000.0));
const CODE: Part = (1.0, log_normal(1_800.0, 1.0, 16_000.0), log_normal(20.0, 0.8, 300.0));
const QUESTIONS: Part = (0.8, log_normal(300.0, 0.1, 1_000.0), log_normal(240.0, 0.7, 2_000.0));
const EXCERPTS: Part =
    (0.2, Lengths::Uniform { least: 6_000.0, most: 11_000.0 }, log_normal(240.0, 0.7, 2_000.0));

const MIXES: [Mix; 12] = [
    // Two narrow humps of equal count, nothing between them.
    Mix { name: "bimodal", parts: &[SNIPPETS, FILES] },
    // Conversation only: little variance, bound by decode.
    Mix { name: "chat", parts: &[CHAT] },
    // Files of a code base, completed: all sizes up to the context's end, few output tokens.
    Mix { name: "code", parts: &[CODE] },
    // Chat with few documents: what decodes fills the engine, and one long prefill holds all of it.
    Mix { name: "documents-half", parts: &[long_chat(0.995), document(0.005)] },
    Mix { name: "documents-1", parts: &[long_chat(0.99), document(0.01)] },
    Mix { name: "documents-2", parts: &[long_chat(0.98), document(0.02)] },
    // A power law without a mean of its own: a few prompts hold most of the tokens.
    Mix { name: "heavy", parts: &[HEAVY] },
    // Nine chat prompts to one document.
    Mix { name: "mixed", parts: &[CHAT, DOCUMENTS] },
    // Long texts of a size, about the length from which a prompt is long.
    Mix { name: "papers", parts: &[PAPERS] },
    // Retrieval: every prompt is filled up to about the same length with what was found.
    Mix { name: "rag", parts: &[RETRIEVAL] },
    // Four questions to one excerpt, which is long but not very long.
    Mix { name: "two-peaks", parts: &[QUESTIONS, EXCERPTS] },
    // One wide distribution without a gap.
    Mix { name: "wide", parts: &[WIDE] },
];

pub(crate) fn names() -> [&'static str; 12] {
    MIXES.map(|mix| mix.name)
}

impl Mix {
    /// The mix of `MIX[-ARRIVALS]`, whose own name may have a dash too, and the name of the arrivals.
    pub(crate) fn split(name: &str) -> Result<(Self, Option<&str>), Error> {
        let of = |mix: Self| match name.strip_prefix(mix.name)? {
            "" => Some((mix, None)),
            rest => rest.strip_prefix('-').map(|arrivals| (mix, Some(arrivals))),
        };
        let unknown = || Error::unknown("mix", name.split('-').next().unwrap_or(name), &names());
        MIXES.into_iter().find_map(of).ok_or_else(unknown)
    }

    /// Prompt and output tokens of one request.
    pub(crate) fn draw(&self, rng: &mut ChaCha8Rng) -> (u32, u32) {
        let shares: f64 = self.parts.iter().map(|part| part.0).sum();
        let mut at = rng.random::<f64>() * shares;
        let part = self.parts.iter().find(|part| {
            at -= part.0;
            at < 0.0
        });
        let (_, prompt, output) = part.unwrap_or(&self.parts[0]);
        (prompt.draw(rng), output.draw(rng))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::rng;

    fn prompts(name: &str) -> Vec<u32> {
        let mut rng = rng(1, 0);
        let mix = Mix::split(name).unwrap().0;
        let mut prompts: Vec<u32> = (0..20_000).map(|_| mix.draw(&mut rng).0).collect();
        prompts.sort_unstable();
        prompts
    }

    /// Each mix is what its name says: two humps, a power law, nine to one.
    #[test]
    fn shapes() {
        let bimodal = prompts("bimodal");
        let between = bimodal.iter().filter(|tokens| (1_001..4_000).contains(*tokens)).count();
        assert!(between == 0 && bimodal[9_000] < 1_000 && bimodal[11_000] > 4_000);
        let heavy = prompts("heavy");
        assert!((f64::from(heavy[10_000]) / (150.0 * 2_f64.powf(1.0 / 0.9)) - 1.0).abs() < 0.05);
        let (top, all): (u64, u64) = (
            heavy[18_000..].iter().map(|&tokens| u64::from(tokens)).sum(),
            heavy.iter().map(|&tokens| u64::from(tokens)).sum(),
        );
        assert!(top * 2 > all, "a tenth of the prompts holds {top} of {all} tokens");
        let rag = prompts("rag");
        assert!((7_900..8_300).contains(&rag[10_000]) && (5_500..6_300).contains(&rag[2_000]));
        let code = prompts("code");
        assert!((1_700..1_900).contains(&code[10_000]) && code[19_900] == 16_000);
        let peaks = prompts("two-peaks");
        assert!(peaks[15_000] < 500 && (6_000..11_001).contains(&peaks[17_000]) && peaks[19_999] <= 11_000);
        let documents = prompts("mixed").iter().filter(|tokens| **tokens > 8_000).count();
        assert!((1_500..2_300).contains(&documents));
    }
}
