//! Between whom the service is shared: what a flow is, and what it is charged.

use crate::Error;
use std::str::FromStr;

/// Among whom the tickets of one class are shared out before the policy orders them.
///
/// A flow is charged [`charge`] virtual tokens for each release; the flow that has had least goes first, and within it
/// the policy decides. A flow that begins to wait is lifted to what the others have had, so that idling saves nothing
/// up (virtual token counters, Sheng et al., OSDI 2024).
///
/// That is what those stood at that were served meanwhile, the highest of them, and not the smallest counter of all that
/// wait, as published: one that waits for a full lane may be far behind, and whoever comes and goes beside it would be
/// lifted no further, and get all that again before the others. So a newcomer has no more than a turn, one prompt's
/// charge and what estimates in flight are wrong by before those that have been served all the time, nor they before it.
///
/// Who is first stays first for a turn, until it has had [`Config::turn_tokens`](crate::Config::turn_tokens) more or
/// four releases: what a flow needs is then in the processor's caches, and its place among the others is worked out
/// once a turn. A newcomer is next, at the latest after the present turn. Of two that always have work, what they have
/// had (by weight) differs by at most a turn, one prompt's charge and what their estimates in flight are wrong by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fairness {
    /// Nobody: the policy orders all tickets of a class.
    None,
    /// Tenants, by weight; the policy orders all tickets of a tenant.
    Tenant,
    /// Tenants, and within a tenant its batches, evenly: a tenant with 100 batches has one share.
    ///
    /// A batch with more than [`POOLED_MAX`] unfinished prompts is a flow of its own. All smaller ones of a tenant are
    /// one flow, with as many shares as it has batches, and the policy orders across them: if each call with one
    /// prompt were a flow, every policy would be a round-robin of calls.
    #[default]
    TenantBatch,
}

/// The most unfinished prompts of a batch that shares its tenant's common flow.
pub const POOLED_MAX: u32 = 16;

impl Fairness {
    /// The names, in the order of the variants.
    pub const NAMES: [&str; 3] = ["none", "tenant", "tenant_batch"];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

impl FromStr for Fairness {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "none" => Ok(Self::None),
            "tenant" => Ok(Self::Tenant),
            "tenant_batch" => Ok(Self::TenantBatch),
            _ => {
                let rule = format!("must be one of {:?}", Self::NAMES);
                Err(Error::invalid("fairness", &format!("{name:?}"), rule))
            }
        }
    }
}

/// What a prompt costs its flow: an output token takes an engine about twice as much as an uncached input token.
pub(crate) fn charge(input_tokens: u32, output_tokens: u32) -> u64 {
    (u64::from(input_tokens) + 2 * u64::from(output_tokens)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every name leads back to its variant, and an unknown one is refused by name.
    #[test]
    fn names() {
        for name in Fairness::NAMES {
            assert_eq!(name.parse::<Fairness>().unwrap().name(), name);
        }
        assert!("users".parse::<Fairness>().unwrap_err().to_string().contains("users"));
    }

    /// Output counts twice, and nothing is free.
    #[test]
    fn charges() {
        assert_eq!([charge(100, 10), charge(0, 0), charge(u32::MAX, u32::MAX)], [120, 1, 12_884_901_885]);
    }
}
