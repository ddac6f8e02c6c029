//! What is due when, and by when the scheduler must be asked again.

use super::breaker::Breaker;
use super::place::Obstacle;
use super::{Host, Item, Late, Law, MINUTE, NEVER, Reference, WINDOW_SLACK_NS, Where, Why};

fn after(from_ns: u64, timeout_ns: u64) -> u64 {
    if timeout_ns == 0 { NEVER } else { from_ns.saturating_add(timeout_ns) }
}

/// When a prompt's own time in the queue is over.
pub(crate) fn own_queue_ns(item: &Item) -> u64 {
    after(item.arrival_ns, item.request.queue_timeout_ns)
}

impl Reference {
    /// When a waiting prompt must end for this reason.
    pub(crate) fn expiry_ns(&self, item: &Item, why: Why) -> u64 {
        let Where::Waiting { since_ns, .. } = item.at else { return NEVER };
        match why {
            Why::Queue => self.queue_expiry_ns(item, since_ns),
            Why::Batch => self.batch_expiry_ns(item),
            // What is being tried is waited for.
            Why::NoBackend if self.is_tried_for(item) => NEVER,
            Why::NoBackend => item.down_since_ns.map_or(NEVER, |down_since_ns| {
                down_since_ns.max(since_ns) + self.no_backend_timeout_ns(item)
            }),
        }
    }

    fn is_tried_for(&self, item: &Item) -> bool {
        self.may_take(item).any(Host::is_tried)
    }

    /// The longest that is waited for any that is absent; one that is there and fails is no absent one.
    fn no_backend_timeout_ns(&self, item: &Item) -> u64 {
        let absent = self.may_take(item).filter(|host| !host.server.available);
        absent.map(|host| host.server.absence_timeout_ns).fold(self.rules.no_backend_timeout_ns, u64::max)
    }

    /// Those that it could go to if all of them were up.
    fn may_take(&self, item: &Item) -> impl Iterator<Item = &Host> {
        let serving = self.hosts.iter().filter(|host| host.server.serves(item.request.model));
        serving.filter(|host| !item.excludes(host.id))
    }

    /// When a prompt that waits since a time has waited too long, if no other of its batch ends before.
    pub(crate) fn queue_expiry_ns(&self, item: &Item, since_ns: u64) -> u64 {
        let group = self.group(item.batch);
        let timeout_ns = group.terms.queue_timeout_ns;
        own_queue_ns(item).min(after(group.restarted_ns.max(since_ns), timeout_ns))
    }

    pub(crate) fn batch_expiry_ns(&self, item: &Item) -> u64 {
        match self.group(item.batch).terms.deadline_ns {
            0 => NEVER,
            deadline_ns => deadline_ns,
        }
    }

    /// When a waiting prompt must end for any reason.
    pub(crate) fn first_expiry_ns(&self, item: &Item) -> u64 {
        let whys = [Why::Queue, Why::Batch, Why::NoBackend];
        whys.iter().map(|&why| self.expiry_ns(item, why)).fold(NEVER, u64::min)
    }

    /// Takes what the attempts in flight must be told of now, each deadline once.
    pub(crate) fn take_late(&mut self) -> Vec<(u64, Late)> {
        let now_ns = self.now_ns;
        let mut late = Vec::new();
        for item in &mut self.items {
            let Where::InFlight(flight) = &mut item.at else { continue };
            let dues = [
                (&mut flight.first_token_due_ns, Late::FirstToken),
                (&mut flight.idle_due_ns, Late::Idle),
                (&mut flight.attempt_due_ns, Late::Attempt),
            ];
            for (due_ns, reason) in dues {
                if *due_ns <= now_ns {
                    *due_ns = NEVER;
                    late.push((item.id, reason));
                }
            }
        }
        for group in &mut self.groups {
            if group.deadline_pending && group.terms.deadline_ns <= now_ns {
                group.deadline_pending = false;
                let is_told = group.told_deadline_ns == group.terms.deadline_ns;
                group.told_deadline_ns = group.terms.deadline_ns;
                let here = self.items.iter().filter(|item| item.batch == group.id);
                let in_flight = here.filter(|item| item.flight().is_some() && !is_told);
                late.extend(in_flight.map(|item| (item.id, Late::Batch)));
            }
        }
        late
    }

