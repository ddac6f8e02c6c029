//! What waits of one model and could be released, by class and tenant, and how long it will have to.

use crate::estimates::ServiceTime;
use crate::margin::Margin;
use crate::release_rate::ReleaseRate;
use crate::work::Work;
use crate::{CLASSES, TenantId};
use std::collections::BTreeMap;

/// Whose prompt something is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) class: u8,
    pub(crate) tenant: TenantId,
    pub(crate) weight: u32,
    /// Whether the tenant's own limits keep it back: then it keeps back nobody else.
    pub(crate) is_closed: bool,
}

/// Prompts of one class that come together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Coming {
    pub(crate) work: Work,
    /// As fairness charges them.
    pub(crate) charge: u64,
}

/// How long prompts that come together will wait, in nanoseconds.
#[expect(clippy::struct_field_names, reason = "units come last in names")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Foreseen {
    /// The one that is released first.
    pub(crate) first_ns: f64,
    /// The one that is released last.
    pub(crate) last_ns: f64,
    /// The last if nothing else waited and the backends were as fast as they have been lately.
    pub(crate) alone_ns: f64,
    /// What is added to these to be rarely exceeded.
    pub(crate) margin_ns: f64,
}

#[derive(Debug, Default)]
struct Share {
    work: Work,
    charge: u64,
    weight: u32,
    is_closed: bool,
}

#[derive(Debug, Default)]
struct ClassBacklog {
    /// Of all tenants that are not closed.
    ready: Work,
    /// Since when there is any.
    since_ns: u64,
    tenants: BTreeMap<TenantId, Share>,
    /// Of its own releases: what higher classes take is off it.
    rate: ReleaseRate,
    margin: Margin,
}

impl ClassBacklog {
    fn add(&mut self, now_ns: u64, work: Work) {
        if self.ready.prompts == 0 {
            self.since_ns = now_ns;
        }
        self.ready += work;
    }

