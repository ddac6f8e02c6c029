//! What a poll decided: each decision is checked at its moment, then the model follows it.

use super::place::Obstacle;
use super::{Counted, End, Flight, Item, Law, NEVER, Reference, Where};
use super::{Request, WINDOW_SLACK_NS};

/// A release.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sent {
    pub(crate) id: u64,
    pub(crate) backend: u32,
    pub(crate) tokens: u32,
    pub(crate) attempt: u32,
    pub(crate) queue_wait_ns: u64,
}

/// Why a waiting prompt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Queue,
    Batch,
    NoBackend,
}

/// Which deadline an attempt has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Late {
    FirstToken,
    Idle,
    Attempt,
    Batch,
}

/// All that a poll decided.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Decided {
    pub(crate) sent: Vec<Sent>,
    pub(crate) expired: Vec<(u64, Why)>,
    pub(crate) late: Vec<(u64, Late)>,
}

impl Reference {
    /// Follows a poll.
    pub(crate) fn poll(&mut self, decided: &Decided) {
        self.give_up_probes();
        let mut expected = self.take_late();
        let mut told = decided.late.clone();
        expected.sort_unstable();
        told.sort_unstable();
        if expected != told {
            let what = format!("overdue are {expected:?}, told are {told:?}");
            self.verdict.breach(Law::OwnConstraints, self.now_ns, what);
        }
        for &(id, why) in &decided.expired {
            self.expire(id, why);
        }
        self.try_again();
        self.reopen_tenants();
        for (at, sent) in decided.sent.iter().enumerate() {
            if self.verdict.is_lost {
                return;
            }
            self.send(sent, &decided.sent[at..]);
        }
        self.note_closed_tenants();
        self.report.is_over = true;
    }

    fn expire(&mut self, id: u64, why: Why) {
        let now_ns = self.now_ns;
        let Some(item) = self.item(id).filter(|item| item.is_waiting()) else {
            self.verdict.lost(Law::Conservation, now_ns, format!("ticket {id} expires but does not wait"));
            return;
        };
        let due_ns = self.expiry_ns(item, why);
        if due_ns > now_ns {
            let what = format!("ticket {id} expires ({why:?}) though it is due at {due_ns} ns");
            self.verdict.breach(Law::OwnConstraints, now_ns, what);
        }
        self.end(id, End::Expired);
    }

    /// `coming` are the releases of this poll from this one on.
    fn send(&mut self, sent: &Sent, coming: &[Sent]) {
        let now_ns = self.now_ns;
        let Some(item) = self.item(sent.id).filter(|item| item.is_waiting()).cloned() else {
            let what = format!("ticket {} is released but does not wait", sent.id);
            self.verdict.lost(Law::Conservation, now_ns, what);
            return;
        };
        self.check_itself(&item, sent);
        self.check_place(&item, sent.backend);
        let is_promoted = self.check_order(&item, sent.backend, coming);
        self.count(&item, sent.backend, is_promoted);
        self.take_place(&item, sent.backend);
    }

    fn check_itself(&mut self, item: &Item, sent: &Sent) {
        let now_ns = self.now_ns;
        let queue_wait_ns = now_ns - item.arrival_ns - item.busy_ns;
        let found = [
            (!self.is_due(item), Law::Retries, "before its time"),
            (sent.attempt != item.attempts + 1, Law::Retries, "with a wrong attempt number"),
            (sent.queue_wait_ns != queue_wait_ns, Law::Retries, "with a wrong queue wait"),
            (self.is_beyond_horizon(item), Law::OwnConstraints, "beyond its batch's horizon"),
            (self.is_barred(item), Law::OwnConstraints, "before a prompt that it must follow"),
            (sent.tokens != item.request.tokens, Law::Conservation, "with another size"),
        ];
        for (_, law, how) in found.into_iter().filter(|(is_found, ..)| *is_found) {
            self.verdict.breach(law, now_ns, format!("ticket {} is released {how}: {sent:?}", item.id));
        }
    }

