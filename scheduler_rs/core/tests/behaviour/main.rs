//! How the scheduler behaves, in virtual time: one module for each subject.

mod admission;
mod barriers;
mod batches;
mod deadlines;
mod driver;
mod fairness;
mod limits;
mod ordering;
mod policies;
mod retries;
mod routing;
mod short_lane;
