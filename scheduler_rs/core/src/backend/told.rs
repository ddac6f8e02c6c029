//! What is left of its provider's limits, of each model.

use super::Backend;
use crate::told::{Given, Left, Told};
use crate::{LimitKind, ModelId};

impl Backend {
    /// A prompt goes there: what it takes off from what is left, and how much that makes in all.
    pub(crate) fn give(&mut self, now_ns: u64, model_slot: u32, tokens: u64) -> Given {
        let model = &mut self.models[model_slot as usize];
        let before = model.given;
        model.given.add(tokens);
        if let Some(told) = &mut model.told {
            told.refresh(now_ns, before);
            told.charge(model.given, tokens);
            self.is_spent |= told.closed.is_some();
        }
        model.given
    }

    /// Whether its provider has so many tokens left for a model.
    pub(super) fn has_left(&self, now_ns: u64, model_slot: u32, tokens: u64) -> bool {
        let model = &self.models[model_slot as usize];
        model.told.as_ref().is_none_or(|told| told.admits(now_ns, model.given, tokens))
    }

    /// Too few tokens are left of a model for the prompt that is the first there.
    pub(super) fn close_told(&mut self, model_slot: u32) {
        if let Some(told) = &mut self.models[model_slot as usize].told {
            told.close();
            self.is_spent = true;
        }
    }

    /// What a prompt of a model in flight was charged with turned out to be `used` tokens.
    pub(crate) fn settle_told(&mut self, model: ModelId, of: Given, charged: u64, used: u64) {
        if self.tells {
            let at = self.position(model);
            let slot = &mut self.models[at];
            if let Some(told) = &mut slot.told {
                told.settle(slot.given, of, charged, used);
                self.is_spent |= told.closed.is_some();
            }
        }
    }

    /// A prompt of a model has given back its slot.
    pub(crate) fn note_left(&mut self, now_ns: u64, model: ModelId) {
        if self.tells {
            let at = self.position(model);
            let slot = &mut self.models[at];
            if let Some(told) = slot.told.as_mut().filter(|_| slot.in_flight == 0) {
                told.fall_silent(now_ns, slot.given);
            }
        }
    }

    /// An answer says what is left of a model in flight. Returns what closes the model by now.
    pub(crate) fn hear(
        &mut self,
        now_ns: u64,
        model: ModelId,
        of: Given,
        requests: Option<Left>,
        tokens: Option<Left>,
    ) -> Option<(LimitKind, u64)> {
        let at = self.position(model);
        let slot = &mut self.models[at];
        let told = slot.told.get_or_insert_with(|| Box::new(Told::default()));
        told.hear(now_ns, of, slot.given, requests, tokens);
        self.tells = true;
        self.is_spent |= told.closed.is_some();
        told.closed
    }

    pub(super) fn refresh_told(&mut self, now_ns: u64) {
        self.is_spent = false;
        for model_slot in 0..self.models.len() as u32 {
            self.refresh_model(now_ns, model_slot);
        }
    }

    pub(super) fn refresh_model(&mut self, now_ns: u64, model_slot: u32) {
        let model = &mut self.models[model_slot as usize];
        if let Some(told) = &mut model.told {
            told.refresh(now_ns, model.given);
            self.is_spent |= told.closed.is_some();
        }
    }
}