    fn check_place(&mut self, item: &Item, backend: u32) {
        let now_ns = self.now_ns;
        let Some(host) = self.host(backend) else {
            let what = format!("ticket {} is released to no backend", item.id);
            self.verdict.lost(Law::OwnConstraints, now_ns, what);
            return;
        };
        for obstacle in self.obstacles(item, host, 0) {
            let what =
                format!("ticket {} is released to backend {backend} in spite of {obstacle:?}", item.id);
            self.verdict.breach(obstacle.law(), now_ns, what);
        }
    }

    /// Whether it may go before all others that could have gone; returns whether promotion alone explains it.
    fn check_order(&mut self, chosen: &Item, backend: u32, coming: &[Sent]) -> bool {
        let mut keepers: Vec<&Item> = coming.iter().filter_map(|sent| self.item(sent.id)).collect();
        keepers.extend(self.kept_till_now(chosen, backend));
        let too_large = self.too_large_for_now();
        let standing = self.standing(chosen);
        let is_overdue = self.is_overdue(chosen);
        let mut is_promoted = false;
        let mut breaches = Vec::new();
        let class = chosen.request.class;
        let has_share = self.rules.class_min_shares[class as usize] > 0.0;
        let mut is_early = false;
        let mut of_other_orders = Vec::new();
        for other in self.waiting().filter(|other| other.id != chosen.id) {
            if !self.is_ready(other) || self.certain_host(other, &keepers, &too_large).is_none() {
                continue;
            }
            if other.request.class < class {
                is_early = true;
                if !has_share {
                    let what = format!("ticket {} goes before {} of a higher class", chosen.id, other.id);
                    breaches.push((Law::ClassOrder, what));
                }
            }
            if other.request.class != class {
                continue;
            }
            if !self.is_same_flow(chosen, other) {
                let (rank, first) = (self.share_rank(chosen), self.share_rank(other));
                if !self.shares.is_lost && first < rank {
                    let what = format!(
                        "ticket {} of {:?}, {rank:?}, goes before {} of {:?}, {first:?}",
                        chosen.id, chosen.flow, other.id, other.flow
                    );
                    breaches.push((Law::FairnessGap, what));
                }
                continue;
            }
            let rival = self.standing(other);
            let is_same_group =
                other.request.model == chosen.request.model && other.turned_from() == chosen.turned_from();
            let is_same_bucket = is_same_group && rival.bucket == standing.bucket;
            if is_same_bucket && rival.place < standing.place {
                let what = format!("ticket {} goes before {}, which is before it", chosen.id, other.id);
                breaches.push((Law::LimitsAndOrder, what));
            } else if rival.order != standing.order {
                of_other_orders.push(other);
            } else if rival.is_above(&standing) {
                is_promoted = is_overdue;
                if !is_overdue {
                    let what =
                        format!("ticket {} ({standing:?}) goes before {} ({rival:?})", chosen.id, other.id);
                    breaches.push((Law::LimitsAndOrder, what));
                }
            }
        }
        if let Some(first) = self.earlier_first(chosen, &of_other_orders) {
            is_promoted = is_overdue;
            if !is_overdue {
                let (order, id) = (self.order_of(first), first.id);
                let what = format!("ticket {} goes before {id}, which {order:?} puts first", chosen.id);
                breaches.push((Law::LimitsAndOrder, what));
            }
        }
        let tokens = Request::charge(chosen.request.tokens, chosen.request.output_tokens);
        self.count_class(class as usize, tokens, is_early);
        for (law, what) in breaches {
            self.verdict.breach(law, self.now_ns, what);
        }
        is_promoted
    }

    /// A class with a least share goes early for no more than that share of all that went while it could have gone
    /// itself, and one prompt.
    fn count_class(&mut self, class: usize, tokens: u64, is_early: bool) {
        self.largest_charge = self.largest_charge.max(tokens);
        for lower in class + 1..3 {
            if self.may_have_work(lower as u32) {
                self.passed_class_tokens[lower] += tokens;
            }
        }
        if !is_early {
            return;
        }
        self.early_tokens[class] += tokens;
        let share = self.rules.class_min_shares[class];
        let owed = share / (1.0 - share) * self.passed_class_tokens[class] as f64;
        let bound = owed + self.largest_charge as f64;
        if share > 0.0 && self.early_tokens[class] as f64 > bound * (1.0 + 1e-9) {
            let what =
                format!("class {class} had {} before its turn, above {bound}", self.early_tokens[class]);
            self.verdict.breach(Law::ClassOrder, self.now_ns, what);
        }
    }

