//! Three named mixes of lengths.

use crate::Error;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, LogNormal};

/// Log-normal lengths within bounds.
#[derive(Clone, Copy, Debug)]
struct Lengths {
    median: f64,
    sigma: f64,
    most: f64,
}

impl Lengths {
    fn draw(&self, rng: &mut ChaCha8Rng) -> u32 {
        let lengths = LogNormal::new(self.median.ln(), self.sigma).expect("the sigma is finite");
        lengths.sample(rng).round().clamp(1.0, self.most) as u32
    }
}

/// A share of a mix: prompts and outputs.
type Part = (f64, Lengths, Lengths);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    pub(crate) name: &'static str,
    parts: &'static [Part],
}

const CHAT: Part = (
    0.9,
    Lengths { median: 400.0, sigma: 1.0, most: 8_000.0 },
    Lengths { median: 180.0, sigma: 0.8, most: 2_000.0 },
);
const DOCUMENTS: Part = (
    0.1,
    Lengths { median: 16_000.0, sigma: 0.6, most: 60_000.0 },
    Lengths { median: 250.0, sigma: 0.6, most: 2_000.0 },
);
const WIDE: Part = (
    1.0,
    Lengths { median: 2_000.0, sigma: 1.6, most: 60_000.0 },
    Lengths { median: 120.0, sigma: 1.0, most: 2_000.0 },
);

const MIXES: [Mix; 3] = [
    // Conversation only: little variance, bound by decode.
    Mix { name: "chat", parts: &[CHAT] },
    // Nine chat prompts to one document.
    Mix { name: "mixed", parts: &[CHAT, DOCUMENTS] },
    // One wide distribution without a gap.
    Mix { name: "wide", parts: &[WIDE] },
];

impl Mix {
    pub(crate) fn named(name: &str) -> Result<Self, Error> {
        let names = MIXES.map(|mix| mix.name);
        let found = MIXES.into_iter().find(|mix| mix.name == name);
        found.ok_or_else(|| Error::unknown("mix", name, &names))
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
