//! Which policy orders what: the scheduler's own, unless a class, a model or one model in one class has another.

use crate::{ModelId, Policy};
use std::collections::BTreeMap;

/// What a policy is set for; without class and model, everything that has no policy of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope {
    /// Only this class.
    pub class: Option<u32>,
    /// Only this model.
    pub model: Option<ModelId>,
}

#[derive(Debug, Default)]
pub(crate) struct Ordering {
    by_scope: BTreeMap<Scope, Policy>,
}

impl Ordering {
    /// None takes the scope's own policy away.
    pub(crate) fn set(&mut self, scope: Scope, policy: Option<Policy>) {
        match policy {
            Some(policy) => _ = self.by_scope.insert(scope, policy),
            None => _ = self.by_scope.remove(&scope),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_scope.len()
    }

    /// The narrowest that is set: the model in the class, the model, the class.
    pub(crate) fn find(&self, class: u8, model: ModelId) -> Option<Policy> {
        let class = Some(u32::from(class));
        let model = Some(model);
        let scopes = [Scope { class, model }, Scope { class: None, model }, Scope { class, model: None }];
        scopes.iter().find_map(|scope| self.by_scope.get(scope).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The narrowest scope counts, a model before a class.
    #[test]
    fn narrowest_first() {
        let mut ordering = Ordering::default();
        let scope = |class, model| Scope { class, model };
        assert_eq!(ordering.find(1, 7), None);
        ordering.set(scope(Some(1), None), Some(Policy::Fcfs));
        ordering.set(scope(None, Some(7)), Some(Policy::Sjf));
        assert_eq!([ordering.find(1, 8), ordering.find(1, 7)], [Some(Policy::Fcfs), Some(Policy::Sjf)]);
        ordering.set(scope(Some(1), Some(7)), Some(Policy::Ljf));
        assert_eq!([ordering.find(1, 7), ordering.find(0, 7)], [Some(Policy::Ljf), Some(Policy::Sjf)]);
        ordering.set(scope(Some(1), Some(7)), None);
        assert_eq!((ordering.find(1, 7), ordering.len()), (Some(Policy::Sjf), 2));
    }
}
