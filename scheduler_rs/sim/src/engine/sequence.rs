//! One request inside the engine.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// So many of its tokens are prefilled.
    Prefill { done: u32 },
    /// One token a step since the given one.
    Decode { since_step: u64 },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Sequence {
    pub(super) request: u32,
    prompt: u32,
    output: u32,
    /// Tokens generated before the present phase began.
    pub(super) generated: u32,
    /// What its last prefill holds of the KV cache.
    kv_prefilled: u64,
    pub(super) phase: Phase,
}

impl Sequence {
    /// An empty prompt still has one token, and every answer too.
    pub(super) fn new(request: u32, prompt: u32, output: u32) -> Self {
        let prompt = prompt.max(1);
        Self {
            request,
            prompt,
            output: output.max(1),
            generated: 0,
            kv_prefilled: u64::from(prompt),
            phase: Phase::Prefill { done: 0 },
        }
    }

    /// Tokens to prefill: the prompt and, after a preemption, what had been generated.
    pub(super) fn prefill_tokens(&self) -> u64 {
        self.kv_prefilled
    }

    pub(super) fn kv_most(&self) -> u64 {
        u64::from(self.prompt) + u64::from(self.output)
    }

    /// Its tokens in the KV cache after so many steps.
    pub(super) fn kv_at(&self, steps: u64) -> u64 {
        match self.phase {
            Phase::Prefill { .. } => self.kv_prefilled,
            Phase::Decode { since_step } => self.kv_prefilled + steps - since_step,
        }
    }

    /// The prefill has brought a token; returns at which step the last one comes, unless this was it.
    pub(super) fn start_decode(&mut self, steps: u64) -> Option<u64> {
        self.generated += 1;
        self.phase = Phase::Decode { since_step: steps };
        let left = self.output - self.generated;
        (left > 0).then(|| steps + u64::from(left))
    }

    pub(super) fn preempt(&mut self, steps: u64) {
        if let Phase::Decode { since_step } = self.phase {
            self.generated += (steps - since_step) as u32;
        }
        self.kv_prefilled = u64::from(self.prompt) + u64::from(self.generated);
        self.phase = Phase::Prefill { done: 0 };
    }
}
