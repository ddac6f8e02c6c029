//! What is closed for a prompt that asks for more tokens than are left: nothing smaller that comes after it in the order
//! may use them up.

use super::Backend;
use crate::TenantId;

/// What is closed until another prompt may be the first there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closing {
    /// Whose prompt it is closed for.
    pub(crate) tenant: TenantId,
    /// The model of which its provider has too few left; none = all is closed, by the backend's own tokens per minute.
    pub(crate) model_slot: Option<u32>,
}

impl Backend {
    /// Whether so many tokens are left for a model, by its own limit and its provider's.
    pub(crate) fn admits(&self, now_ns: u64, model_slot: u32, tokens: u64) -> bool {
        self.limits.admits(now_ns, tokens) && self.has_left(now_ns, model_slot, tokens)
    }

    /// Closed for a prompt that asks for so many tokens.
    pub(crate) fn close_for(&mut self, tokens: u64, closing: Closing) {
        match closing.model_slot {
            Some(of_model) => self.close_told(of_model),
            None => self.limits.close_for(tokens),
        }
        self.closings.push(closing);
    }

    /// Opens what is closed where another `may_be_first` by now: who is first closes it again or goes.
    pub(crate) fn reopen(&mut self, now_ns: u64, may_be_first: impl Fn(&Closing) -> bool) {
        for closing in self.closings.extract_if(.., |closing| may_be_first(closing)).collect::<Vec<_>>() {
            match closing.model_slot {
                Some(of_model) => self.refresh_model(now_ns, of_model),
                None => self.refresh_own(now_ns),
            }
        }
    }

    /// After room is kept or given up here: who was first may be kept out by now, and who was kept out the first.
    pub(crate) fn reopen_all(&mut self, now_ns: u64) {
        self.reopen(now_ns, |_| true);
    }
}
