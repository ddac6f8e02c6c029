//! How much the two lanes of a backend take, as given or, left open, by the documented rules.

use super::{Host, Item, Reference, edge_of};

/// A learned budget is never less, and never more.
const SHORT_BUDGET: (f64, f64) = (65_536.0, 1_048_576.0);
/// It fills each slot with a prompt of this length.
const TOKENS_PER_SLOT: f64 = 1_024.0;
/// For so many tokens of short prompts in prefill there may be one long prompt more, where the caller left it open.
const SHORT_TOKENS_PER_LONG: u64 = 65_536;
/// The step of an engine of which nothing is said.
const STEP_TOKENS: u32 = 2_048;

impl Host {
    pub(crate) fn is_long(&self, item: &Item) -> bool {
        let threshold = self.server.long_threshold_tokens;
        threshold != 0 && item.edge > edge_of(threshold)
    }

    /// Most tokens of short prompts in prefill: twice what is prefilled in a round trip and a step, and a chunk;
    /// or what fills the slots.
    #[expect(clippy::cast_sign_loss, reason = "no budget is below 0")]
    pub(crate) fn short_budget(&self) -> u32 {
        let server = &self.server;
        let step = if server.engine_step_tokens > 0 { server.engine_step_tokens } else { STEP_TOKENS };
        let chunk = if server.engine_chunk_tokens > 0 { server.engine_chunk_tokens } else { step };
        server.short_budget_tokens.unwrap_or_else(|| {
            let [c0, c1, c2] = self.in_force.prefill_ns;
            let on_the_way = c0 / (c1 + c2 * f64::from(step));
            let learned = 2.0 * on_the_way + f64::from(chunk);
            let for_slots = f64::from(server.cap) * TOKENS_PER_SLOT;
            learned.max(for_slots).clamp(SHORT_BUDGET.0, SHORT_BUDGET.1) as u32
        })
    }

    /// Most long prompts in prefill when there is nothing else: one, or chunks for three quarters of a step.
    pub(crate) fn long_slots(&self) -> u32 {
        let (step, chunk) = (self.server.engine_step_tokens, self.server.engine_chunk_tokens);
        let left_open = if chunk == 0 { 1 } else { (3 * step / (4 * chunk)).max(1) };
        self.server.long_slots.unwrap_or(left_open)
    }
}

impl Reference {
    /// Tokens of an engine's next step that are taken at most: a chunk of each long prompt; of the short ones all, or a
    /// chunk of each if that is less; and a token for each in decode.
    fn in_step(&self, host: &Host) -> u64 {
        let chunk = u64::from(host.server.engine_chunk_tokens);
        let count = |is_of: &dyn Fn(bool, bool) -> bool| {
            self.at_host(host.id).filter(|(_, flight)| is_of(flight.in_prefill, flight.is_long)).count()
                as u64
        };
        let long = count(&|in_prefill, is_long| in_prefill && is_long);
        let short = count(&|in_prefill, is_long| in_prefill && !is_long);
        let in_decode = count(&|in_prefill, _| !in_prefill);
        long * chunk + self.short_tokens(host.id).min(short * chunk) + in_decode
    }

    fn step_has_room(&self, host: &Host) -> bool {
        let (step, chunk) = (host.server.engine_step_tokens, host.server.engine_chunk_tokens);
        chunk > 0 && self.in_step(host) + u64::from(chunk) <= u64::from(step)
    }

    pub(crate) fn long_lane_is_full(&self, host: &Host) -> bool {
        let here = self.at_host(host.id);
        let in_prefill = here.filter(|(_, flight)| flight.in_prefill && flight.is_long).count();
        let slots = host.long_slots() as usize;
        let is_by_step = host.server.long_slots.is_none() && host.server.engine_chunk_tokens > 0;
        let has_room = !is_by_step || in_prefill == 0 || self.step_has_room(host);
        let beside_shorts = self.short_tokens(host.id) >= in_prefill as u64 * SHORT_TOKENS_PER_LONG;
        let is_open = host.server.long_slots.is_none() && beside_shorts;
        slots > 0 && !is_open && !(in_prefill < slots && has_room)
    }

    /// A budget that is left open never keeps an engine's step half empty.
    pub(crate) fn short_lane_is_full(&self, host: &Host, item: &Item) -> bool {
        let (tokens, budget) = (self.short_tokens(host.id), host.short_budget());
        let is_open = host.server.short_budget_tokens.is_none() && self.step_has_room(host);
        budget > 0 && tokens > 0 && tokens + u64::from(item.edge) > u64::from(budget) && !is_open
    }
}
