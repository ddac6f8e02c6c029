//! Which models a backend has in memory, and which may have a place there: turns instead of a reload for each prompt.

use crate::ModelId;
use crate::backend::ModelSlot;
use std::cmp::Reverse;

/// Stands for a model of which nothing waits: below every class.
pub(crate) const UNWANTED: u8 = u8::MAX;
/// The turn of a model while others wait, in charged prompt tokens: some seconds of prefill, as long as it takes to load
/// a model, so that about half of the time is work.
const TURN_TOKENS: u64 = 16_384;
/// The same for short prompts, which cost more by their answers than by their tokens.
const TURN_RELEASES: u32 = 32;

#[derive(Clone, Copy, Debug)]
struct Turn {
    model: ModelId,
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

    /// Whether it makes room for a model that this class wants.
    fn gives_way_to(self, class: u8, models: &[ModelSlot]) -> bool {
        let own = self.wanted(models);
        class < own || (class == own && self.is_over())
    }
}

/// The models of one backend that are in memory, as far as releases tell.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// In the order in which they were loaded.
    turns: Vec<Turn>,
    loads: u64,
}

impl Loaded {
    /// Works out anew which models are shut out, from what waits and what is in flight.
    ///
    /// Places go to the models that wait by class, then to the one whose last turn is longest ago: no model waits for
    /// more than one turn of each other one.
    pub(crate) fn refresh(&mut self, models: &mut [ModelSlot], most: u32) {
        let most = most as usize;
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
            .map(|at| (models[at].wanted, models[at].loaded_at, at))
            .collect();
        waiting.sort_unstable();
        let mut room = most - self.turns.len();
        let mut holding = self.turns.clone();
        for (class, _, at) in waiting {
            let place = if room > 0 {
                room -= 1;
                true
            } else {
                let going = holding.iter().enumerate().filter(|(_, turn)| turn.gives_way_to(class, models));
                let going = going.min_by_key(|(age, turn)| {
                    let wanted = turn.wanted(models);
                    (!turn.is_idle(models), Reverse(wanted), *age)
                });
                // No other model of this class or of a lower one gets in either.
                let Some((age, _)) = going else { return };
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
    pub(crate) fn released(&mut self, models: &mut [ModelSlot], at: usize, tokens: u32, most: u32) {
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
            self.load(models, at);
            self.turns.len() - 1
        });
        let turn = &mut self.turns[place];
        turn.releases = turn.releases.saturating_add(1);
        turn.tokens += u64::from(tokens);
    }

    fn load(&mut self, models: &mut [ModelSlot], at: usize) {
        self.loads += 1;
        models[at].loaded_at = self.loads;
        self.turns.push(Turn { model: models[at].model, releases: 0, tokens: 0 });
    }

    /// What runs is in memory, also when it was released before anyone counted.
    fn note_running(&mut self, models: &mut [ModelSlot]) {
        for at in 0..models.len() {
            let model = models[at].model;
            if models[at].in_flight > 0 && self.turns.iter().all(|turn| turn.model != model) {
                self.load(models, at);
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
