//! The engines by name: measured facts with their source.
//!
//! **Splitwise** (`llama2-70b-*`, `bloom-176b-*`): least-squares fits, prefill `a + b n + c n^2` at batch 1 and decode
//! `d + e batch`, of the measurements in Mutinifni/splitwise-sim (MIT; Splitwise, ISCA'24). They were taken up to a few
//! thousand tokens: longer prompts are an extrapolation of the quadratic. The KV cache is what 90 % of the cards'
//! memory holds beside 16-bit weights: 320 KiB a token for Llama-2-70B (80 layers, 8 KV heads of 128), 3.83 MiB for
//! BLOOM-176B (70 layers, 14,336 wide). `max_num_batched_tokens` is vLLM's default for serving: 2,048 on an A100,
//! 8,192 on an H100.
//!
//! **vLLM runs** (`llama3.1-8b-*`): two runs of vLLM 0.19 with 300 `ShareGPT` requests each, recorded by
//! casys-kaist/LLMServingSim (MIT). `expresslane-sim fit --run FILE` gives `b`, `d` and `e` from the decode durations
//! alone ([`crate::fit`]), with `a = d` and no `c`: it cannot be told from prompts below 4,000 tokens, so these engines
//! are for chat lengths. `kv_tokens` of the RTX 4090 is the recorded one; of the RTX PRO 6000 none was recorded, and
//! 96 GB at 90 % less the weights is far above what 128 sequences need.

use super::spec::EngineSpec;
use crate::Error;

#[derive(Clone, Copy)]
struct Fact {
    name: &'static str,
    /// a, b, c, d, e.
    cost: [f64; 5],
    max_num_seqs: usize,
    max_num_batched_tokens: u32,
    kv_tokens: u64,
}

const fn fact(name: &'static str, cost: [f64; 5], batched_tokens: u32, kv_tokens: u64) -> Fact {
    Fact { name, cost, max_num_seqs: 256, max_num_batched_tokens: batched_tokens, kv_tokens }
}

const RTT_MS: f64 = 1.0;

const FACTS: [Fact; 14] = [
    fact("bloom-176b-a100-tp8", [49.2186, 0.222_960, 2.346_24e-5, 48.5113, 0.661_447], 2_048, 66_000),
    fact("bloom-176b-h100-pcap-tp8", [43.0829, 0.102_512, 1.873_47e-5, 35.7269, 0.394_473], 8_192, 66_000),
    fact("bloom-176b-h100-tp8", [33.1407, 0.078_855_3, 1.441_13e-5, 35.7269, 0.394_473], 8_192, 66_000),
    fact("llama2-70b-a100-tp2", [38.8906, 0.304_302, 7.788_77e-6, 58.8585, 0.196_191], 2_048, 50_000),
    fact("llama2-70b-a100-tp4", [43.0301, 0.156_204, 1.515_00e-5, 43.8338, 0.382_277], 2_048, 522_000),
    fact("llama2-70b-a100-tp8", [48.4523, 0.083_740_1, 1.294_93e-5, 44.5069, 0.369_077], 2_048, 1_466_000),
    fact("llama2-70b-h100-pcap-tp2", [36.1212, 0.142_635, 9.406_30e-6, 37.6677, 0.136_016], 8_192, 50_000),
    fact("llama2-70b-h100-pcap-tp4", [44.8174, 0.067_781_9, 1.121_58e-5, 28.9174, 0.316_653], 8_192, 522_000),
    fact(
        "llama2-70b-h100-pcap-tp8",
        [55.9377, 0.027_179_1, 1.396_32e-5, 30.0789, 0.296_398],
        8_192,
        1_466_000,
    ),
    fact("llama2-70b-h100-tp2", [27.7855, 0.109_719, 7.235_62e-6, 37.6677, 0.136_016], 8_192, 50_000),
    fact("llama2-70b-h100-tp4", [34.4749, 0.052_139_9, 8.627_56e-6, 28.9174, 0.316_653], 8_192, 522_000),
    fact("llama2-70b-h100-tp8", [43.0290, 0.020_907_0, 1.074_09e-5, 30.0789, 0.296_398], 8_192, 1_466_000),
    fact("llama3.1-8b-rtx4090", [17.548, 0.081_05, 0.0, 17.548, 0.277_9], 2_048, 41_408),
    Fact {
        max_num_seqs: 128,
        ..fact("llama3.1-8b-rtxpro6000", [14.931, 0.028_87, 0.0, 14.931, 0.120_6], 2_048, 520_000)
    },
];

pub(crate) fn names() -> [&'static str; 14] {
    FACTS.map(|fact| fact.name)
}

/// The engine of that name.
pub(crate) fn engine(name: &str) -> Result<EngineSpec, Error> {
    let Some(fact) = FACTS.iter().find(|fact| fact.name == name) else {
        return Err(Error::unknown("engine", name, &names()));
    };
    Ok(EngineSpec {
        name: fact.name.to_owned(),
        cost: fact.cost.as_slice().try_into()?,
        max_num_seqs: fact.max_num_seqs,
        max_num_batched_tokens: fact.max_num_batched_tokens,
        long_prefill_token_threshold: 0,
        kv_tokens: fact.kv_tokens,
        rtt_ms: RTT_MS,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every engine is sound, names are sorted, and an unknown one is told what there is.
    #[test]
    fn names() {
        assert!(FACTS.is_sorted_by_key(|fact| fact.name));
        for fact in &FACTS {
            engine(fact.name).unwrap().check().unwrap();
        }
        let error = engine("llama2-70b-a100").unwrap_err().to_string();
        assert!(error.contains("llama2-70b-a100-tp4") && error.contains("llama3.1-8b-rtx4090"));
    }

    /// The scheduler's rule for the short lane, twice what is prefilled in a round trip and a step, and one chunk, stays
    /// below the least budget for each of them: the documentation says so.
    #[test]
    fn short_budgets_are_the_least() {
        let budgets = FACTS.iter().map(|fact| {
            let engine = engine(fact.name).unwrap();
            let (cost, step) = (engine.cost, f64::from(engine.max_num_batched_tokens));
            let ms_per_token = cost.prefill_token_ms + cost.prefill_square_ms * step;
            2.0 * (cost.prefill_base_ms + engine.rtt_ms) / ms_per_token + f64::from(engine.chunk())
        });
        let largest = budgets.fold(0.0, f64::max);
        assert!((9_000.0..10_000.0).contains(&largest), "{largest}");
    }
}
