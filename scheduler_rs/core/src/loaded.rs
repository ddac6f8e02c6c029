//! Which models a backend has in memory, and which may have a place there: turns instead of a reload for each prompt.

use crate::backend::ModelSlot;
use crate::estimates::Mean;
use crate::ticket::Ticket;
use crate::{ModelId, TicketId};
use std::cmp::Reverse;

/// Stands for a model of which nothing waits: below every class.
pub(crate) const UNWANTED: u8 = u8::MAX;
/// The turn of a model while others wait, in charged prompt tokens: some seconds of prefill, as long as it takes to load
/// a model, so that about half of the time is work.
const TURN_TOKENS: u64 = 16_384;
/// How long it takes to load a model, until enough loads were seen: some GB from a disk.
const LOAD_NS: f64 = 5e9;
/// The same for short prompts, which cost more by their answers than by their tokens.
const TURN_RELEASES: u32 = 32;

#[derive(Clone, Copy, Debug)]
struct Turn {
    model: ModelId,
    /// The prompt that waits for the load, until its first token.
    loader: Option<TicketId>,
    /// Releases and charged tokens since it was loaded.
    releases: u32,
    tokens: u64,
}

impl Turn {
    fn is_over(self) -> bool {
        self.tokens >= TURN_TOKENS || self.releases >= TURN_RELEASES
    }

    fn slot(self, models: &[ModelSlot]) -> Option<&ModelSlot> {
        models.binary_search_by_key(&self.model, |slot| slot.model).ok().map(|at| &models[at])
    }

    fn is_idle(self, models: &[ModelSlot]) -> bool {
        self.slot(models).is_none_or(|slot| slot.in_flight == 0)
    }

    /// The highest class of which something waits.
    fn wanted(self, models: &[ModelSlot]) -> u8 {
        self.slot(models).map_or(UNWANTED, |slot| slot.wanted)
    }

    /// Whether it makes room for a model: for a higher class, or when its turn is over, but then not for one that is in
    /// memory elsewhere, or two backends would swap their models turn by turn.
    fn gives_way_to(self, other: &ModelSlot, models: &[ModelSlot]) -> bool {
        let own = self.wanted(models);
        other.wanted < own || (other.wanted == own && self.is_over() && other.only_here)
    }
}

/// The models of one backend that are in memory, as far as releases tell.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// In the order in which they were loaded.
    turns: Vec<Turn>,
    loads: u64,
    load_ns: Mean,
}

impl Loaded {
    /// There is no limit any more, so nobody knows what is in memory.
    pub(crate) fn forget(&mut self) {
        self.turns.clear();
    }

    /// The models in memory, ascending.
    pub(crate) fn models(&self) -> Vec<ModelId> {
        let mut models: Vec<_> = self.turns.iter().map(|turn| turn.model).collect();
        models.sort_unstable();
        models
    }

    /// Loads since start, as far as releases tell.
    pub(crate) fn loads(&self) -> u64 {
        self.loads
    }

    pub(crate) fn holds(&self, model: ModelId) -> bool {
        self.turns.iter().any(|turn| turn.model == model)
    }

    /// What it costs to have a model there: nothing, a load, or two where another one goes that will come back.
    pub(crate) fn cost_ns(&self, model: ModelId, most: u32) -> f64 {
        if self.holds(model) {
            0.0
        } else if self.turns.len() < most as usize {
            self.load_ns()
        } else {
            2.0 * self.load_ns()
        }
    }

    /// How long the next load will take.
    pub(crate) fn load_ns(&self) -> f64 {
        self.load_ns.get().unwrap_or(LOAD_NS)
    }

    pub(crate) fn load_samples(&self) -> u64 {
        self.load_ns.samples()
    }

    /// The first token of a prompt has come, so much later than without a load. False when it did not wait for one.
    pub(crate) fn first_token(&mut self, ticket: TicketId, late_ns: f64) -> bool {
        let Some(turn) = self.turns.iter_mut().find(|turn| turn.loader == Some(ticket)) else { return false };
        turn.loader = None;
        self.load_ns.add(late_ns.max(0.0));
        true
    }

