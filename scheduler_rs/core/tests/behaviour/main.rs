//! How the scheduler behaves, in virtual time: one module for each subject.

mod absences;
mod admission;
mod asked;
mod barriers;
mod batches;
mod breaker;
mod breaker_model;
mod closings;
mod closings_between_polls;
mod deadlines;
mod driver;
mod estimates;
mod fairness;
mod limit_properties;
mod limits;
mod line;
mod loaded;
mod loaded_binding;
mod ordering;
mod policies;
mod refusing;
mod retries;
mod routing;
#[path = "../seeded/mod.rs"]
mod seeded;
mod short_lane;
mod tenant_limits;
mod told;
mod turned_away;
mod waits;