    /// The time that is released before a tenant's next prompt, when it has had its share of `charge` tokens: all its
    /// own, and of each other tenant as much for its weight.
    fn ahead_ns(&self, owner: Owner, charge: u64, service: &ServiceTime) -> f64 {
        let level = charge as f64 / f64::from(owner.weight);
        let of = |(&tenant, share): (&TenantId, &Share)| {
            let part = if tenant == owner.tenant {
                1.0
            } else {
                (level * f64::from(share.weight) / share.charge as f64).min(1.0)
            };
            part * share.work.time_ns(service)
        };
        self.tenants.iter().filter(|(_, share)| !share.is_closed).map(of).sum()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Backlog {
    classes: [ClassBacklog; CLASSES],
    at_ns: u64,
}

impl Backlog {
    /// A prompt can be released from now on.
    pub(crate) fn enter(&mut self, now_ns: u64, owner: Owner, work: Work, charge: u64) {
        self.advance(now_ns);
        let class = &mut self.classes[usize::from(owner.class)];
        let new = || Share { is_closed: owner.is_closed, ..Share::default() };
        let share = class.tenants.entry(owner.tenant).or_insert_with(new);
        share.work += work;
        share.charge += charge;
        share.weight = owner.weight;
        if !share.is_closed {
            class.add(now_ns, work);
        }
    }

    /// A prompt that could be released is not there any more; `is_release`: because it was.
    pub(crate) fn leave(&mut self, now_ns: u64, owner: Owner, work: Work, charge: u64, is_release: bool) {
        self.advance(now_ns);
        let class = &mut self.classes[usize::from(owner.class)];
        let share = class.tenants.get_mut(&owner.tenant).expect("what leaves has entered");
        share.work -= work;
        share.charge -= charge;
        let (is_closed, is_empty) = (share.is_closed, share.work.prompts == 0);
        if is_empty {
            class.tenants.remove(&owner.tenant);
        }
        if is_closed {
            return;
        }
        class.ready -= work;
        // What goes at once as it comes says what was free, not how fast a backlog goes.
        if is_release && class.since_ns < now_ns {
            class.rate.released(work);
        }
    }

    /// A tenant's own limits keep it back, or do not any more.
    pub(crate) fn set_closed(&mut self, now_ns: u64, tenant: TenantId, is_closed: bool) {
        self.advance(now_ns);
        for class in &mut self.classes {
            let Some(share) = class.tenants.get_mut(&tenant) else { continue };
            if std::mem::replace(&mut share.is_closed, is_closed) != is_closed {
                let work = share.work;
                if is_closed {
                    class.ready -= work;
                } else {
                    class.add(now_ns, work);
                }
            }
        }
    }

    /// Whether any prompt is known here.
    pub(crate) fn is_empty(&self) -> bool {
        self.classes.iter().all(|class| class.tenants.is_empty())
    }

    /// A prompt of a class has waited that was foreseen to.
    pub(crate) fn waited(&mut self, class: u8, foreseen_ns: f64, waited_ns: f64, limit_ns: u64) {
        self.classes[usize::from(class)].margin.add(self.at_ns, foreseen_ns, waited_ns, limit_ns);
    }

    /// How long what comes of a class would wait, behind all that is ahead of it; none while nothing is known of the rate.
    ///
    /// Ahead is all of higher classes, what comes with it too, unless the class `has_share` of its own, and in the class
    /// what fairness puts first. Each class goes at its own rate.
    pub(crate) fn foresee(
        &mut self,
        now_ns: u64,
        owner: Owner,
        coming: &[Coming; CLASSES],
        service: &ServiceTime,
        has_share: bool,
        limit_ns: u64,
    ) -> Option<Foreseen> {
        self.advance(now_ns);
        let class = usize::from(owner.class);
        let mut above_ns = 0.0;
        let mut above_alone_ns = 0.0;
        for (higher, with_it) in coming.iter().enumerate().take(if has_share { 0 } else { class }) {
            let alone_ns = with_it.work.time_ns(service);
            let ready_ns = self.classes[higher].ready.time_ns(service);
            above_ns += self.wait_ns(higher, ready_ns + alone_ns, service)?;
            above_alone_ns += self.wait_at_best_ns(higher, alone_ns, service)?;
        }
        let new = &coming[class];
        let own = &self.classes[class];
        let had = own.tenants.get(&owner.tenant).map_or(0, |share| share.charge);
        let prompts = new.work.prompts.max(1);
        // The last prompt does not wait for itself.
        let siblings_ns = new.work.time_ns(service) * (1.0 - 1.0 / prompts as f64);
        let first_ns = own.ahead_ns(owner, had + new.charge / prompts, service);
        let last_ns = own.ahead_ns(owner, had + new.charge, service) + siblings_ns;
        Some(Foreseen {
            first_ns: above_ns + self.wait_ns(class, first_ns, service)?,
            last_ns: above_ns + self.wait_ns(class, last_ns, service)?,
            alone_ns: above_alone_ns + self.wait_at_best_ns(class, siblings_ns, service)?,
            margin_ns: own.margin.get_ns(limit_ns),
        })
    }

    /// How long so much work of a class waits, after higher classes; endless while it stands still.
    fn wait_ns(&self, class: usize, work_ns: f64, service: &ServiceTime) -> Option<f64> {
        self.divided(class, work_ns, |rate| rate.get(self.at_ns, service))
    }

    /// The same at the highest rate of late: what is too much even then will not do later either.
    fn wait_at_best_ns(&self, class: usize, work_ns: f64, service: &ServiceTime) -> Option<f64> {
        self.divided(class, work_ns, |rate| rate.best(self.at_ns, service))
    }

    fn divided(&self, class: usize, work_ns: f64, get: impl Fn(&ReleaseRate) -> Option<f64>) -> Option<f64> {
        if work_ns <= 0.0 {
            return Some(0.0);
        }
        let known = |class: &ClassBacklog| get(&class.rate);
        // A class that has not waited lately is taken to go like the slowest that has.
        let others = || self.classes.iter().filter_map(known).min_by(f64::total_cmp);
        let rate = known(&self.classes[class]).or_else(others)?;
        Some(work_ns / rate)
    }

    fn advance(&mut self, now_ns: u64) {
        for class in self.classes.iter_mut().filter(|class| class.ready.prompts > 0) {
            class.rate.pass(now_ns, now_ns - self.at_ns);
        }
        self.at_ns = now_ns;
    }
}