    /// Works out anew which models are shut out, from what waits and what is in flight. Returns whether others are than
    /// before.
    ///
    /// Places go to the models that wait by class, then to those that are in memory nowhere else, then to the one whose
    /// last turn is longest ago: no model waits for more than one turn of each other one.
    pub(crate) fn refresh(&mut self, models: &mut [ModelSlot], most: u32) -> bool {
        let before: Vec<bool> = models.iter().map(|slot| slot.shut).collect();
        self.settle_places(models, most as usize);
        models.iter().map(|slot| slot.shut).ne(before)
    }

    fn settle_places(&mut self, models: &mut [ModelSlot], most: usize) {
        self.note_running(models);
        self.drop_idle_above(most, models);
        for slot in models.iter_mut() {
            slot.shut = !self.turns.iter().take(most).any(|turn| turn.model == slot.model);
        }
        if self.turns.len() > most {
            return;
        }
        let mut waiting: Vec<_> = (0..models.len())
            .filter(|&at| models[at].shut && models[at].wanted != UNWANTED)
            .map(|at| (models[at].wanted, !models[at].only_here, models[at].loaded_at, at))
            .collect();
        waiting.sort_unstable();
        let mut room = most - self.turns.len();
        let mut holding = self.turns.clone();
        for (.., at) in waiting {
            let place = if room > 0 {
                room -= 1;
                true
            } else {
                let turns = holding.iter().enumerate();
                let going = turns.filter(|(_, turn)| turn.gives_way_to(&models[at], models));
                let going = going.min_by_key(|(age, turn)| {
                    let wanted = turn.wanted(models);
                    (!turn.is_idle(models), Reverse(wanted), *age)
                });
                let Some((age, _)) = going else { continue };
                let turn = holding.remove(age);
                if let Ok(at) = models.binary_search_by_key(&turn.model, |slot| slot.model) {
                    models[at].shut = true;
                }
                turn.is_idle(models)
            };
            models[at].shut = !place;
        }
    }

    /// A prompt of this model goes there: it is in memory from now on, and another one is not if there was no room.
    pub(crate) fn released(&mut self, models: &mut [ModelSlot], at: usize, ticket: &Ticket, most: u32) {
        let model = models[at].model;
        let known = self.turns.iter().position(|turn| turn.model == model);
        let place = known.unwrap_or_else(|| {
            if self.turns.len() >= most as usize {
                let turns = self.turns.iter().enumerate();
                let idle = turns.filter(|(_, turn)| turn.is_idle(models));
                let gone = idle.max_by_key(|(age, turn)| {
                    let is_shut = turn.slot(models).is_none_or(|slot| slot.shut);
                    (is_shut, Reverse(*age))
                });
                let (gone, _) = gone.expect("a model is let in where an idle one gives way");
                self.turns.remove(gone);
            }
            self.load(models, at, Some(ticket.id));
            self.turns.len() - 1
        });
        let turn = &mut self.turns[place];
        turn.releases = turn.releases.saturating_add(1);
        turn.tokens += u64::from(ticket.charge());
    }

    fn load(&mut self, models: &mut [ModelSlot], at: usize, loader: Option<TicketId>) {
        self.loads += 1;
        models[at].loaded_at = self.loads;
        self.turns.push(Turn { model: models[at].model, loader, releases: 0, tokens: 0 });
    }

    /// What runs is in memory, also when it was released before anyone counted.
    fn note_running(&mut self, models: &mut [ModelSlot]) {
        for at in 0..models.len() {
            let model = models[at].model;
            if models[at].in_flight > 0 && self.turns.iter().all(|turn| turn.model != model) {
                self.load(models, at, None);
            }
        }
    }

    /// There may be too many where the limit has become smaller.
    fn drop_idle_above(&mut self, most: usize, models: &[ModelSlot]) {
        while self.turns.len() > most {
            let Some(idle) = self.turns.iter().position(|turn| turn.is_idle(models)) else { return };
            self.turns.remove(idle);
        }
    }
}
