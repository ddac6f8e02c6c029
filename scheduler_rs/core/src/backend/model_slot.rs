//! One model at one backend: its cap there, what is in flight, and what keeps its prompts away.

use crate::loaded::UNWANTED;
use crate::ramp::Ramp;
use crate::told::{Given, Told};
use crate::{LimitKind, ModelId};

/// One model at one backend; a model that is no longer served stays until nothing of it is in flight.
#[derive(Debug)]
pub(crate) struct ModelSlot {
    pub(crate) model: ModelId,
    pub(crate) cap: u32,
    pub(crate) served: bool,
    pub(crate) in_flight: u32,
    /// Nothing is released before this.
    pub(crate) paused_until_ns: u64,
    /// Nothing that has another place to go to is released before this.
    pub(crate) avoided_until_ns: u64,
    pub(crate) given: Given,
    /// What is left of its provider's limits, once an answer has said so.
    pub(crate) told: Option<Box<Told>>,
    pub(crate) ramp: Ramp,
    /// The highest class of which something waits for it, where models are limited.
    pub(crate) wanted: u8,
    /// Of this something could go nowhere else without a load.
    pub(crate) only_here: bool,
    /// It is not in memory and has no place there yet, or it makes room for another.
    pub(crate) shut: bool,
    /// When it was last loaded, counted in loads; 0 = never.
    pub(crate) loaded_at: u64,
}

impl ModelSlot {
    pub(super) fn new(model: ModelId, cap: u32) -> Self {
        Self {
            model,
            cap,
            served: true,
            in_flight: 0,
            paused_until_ns: 0,
            avoided_until_ns: 0,
            given: Given::ZERO,
            told: None,
            ramp: Ramp::OPEN,
            wanted: UNWANTED,
            only_here: false,
            shut: false,
            loaded_at: 0,
        }
    }

    /// Whether it is to be left alone: for a while, or because nothing is left of its provider's limits.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused_until_ns > 0 || self.told.as_ref().is_some_and(|told| told.is_spent())
    }

    /// Whether nothing but caps keeps its prompts away, as far as it is up to this model.
    pub(crate) fn is_open(&self) -> bool {
        self.paused_until_ns == 0 && self.spent().is_none() && !self.shut
    }

    /// Whether its prompts go elsewhere while they can.
    pub(crate) fn is_avoided(&self) -> bool {
        self.avoided_until_ns > 0
    }

    /// What its provider's own count closes it for, and until when.
    pub(crate) fn spent(&self) -> Option<(LimitKind, u64)> {
        self.told.as_ref()?.closed
    }
}
