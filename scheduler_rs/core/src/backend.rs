//! One backend: its caps, its lanes and what is in flight there.

mod closing;
mod limited;
mod model_slot;
mod told;

use crate::attempt::Attempt;
use crate::breaker::Breaker;
use crate::counters::BackendCounters;
use crate::course::Course;
use crate::estimates::Estimates;
use crate::lanes::Lanes;
use crate::limits::Limits;
use crate::loaded::Loaded;
use crate::opening::Opening;
use crate::ramp::Ramp;
use crate::reservation::Reservation;
use crate::ticket::{Lane, NEVER, NONE, Ticket};
use crate::{BackendConfig, BackendId, ModelId, ModelRoute};
pub(crate) use closing::Closing;
pub(crate) use model_slot::ModelSlot;

#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) id: BackendId,
    pub(crate) config: BackendConfig,
    /// Ascending by model.
    pub(crate) models: Vec<ModelSlot>,
    pub(crate) lanes: Lanes,
    pub(crate) limits: Limits,
    pub(crate) loaded: Loaded,
    pub(crate) breaker: Option<Breaker>,
    /// Whether some model may be paused.
    pub(crate) is_paused: bool,
    /// Whether prompts of some model may go elsewhere while they can.
    pub(crate) is_avoided: bool,
    /// Whether some answer has said what is left of its provider's limits.
    pub(crate) tells: bool,
    /// Whether that may close some model.
    pub(crate) is_spent: bool,
    pub(crate) timer_ns: u64,
    pub(crate) reservation: Option<Reservation>,
    /// Since it was last looked at as a whole.
    pub(crate) closings: Vec<Closing>,
    pub(crate) in_flight: u32,
    pub(crate) peak_in_flight: u32,
    /// Sum of (end - release) of the ended attempts, less the release times of those in flight, modulo 2^64.
    slot_ns: u64,
    /// Charged tokens of everything released and still without a first token.
    pub(crate) outstanding_tokens: u64,
    /// The sum of their squares.
    outstanding_squares: u128,
    /// The slot of the one ticket in prefill if no other has been there since its release.
    alone: u32,
    pub(crate) estimates: Estimates,
    pub(crate) counters: BackendCounters,
}

impl Backend {
    pub(crate) fn new(id: BackendId, config: BackendConfig, now_ns: u64) -> Self {
        let estimates = Estimates::new(config.prefill_tokens_per_s);
        let mut backend = Self {
            id,
            models: Vec::new(),
            lanes: Lanes::new(&config, &estimates.in_force().prefill),
            limits: Limits::default(),
            loaded: Loaded::default(),
            breaker: None,
            is_paused: false,
            is_avoided: false,
            tells: false,
            is_spent: false,
            timer_ns: NEVER,
            reservation: None,
            closings: Vec::new(),
            in_flight: 0,
            peak_in_flight: 0,
            slot_ns: 0,
            outstanding_tokens: 0,
            outstanding_squares: 0,
            alone: NONE,
            estimates,
            counters: BackendCounters::default(),
            config: BackendConfig::default(),
        };
        backend.configure(config, now_ns);
        backend
    }

    pub(crate) fn configure(&mut self, config: BackendConfig, now_ns: u64) {
        self.models.iter_mut().for_each(|slot| slot.served = false);
        for &ModelRoute { model, cap } in &config.models {
            match self.models.binary_search_by_key(&model, |slot| slot.model) {
                Ok(at) => (self.models[at].cap, self.models[at].served) = (cap, true),
                Err(at) => self.models.insert(at, ModelSlot::new(model, cap)),
            }
        }
        self.models.retain(|slot| slot.served || slot.in_flight > 0);
        for slot in &mut self.models {
            if config.ramp { slot.ramp.open_at(hard_cap(config.cap, slot)) } else { slot.ramp = Ramp::OPEN }
        }
        if config.max_loaded_models == 0 {
            self.loaded.forget();
            self.models.iter_mut().for_each(|slot| (slot.shut, slot.loaded_at) = (false, 0));
        }
        self.estimates.configure(config.prefill_tokens_per_s);
        self.limits.configure(config.requests_per_min, config.tokens_per_min);
        match (&mut self.breaker, config.breaker) {
            (Some(breaker), Some(config)) => breaker.configure(config),
            (breaker, config) => *breaker = config.map(|config| Breaker::new(config, now_ns)),
        }
        self.reservation = None;
        self.closings.clear(); // A model may stand elsewhere now; the next poll looks at all.
        self.config = config;
        self.configure_lanes();
    }

