//! A modelled engine: vLLM's iteration loop with continuous batching and chunked prefill.
//!
//! Each step takes decodes first, then unfinished prefills in the order of their admission, then waiting requests
//! first come first served, until `max_num_batched_tokens` are used up; of one prompt at most
//! `long_prefill_token_threshold` tokens, so that short ones share the step. A prompt's KV cache is reserved whole when
//! it is admitted and grows by one token a step; when it runs out, the request admitted last is preempted, goes to the
//! head of the waiting ones and is prefilled again with what it had generated.

pub(crate) mod catalog;
pub(crate) mod cost;
mod sequence;
pub(crate) mod spec;

use cost::StepWork;
use sequence::{Phase, Sequence};
use spec::EngineSpec;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

/// What the end of a step brings for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Emission {
    FirstToken(u32),
    Done(u32),
}

/// Sequences are known by the number of their admission, which also is their age.
type Admission = u64;

#[derive(Debug)]
pub(crate) struct Engine {
    spec: EngineSpec,
    waiting: VecDeque<Sequence>,
    running: BTreeMap<Admission, Sequence>,
    /// Those in prefill, ascending.
    prefilling: Vec<Admission>,
    /// When decodes end, by step; entries of preempted sequences are stale.
    decodes_end: BinaryHeap<Reverse<(u64, Admission)>>,
    decodes: usize,
    kv_used: u64,
    /// Steps done.
    steps: u64,
    admissions: Admission,
    /// The running step: how many equal ones it stands for, and its chunks.
    running_steps: u64,
    chunks: Vec<(Admission, u32)>,
    preemptions: u64,
}

impl Engine {
    pub(crate) fn new(spec: EngineSpec) -> Self {
        Self {
            spec,
            waiting: VecDeque::new(),
            running: BTreeMap::new(),
            prefilling: Vec::new(),
            decodes_end: BinaryHeap::new(),
            decodes: 0,
            kv_used: 0,
            steps: 0,
            admissions: 0,
            running_steps: 0,
            chunks: Vec::new(),
            preemptions: 0,
        }
    }

    /// Takes a request, unless it can never fit the KV cache.
    pub(crate) fn submit(&mut self, request: u32, prompt: u32, output: u32) -> bool {
        let sequence = Sequence::new(request, prompt, output);
        let fits = sequence.kv_most() <= self.spec.kv_tokens;
        if fits {
            self.waiting.push_back(sequence);
        }
        fits
    }

    pub(crate) fn is_stepping(&self) -> bool {
        self.running_steps > 0
    }

    pub(crate) fn preemptions(&self) -> u64 {
        self.preemptions
    }

    /// Starts the next step, if there is anything to do, and returns when it ends.
    ///
    /// Nothing reaches the engine before `horizon_ns`, so equal decode steps up to the one running then are taken as one.
    pub(crate) fn start(&mut self, now_ns: u64, horizon_ns: u64) -> Option<u64> {
        debug_assert!(!self.is_stepping());
        if self.waiting.is_empty() && self.running.is_empty() {
            return None;
        }
        self.make_room();
        let work = self.plan();
        let step_ns = ((self.spec.cost.step_ms(&work) * 1e6).round() as u64).max(1);
        self.running_steps = if self.chunks.is_empty() {
            let until_horizon = (horizon_ns - now_ns).div_ceil(step_ns);
            self.steps_alike().min(until_horizon).max(1)
        } else {
            1
        };
        Some(now_ns + step_ns * self.running_steps)
    }

    /// Ends the running step.
    pub(crate) fn complete(&mut self, out: &mut Vec<Emission>) {
        self.steps += self.running_steps;
        self.kv_used += self.decodes as u64 * self.running_steps;
        self.running_steps = 0;
        self.end_decodes(out);
        for (admission, tokens) in std::mem::take(&mut self.chunks) {
            self.advance_prefill(admission, tokens, out);
        }
        self.prefilling.retain(|admission| {
            self.running
                .get(admission)
                .is_some_and(|sequence| matches!(sequence.phase, Phase::Prefill { .. }))
        });
    }

