//! How the scheduler behaves, in virtual time: one module for each subject, and random traces against a naive model.

mod admission;
mod barriers;
mod batches;
mod deadlines;
mod driver;
mod estimates;
mod fairness;
mod invariants;
mod limits;
mod model;
mod ordering;
mod policies;
mod retries;
mod routing;
mod short_lane;