    /// Whether something of a class may be able to go now. What a horizon, a tenant's limit or tokens keep back may
    /// stand for its class until it is met.
    fn may_have_work(&self, class: u32) -> bool {
        let is_met_late = |obstacle: &Obstacle| obstacle.is_of_tenant() || obstacle.is_of_tokens();
        let mut of_class = self.waiting().filter(|item| item.request.class == class);
        of_class.any(|item| {
            self.is_due(item)
                && !self.is_barred(item)
                && self.hosts.iter().any(|host| self.obstacles(item, host, 0).iter().all(is_met_late))
        })
    }

    fn count(&mut self, item: &Item, backend: u32, is_promoted: bool) {
        if is_promoted {
            self.promoted_tokens += u64::from(item.edge);
        } else {
            self.ordinary_tokens += u64::from(item.edge);
        }
        if self.promoted_tokens * 9 > self.ordinary_tokens {
            let what = format!(
                "{} tokens promoted, {} by the policy: more than a tenth",
                self.promoted_tokens, self.ordinary_tokens
            );
            self.verdict.breach(Law::LimitsAndOrder, self.now_ns, what);
        }
        let Some(host) = self.host(backend).filter(|host| !host.is_long(item)) else { return };
        let server = host.server.clone();
        let is_ready: Vec<bool> = self.items.iter().map(|other| self.is_ready(other)).collect();
        for (other, _) in self.items.iter_mut().zip(is_ready).filter(|(_, is_ready)| *is_ready) {
            let could_come = server.serves(other.request.model) && !other.excludes(backend);
            if other.id != item.id && other.request.class <= item.request.class && could_come {
                other.passed_tokens += u64::from(item.edge);
            }
        }
    }

    fn take_place(&mut self, item: &Item, backend: u32) {
        let now_ns = self.now_ns;
        if item.attempts == 0 {
            self.add_credit(self.group(item.batch).terms.tenant);
        }
        self.charge_share(item);
        self.charge_tenant(item);
        self.note_attempt(item, backend);
        let Some(host) = self.hosts.iter_mut().find(|host| host.id == backend) else { return };
        let server = &host.server;
        let due = |timeout_ns: u64| if timeout_ns == 0 { NEVER } else { now_ns + timeout_ns };
        let Where::Waiting { since_ns: waited_since_ns, .. } = item.at else { return };
        let flight = Flight {
            backend,
            released_ns: now_ns,
            waited_since_ns,
            turned_away: false,
            not_run: false,
            moves: false,
            in_prefill: true,
            is_long: host.is_long(item),
            first_token_due_ns: due(server.first_token_timeout_ns),
            idle_due_ns: NEVER,
            attempt_due_ns: due(server.attempt_timeout_ns),
            judged: false,
        };
        if server.requests_per_min > 0 {
            host.requests.push(now_ns);
        }
        if server.tokens_per_min > 0 {
            host.tokens.push(Counted { at_ns: now_ns, tokens: item.limited_tokens(), item: item.id });
        }
        if let Some(words) = host.words_mut(item.request.model) {
            words.release(now_ns, item.id, item.limited_tokens());
        }
        let horizon_ns = super::MINUTE + 2 * WINDOW_SLACK_NS;
        host.requests.retain(|&at_ns| at_ns + horizon_ns > now_ns);
        host.tokens.retain(|counted| counted.at_ns + horizon_ns > now_ns);
        let item = self.item_mut(item.id).expect("it waits");
        item.at = Where::InFlight(flight);
        item.attempts += 1;
        item.passed_tokens = 0;
    }

    /// Whether the short lane has no room for a prompt.
    pub(crate) fn is_unfit(&self, item: &Item, backend: u32) -> bool {
        self.host(backend).is_some_and(|host| self.obstacles(item, host, 0).contains(&Obstacle::ShortLane))
    }
}