    /// Preempts the youngest until each decode can grow by a token.
    fn make_room(&mut self) {
        while self.kv_used + self.decodes as u64 > self.spec.kv_tokens {
            let (admission, mut sequence) = self.running.pop_last().expect("decodes are running");
            self.kv_used -= sequence.kv_at(self.steps);
            match sequence.phase {
                Phase::Prefill { .. } => self.prefilling.retain(|&other| other != admission),
                Phase::Decode { .. } => self.decodes -= 1,
            }
            sequence.preempt(self.steps);
            self.waiting.push_front(sequence);
            self.preemptions += 1;
        }
    }

    /// Fills `chunks` and admits what fits.
    fn plan(&mut self) -> StepWork {
        let mut work = StepWork { decodes: self.decodes, ..StepWork::default() };
        let mut budget = self.spec.max_num_batched_tokens - self.decodes as u32;
        for at in 0..self.prefilling.len() {
            if budget == 0 {
                return work;
            }
            self.take_chunk(self.prefilling[at], &mut budget, &mut work);
        }
        while budget > 0 && self.can_admit() {
            let mut sequence = self.waiting.pop_front().expect("one is waiting");
            let admission = self.admissions;
            self.admissions += 1;
            sequence.phase = Phase::Prefill { done: 0 };
            self.kv_used += sequence.prefill_tokens();
            self.running.insert(admission, sequence);
            self.prefilling.push(admission);
            self.take_chunk(admission, &mut budget, &mut work);
        }
        work
    }

    fn can_admit(&self) -> bool {
        // A sequence needs room for its prompt and, beside all that decode, for the token after it.
        self.running.len() < self.spec.max_num_seqs
            && self.waiting.front().is_some_and(|sequence| {
                self.kv_used + self.decodes as u64 + sequence.prefill_tokens() <= self.spec.kv_tokens
            })
    }

    fn take_chunk(&mut self, admission: Admission, budget: &mut u32, work: &mut StepWork) {
        let sequence = &self.running[&admission];
        let Phase::Prefill { done } = sequence.phase else { return };
        let left = sequence.prefill_tokens() as u32 - done;
        let tokens = left.min(self.spec.chunk()).min(*budget);
        *budget -= tokens;
        work.add_chunk(done, done + tokens);
        self.chunks.push((admission, tokens));
    }

    /// How many decode steps pass until one ends or the KV cache is full.
    fn steps_alike(&mut self) -> u64 {
        while let Some(&Reverse((end, admission))) = self.decodes_end.peek() {
            if self.running.contains_key(&admission) {
                let until_full = (self.spec.kv_tokens - self.kv_used) / self.decodes as u64;
                return (end - self.steps).min(until_full);
            }
            self.decodes_end.pop();
        }
        1
    }

    fn end_decodes(&mut self, out: &mut Vec<Emission>) {
        while let Some(&Reverse((end, admission))) = self.decodes_end.peek() {
            if end > self.steps {
                break;
            }
            self.decodes_end.pop();
            if let Some(sequence) = self.running.remove(&admission) {
                self.kv_used -= sequence.kv_at(self.steps);
                self.decodes -= 1;
                out.push(Emission::Done(sequence.request));
            }
        }
    }

    fn advance_prefill(&mut self, admission: Admission, tokens: u32, out: &mut Vec<Emission>) {
        let sequence = self.running.get_mut(&admission).expect("a chunk's sequence is running");
        let Phase::Prefill { done } = &mut sequence.phase else { return };
        *done += tokens;
        if u64::from(*done) < sequence.prefill_tokens() {
            return;
        }
        if sequence.generated == 0 {
            out.push(Emission::FirstToken(sequence.request));
        }
        let kv = sequence.kv_at(self.steps);
        if let Some(end) = sequence.start_decode(self.steps) {
            self.decodes += 1;
            self.decodes_end.push(Reverse((end, admission)));
        } else {
            out.push(Emission::Done(sequence.request));
            self.running.remove(&admission);
            self.kv_used -= kv;
        }
    }
}

#[cfg(test)]
mod tests;