    /// By when the scheduler must be asked again, if nothing else happens. To be called after a poll.
    pub(crate) fn wake_by_ns(&self) -> u64 {
        let waiting = self.waiting().map(|item| {
            let Where::Waiting { not_before_ns, .. } = item.at else { return NEVER };
            let returns_ns = if not_before_ns > self.now_ns { not_before_ns } else { NEVER };
            self.first_expiry_ns(item).min(returns_ns)
        });
        let in_flight = self
            .in_flight()
            .map(|(_, flight)| flight.first_token_due_ns.min(flight.idle_due_ns).min(flight.attempt_due_ns));
        let batches = self.groups.iter().filter(|group| group.deadline_pending);
        let batches = batches.map(|group| group.terms.deadline_ns);
        let hosts = self.hosts.iter().map(|host| self.opens_by_ns(host));
        let probes = self.hosts.iter().filter_map(Host::probes_due_ns);
        waiting
            .chain(in_flight)
            .chain(batches)
            .chain(hosts)
            .chain(probes)
            .fold(self.tenants_open_by_ns(), u64::min)
    }

    /// By when a backend that only limits and pauses close is open again for what waits for it: for all of it, since a
    /// large prompt may keep smaller ones back. What a closed tenant has waits for the tenant first: see
    /// [`Reference::tenants_open_by_ns`].
    fn opens_by_ns(&self, host: &Host) -> u64 {
        let server = &host.server;
        let is_kept = self.report.kept.iter().any(|&(backend, _)| backend == host.id);
        let waits = self.waiting().filter(|item| {
            let obstacles = self.obstacles(item, host, WINDOW_SLACK_NS);
            let by_tenant = self.tenant_obstacles(item, 0);
            // What a tenant's window keeps back only if it is longer than a minute may have been met.
            let passes_with_time = |&obstacle: &Obstacle| {
                let is_probe_awaited = obstacle == Obstacle::Breaker && host.is_tried();
                obstacle.law() == Law::LimitsAndOrder
                    && !is_probe_awaited
                    && !by_tenant.contains(&(obstacle, true))
            };
            let is_stopped = self.report.is_stopped(self.group(item.batch).terms.tenant);
            let is_looked_at =
                self.is_ready(item) && !is_kept && !is_stopped && !self.may_be_shut(host, item);
            is_looked_at && obstacles.iter().all(passes_with_time)
        });
        let opens = waits.map(|item| {
            let tried_ns = host.breaker.as_ref().and_then(Breaker::opens_at_ns).unwrap_or(0);
            let left = host.lacks_until_ns(self.now_ns, item.request.model, item.limited_tokens());
            let [requests_ns, tokens_ns] = left.map(|until_ns| until_ns.unwrap_or(0));
            let model = item.request.model;
            let closed_ns = host.paused_until_ns(model).max(host.avoided_until_ns(model)).max(tried_ns);
            let mut opens_ns = [closed_ns.max(requests_ns).max(tokens_ns), 0, 0];
            if server.requests_per_min > 0 {
                let mut ends: Vec<u64> = host.requests.iter().map(|at_ns| at_ns + MINUTE).collect();
                ends.sort_unstable();
                let limit = server.requests_per_min as usize;
                let at = ends.len().checked_sub(limit);
                opens_ns[1] = at.map_or(0, |at| ends[at] + WINDOW_SLACK_NS);
            }
            if server.tokens_per_min > 0 {
                let mut ends: Vec<_> =
                    host.tokens.iter().map(|counted| (counted.at_ns + MINUTE, counted.tokens)).collect();
                ends.sort_unstable();
                let mut left: u64 = ends.iter().map(|&(_, tokens)| tokens).sum();
                for (end_ns, tokens) in ends {
                    if left == 0 || left + item.limited_tokens() <= server.tokens_per_min {
                        break;
                    }
                    left -= tokens;
                    opens_ns[2] = end_ns + WINDOW_SLACK_NS;
                }
            }
            opens_ns.into_iter().max().unwrap_or(0)
        });
        // Whatever is open by now waits for something else.
        let is_known = |&at_ns: &u64| at_ns > self.now_ns + WINDOW_SLACK_NS && at_ns < NEVER;
        opens.filter(is_known).max().unwrap_or(NEVER)
    }
}