    /// Puts in force what was learned; whether scores change with it.
    pub(crate) fn refresh_estimates(&mut self, now_ns: u64) -> bool {
        let has_moved = self.estimates.refresh(now_ns);
        self.configure_lanes();
        has_moved
    }

    /// What the lanes take follows the estimates where the caller has left it open.
    fn configure_lanes(&mut self) {
        self.lanes.configure(&self.config, &self.estimates.in_force().prefill);
    }

    /// Where the model stands in `models`, if it is served.
    pub(crate) fn serves(&self, model: ModelId) -> Option<u32> {
        let at = self.models.binary_search_by_key(&model, |slot| slot.model).ok()?;
        self.models[at].served.then_some(at as u32)
    }

    /// Whether its own cap leaves room for one more.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.config.available && self.in_flight < self.config.cap
    }

    #[inline]
    pub(crate) fn has_slot(&self, model_slot: u32) -> bool {
        if !self.has_room() || self.limits.closed.is_some() {
            return false;
        }
        let model = &self.models[model_slot as usize];
        let has_cap = model.cap == 0 || model.in_flight < model.cap;
        has_cap && model.is_open() && model.in_flight < model.ramp.limit()
    }

    /// Most of a model in flight: its own cap, the backend's, and less after a rate limit.
    pub(crate) fn cap_of(&self, model: &ModelSlot) -> u32 {
        hard_cap(self.config.cap, model).min(model.ramp.limit())
    }

    /// A prompt of this model was turned away by a rate limit; it is still in flight.
    pub(crate) fn cut_ramp(&mut self, now_ns: u64, model: ModelId, released_ns: u64) {
        self.counters.turned_away += 1;
        if self.config.ramp {
            let at = self.position(model);
            let slot = &mut self.models[at];
            slot.ramp.cut(now_ns, released_ns, slot.in_flight, hard_cap(self.config.cap, slot));
        }
    }

    /// A prompt of this model has succeeded.
    pub(crate) fn grow_ramp(&mut self, model: ModelId, released_ns: u64) {
        let at = self.position(model);
        let slot = &mut self.models[at];
        slot.ramp.grow(released_ns, hard_cap(self.config.cap, slot));
    }

    /// Where a model in flight stands in `models`.
    fn position(&self, model: ModelId) -> usize {
        let at = self.models.binary_search_by_key(&model, |slot| slot.model);
        at.expect("a model in flight stays listed")
    }

    /// Whether it may be given work, now or when there is room. An open breaker counts as down until a probe has
    /// succeeded.
    pub(crate) fn is_up(&self) -> bool {
        self.config.available && self.breaker.as_ref().is_none_or(Breaker::is_closed)
    }

    /// Whether probes are about to tell if it is up.
    pub(crate) fn is_tried(&self) -> bool {
        self.config.available && self.breaker.as_ref().is_some_and(Breaker::is_probing)
    }

    /// When the probes that are out have had their time.
    pub(crate) fn probes_due_ns(&self) -> Option<u64> {
        self.breaker.as_ref().and_then(Breaker::probes_due_ns)
    }

    /// What the lanes let in of a class; one bucket more is open to the flow that it is kept for.
    pub(crate) fn open_to(&self, class: u8) -> Opening {
        match self.reservation {
            Some(kept) if kept.class <= class => self.lanes.open_to_others(),
            _ => self.lanes.open(),
        }
    }

    /// What is kept here, if it fits by now.
    pub(crate) fn open_reservation(&self) -> Option<&Reservation> {
        self.reservation.as_ref().filter(|kept| self.lanes.open().contains(kept.bucket))
    }

    pub(crate) fn predicted_ttft_ns(&self, charge: u32) -> f64 {
        let tokens = self.outstanding_tokens + u64::from(charge);
        let squares = self.outstanding_squares + u128::from(charge).pow(2);
        self.estimates.in_force().prefill.of_sums(tokens as f64, squares as f64)
    }

    /// Whether it works on what waits for the model without loading it first.
    pub(crate) fn has_in_memory(&self, model_slot: u32) -> bool {
        let slot = &self.models[model_slot as usize];
        let is_open = !slot.shut && !slot.is_paused() && self.limits.closed.is_none();
        is_open && self.is_up() && (self.config.max_loaded_models == 0 || self.loaded.holds(slot.model))
    }

    /// What comes on top of the predicted TTFT where the model has to be loaded first.
    pub(crate) fn load_ns(&self, model_slot: u32) -> f64 {
        let most = self.config.max_loaded_models;
        if most == 0 { 0.0 } else { self.loaded.cost_ns(self.models[model_slot as usize].model, most) }
    }

    pub(crate) fn in_flight_ratio(&self) -> f64 {
        f64::from(self.in_flight) / f64::from(self.config.cap)
    }

    /// Time that slots have been taken, summed over the slots: the integral of `in_flight` up to `now_ns`.
    pub(crate) fn slot_ns(&self, now_ns: u64) -> u64 {
        self.slot_ns.wrapping_add(u64::from(self.in_flight).wrapping_mul(now_ns))
    }

    /// A prompt of this model goes there, before it takes its slot.
    pub(crate) fn note_loaded(&mut self, model_slot: u32, ticket: &Ticket) {
        let most = self.config.max_loaded_models;
        if most > 0 {
            self.loaded.released(&mut self.models, model_slot as usize, ticket, most);
        }
    }

    pub(crate) fn take_slot(&mut self, model_slot: u32, now_ns: u64) {
        self.slot_ns = self.slot_ns.wrapping_sub(now_ns);
        self.models[model_slot as usize].in_flight += 1;
        self.in_flight += 1;
        self.peak_in_flight = self.peak_in_flight.max(self.in_flight);
        self.lanes.set_in_flight(self.in_flight);
    }

    pub(crate) fn give_back_slot(&mut self, model: ModelId, now_ns: u64) {
        self.slot_ns = self.slot_ns.wrapping_add(now_ns);
        let at = self.position(model);
        self.models[at].in_flight -= 1;
        self.in_flight -= 1;
        self.lanes.set_in_flight(self.in_flight);
    }

    /// The lane that a prompt holds from its release on.
    pub(crate) fn take_lane(&mut self, ticket: &Ticket) -> Lane {
        self.alone = if self.outstanding_tokens == 0 { ticket.id.slot() } else { NONE };
        let lane = self.lanes.lane_of(ticket.bucket());
        self.lanes.take(lane, ticket.charge());
        self.outstanding_tokens += u64::from(ticket.charge());
        self.outstanding_squares += u128::from(ticket.charge()).pow(2);
        lane
    }

    /// The first token has come, and with it the lane back.
    pub(crate) fn first_token(&mut self, ticket: &Ticket, course: &mut Course, now_ns: u64) {
        let attempt = &mut course.attempt;
        attempt.was_alone = self.alone == ticket.id.slot();
        attempt.first_token_ns = now_ns;
        if self.config.max_loaded_models > 0 {
            let prefill_ns = self.estimates.in_force().prefill.at(f64::from(ticket.tokens));
            let late_ns = (now_ns - course.released_ns) as f64 - prefill_ns;
            // A load is no prefill: it would spoil that estimate.
            attempt.was_alone &= !self.loaded.first_token(ticket.id, late_ns);
        }
        self.give_back_lane(ticket, attempt);
    }

    /// Gives back what the ticket holds of its lane, if it still holds it.
    pub(crate) fn give_back_lane(&mut self, ticket: &Ticket, attempt: &mut Attempt) {
        if let Some(lane) = attempt.lane.take() {
            self.lanes.give_back(lane, ticket.charge());
            self.outstanding_tokens -= u64::from(ticket.charge());
            self.outstanding_squares -= u128::from(ticket.charge()).pow(2);
            if self.alone == ticket.id.slot() {
                self.alone = NONE;
            }
        }
    }
}

/// Most of a model in flight as configured.
fn hard_cap(cap: u32, model: &ModelSlot) -> u32 {
    if model.cap == 0 { cap } else { cap.min(model.cap) }
}
