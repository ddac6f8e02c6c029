//! Everything but a poll: what each call changes.

use super::told::Words;
use super::{
    BatchTerms, End, Flight, Group, Host, Item, Law, NEVER, Pausable, Reference, Request, Server, Times,
    Used, Where, Word, edge_of,
};

/// What a submit must answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Accepted,
    BatchTooLarge,
    QueueFull,
    AboveLimit,
}

impl Reference {
    pub(crate) fn admission(&self, batch: u64, requests: &[Request], terms: BatchTerms) -> Admission {
        let known = self.groups.iter().find(|group| group.id == batch);
        let tenant = known.map_or(terms.tenant, |group| group.terms.tenant);
        let tokens_max = self.tenant_tokens_max(tenant);
        let is_above = |request: &Request| tokens_max > 0 && request.limited_tokens() > tokens_max;
        let limit = self.rules.queue_limit as usize;
        if requests.iter().any(|request| is_above(request) || self.is_above_limits(request)) {
            Admission::AboveLimit
        } else if requests.len() > limit {
            Admission::BatchTooLarge
        } else if self.waiting().count() + requests.len() > limit {
            Admission::QueueFull
        } else {
            Admission::Accepted
        }
    }

    /// Whether every backend that serves its model has a whole limit below the prompt.
    fn is_above_limits(&self, request: &Request) -> bool {
        let serving = self.hosts.iter().filter(|host| host.server.serves(request.model)).count();
        serving > 0 && self.too_small_for(request).len() == serving
    }

    /// The backends that serve its model with a whole limit below the prompt.
    fn too_small_for(&self, request: &Request) -> Vec<u32> {
        let tokens = request.limited_tokens();
        let too_small = self.hosts.iter().filter(|host| {
            let limit = host.server.tokens_per_min;
            host.server.serves(request.model) && limit > 0 && tokens > limit
        });
        let mut ids: Vec<u32> = too_small.map(|host| host.id).collect();
        ids.sort_unstable();
        ids
    }

    /// The same for a prompt that was accepted: what limits that went down would take the last backend of stays with it.
    fn still_too_small(&self, item: &Item) -> Vec<u32> {
        let mut too_small = self.too_small_for(&item.request);
        let goes_on = |host: &Host| {
            host.server.serves(item.request.model)
                && !item.excluded.contains(&host.id)
                && !too_small.contains(&host.id)
        };
        if !self.hosts.iter().any(goes_on) {
            too_small.retain(|id| item.too_small.contains(id));
        }
        too_small
    }

    pub(crate) fn submit(&mut self, ids: &[u64], batch: u64, requests: &[Request], terms: BatchTerms) {
        let early = self.early_horizons.remove(&batch);
        if !self.groups.iter().any(|group| group.id == batch) {
            self.groups.push(Group {
                id: batch,
                terms,
                restarted_ns: 0,
                asked_ns: None,
                asked_until_ns: 0,
                horizon: early.unwrap_or(u32::MAX),
                deadline_pending: false,
                told_deadline_ns: NEVER,
                is_large: [false; 3],
            });
        }
        for class in 0..3 {
            let coming = requests.iter().filter(|request| request.class == class).count();
            if coming > 0 {
                // The weight given last counts from here on, also for what moves to a flow of its own.
                self.set_weight(class, self.flow_of(batch, class).tenant, terms.weight);
                self.note_size(batch, class, coming);
            }
        }
        self.shares.is_lost |= requests.iter().any(|request| request.sequential) || early.is_some();
        let group = self.group_mut(batch);
        let tenant = group.terms.tenant;
        group.terms = BatchTerms { tenant, ..terms };
        group.deadline_pending = terms.deadline_ns != 0;
        for (&id, &request) in ids.iter().zip(requests) {
            if self.item(id).is_some() {
                self.verdict.lost(Law::Conservation, self.now_ns, format!("ticket {id} is given out twice"));
            }
            let mut item = Item {
                id,
                batch,
                request,
                flow: self.flow_of(batch, request.class),
                edge: edge_of(request.tokens),
                arrival_ns: self.now_ns,
                excluded: Vec::new(),
                too_small: self.too_small_for(&request),
                avoided: None,
                at: Where::Waiting { not_before_ns: 0, since_ns: self.now_ns },
                cancelled: false,
                attempts: 0,
                busy_ns: 0,
                down_since_ns: None,
                passed_tokens: 0,
            };
            item.down_since_ns = (!self.is_reachable(&item)).then_some(self.now_ns);
            let flow = item.flow;
            self.items.push(item);
            self.join_waiting(flow);
            self.submitted += 1;
        }
    }

    pub(crate) fn is_reachable(&self, item: &Item) -> bool {
        self.hosts
            .iter()
            .any(|host| host.is_up() && host.server.serves(item.request.model) && !item.excludes(host.id))
    }

    /// The first token; whether it is the attempt's first.
    pub(crate) fn first_token(&mut self, id: u64) -> bool {
        let now_ns = self.now_ns;
        let backend = self.item(id).and_then(Item::flight).map(|flight| flight.backend);
        let idle_ns = backend.and_then(|at| self.host(at)).map_or(0, |host| host.server.idle_timeout_ns);
        let Some(Item { at: Where::InFlight(flight), .. }) = self.item_mut(id) else { return false };
        let is_first = std::mem::take(&mut flight.in_prefill);
        if is_first {
            flight.first_token_due_ns = NEVER;
            if idle_ns > 0 {
                flight.idle_due_ns = now_ns + idle_ns;
            }
            self.judge_first_token(id);
        }
        is_first
    }

    pub(crate) fn flight_mut(&mut self, id: u64) -> Option<&mut Flight> {
        match self.item_mut(id) {
            Some(Item { at: Where::InFlight(flight), .. }) => Some(flight),
            _ => None,
        }
    }

    /// A prompt in flight ends, with what it used if that is known.
    pub(crate) fn finish(&mut self, id: u64, end: End, usage: Option<Used>) {
        self.judge(id, if end == End::Success { Word::Good } else { Word::Nothing });
        let Some(item) = self.item(id).cloned() else { return };
        self.settle_share(&item, Some(end), usage);
        self.settle_tenant(&item, Some(end), usage);
        let used_tokens = usage.map(Used::tokens);
        if let (Some(used), Some(flight)) = (used_tokens, item.flight()) {
            let host = self.hosts.iter_mut().find(|host| host.id == flight.backend);
            // Only what is still in the window is settled; older entries count nowhere.
            let counted = host.and_then(|host| {
                host.tokens
                    .iter_mut()
                    .find(|counted| counted.item == id && counted.at_ns == flight.released_ns)
            });
            if let Some(counted) = counted {
                counted.tokens = used;
            }
            let host = self.hosts.iter_mut().find(|host| host.id == flight.backend);
            if let Some(words) = host.and_then(|host| host.words_mut(item.request.model)) {
                words.settle(id, used);
            }
        }
        if let Some(flight) = item.flight() {
            if end == End::Success {
                self.note_success(flight.backend, item.request.model, flight.released_ns);
            }
            // What gives up because it was turned away is no sign that its batch moves on.
            if !flight.turned_away {
                let now_ns = self.now_ns;
                let group = self.group_mut(item.batch);
                group.asked_ns = None;
                group.restarted_ns = group.restarted_ns.max(now_ns).max(group.asked_until_ns);
            }
        }
        self.end(id, end);
        if let Some(flight) = item.flight() {
            self.note_left(flight.backend, item.request.model);
        }
    }

    /// The one end of a prompt.
    pub(crate) fn end(&mut self, id: u64, end: End) {
        let Some(at) = self.items.iter().position(|item| item.id == id) else {
            self.verdict.lost(
                Law::Conservation,
                self.now_ns,
                format!("ticket {id} ends though it has ended"),
            );
            return;
        };
        let item = self.items.remove(at);
        if item.is_waiting() {
            self.leave_waiting(item.flow);
        }
        self.ended[end as usize] += 1;
        if !self.items.iter().any(|other| other.batch == item.batch) {
            self.groups.retain(|group| group.id != item.batch);
        }
        self.forget_shares(item.flow.class);
    }

    /// An attempt is over and there will be another.
    pub(crate) fn retry(&mut self, id: u64, not_before_ns: u64, exclude_backend: bool, asked: bool) {
        let now_ns = self.now_ns;
        self.judge(id, Word::Nothing);
        let Some(item) = self.item(id).cloned() else { return };
        let Some(flight) = item.flight().copied() else { return };
        self.settle_share(&item, None, None);
        self.settle_tenant(&item, None, None);
        self.shares.is_lost |= not_before_ns > now_ns;
        if self.rules.retry_ratio > 0.0 && !flight.is_free(exclude_backend) {
            self.take_credit(self.group(item.batch).terms.tenant);
        }
        let since_ns = match flight {
            _ if asked => not_before_ns.max(now_ns),
            Flight { turned_away: true, .. } => flight.waited_since_ns,
            _ => now_ns,
        };
        if asked {
            let group = self.group_mut(item.batch);
            group.asked_until_ns = group.asked_until_ns.max(since_ns);
            // Its siblings wait too, but not again for what was released only after the first was asked.
            if flight.released_ns <= *group.asked_ns.get_or_insert(now_ns) {
                group.restarted_ns = group.restarted_ns.max(since_ns);
            }
        }
        let mut again = Item {
            at: Where::Waiting { not_before_ns, since_ns },
            busy_ns: item.busy_ns + now_ns - flight.released_ns,
            passed_tokens: 0,
            flow: self.flow_of(item.batch, item.request.class),
            ..item
        };
        again.avoided = (flight.moves && !exclude_backend).then_some(flight.backend);
        if exclude_backend && !again.excluded.contains(&flight.backend) {
            again.excluded.push(flight.backend);
        }
        again.down_since_ns = (!self.is_reachable(&again)).then_some(now_ns);
        let flow = again.flow;
        let model = again.request.model;
        *self.item_mut(id).expect("it was there") = again;
        self.note_left(flight.backend, model);
        self.join_waiting(flow);
        self.retried += 1;
    }

    /// What waits ends at once, what is in flight is to be aborted: checks what the scheduler says it did.
    pub(crate) fn cancel(&mut self, asked: &[u64], removed: &[u64], in_flight: &[u64]) {
        let waits = |id: &&u64| self.item(**id).is_some_and(Item::is_waiting);
        let flies = |id: &&u64| self.item(**id).is_some_and(|item| item.flight().is_some());
        let mut expected: [Vec<u64>; 2] =
            [asked.iter().filter(waits).copied().collect(), asked.iter().filter(flies).copied().collect()];
        let mut told = [removed.to_vec(), in_flight.to_vec()];
        expected.iter_mut().chain(&mut told).for_each(|ids| ids.sort_unstable());
        if expected != told {
            let what = format!("a cancel of {asked:?} must end {expected:?}, it ended {told:?}");
            self.verdict.lost(Law::Conservation, self.now_ns, what);
        }
        for &id in &told[0] {
            self.end(id, End::Cancelled);
        }
        for &id in &told[1] {
            if let Some(item) = self.item_mut(id) {
                item.cancelled = true;
            }
        }
    }

    pub(crate) fn move_horizon(&mut self, batch: u64, horizon: u32) {
        let now_ns = self.now_ns;
        self.shares.is_lost = true;
        match self.groups.iter_mut().find(|group| group.id == batch) {
            Some(group) => {
                if group.horizon != horizon {
                    group.restarted_ns = group.restarted_ns.max(now_ns);
                }
                group.horizon = horizon;
            }
            None if horizon == u32::MAX => _ = self.early_horizons.remove(&batch),
            None => _ = self.early_horizons.insert(batch, horizon),
        }
    }

    /// A new description, with the times that the scheduler goes by from now on.
    pub(crate) fn update(&mut self, backend: u32, server: &Server, times: Times) {
        let in_flight = |model| self.at_host(backend).any(|(item, _)| item.request.model == model);
        let was_paused = self.host(backend).map_or(&[][..], |host| &host.pausable);
        let mut pausable: Vec<Pausable> = was_paused.to_vec();
        pausable.retain(|known| server.serves(known.model) || in_flight(known.model));
        for &(model, cap) in &server.models {
            match pausable.iter_mut().find(|known| known.model == model) {
                Some(known) => known.cap = cap,
                None => pausable.push(Pausable {
                    model,
                    paused_until_ns: 0,
                    avoided_until_ns: 0,
                    cap,
                    story: Vec::new(),
                    words: Words::default(),
                }),
            }
        }
        let mut host = self.host(backend).cloned().unwrap_or(Host {
            id: backend,
            server: server.clone(),
            in_force: Times::default(),
            scored: Times::default(),
            pausable: Vec::new(),
            requests: Vec::new(),
            tokens: Vec::new(),
            breaker: None,
            loaded: Vec::new(),
            load_ns: 0.0,
        });
        host.server = server.clone();
        host.set_times(times);
        host.pausable = pausable;
        host.note_configured();
        host.configure_breaker(self.now_ns);
        if server.requests_per_min == 0 {
            host.requests.clear();
        }
        if server.tokens_per_min == 0 {
            host.tokens.clear();
        }
        self.hosts.retain(|host| host.id != backend);
        self.hosts.push(host);
        let fits: Vec<Vec<u32>> = self.items.iter().map(|item| self.still_too_small(item)).collect();
        let mut moved = Vec::new();
        for (item, too_small) in
            self.items.iter_mut().zip(fits).filter(|(item, fits)| item.too_small != *fits)
        {
            // Where it may go has changed: its time without a backend begins anew.
            (item.too_small, item.down_since_ns) = (too_small, None);
            if matches!(item.at, Where::Waiting { .. }) {
                moved.push((item.id, item.flow));
            }
        }
        moved.sort_unstable_by_key(|&(id, _)| id);
        for (_, flow) in moved {
            // It stands with others that may go where it may: who waits for nothing else begins to wait anew.
            self.leave_waiting(flow);
            self.join_waiting(flow);
        }
        self.note_reachable();
    }

    /// Which backends may be given work has changed.
    pub(crate) fn note_reachable(&mut self) {
        let reachable: Vec<bool> = self.items.iter().map(|item| self.is_reachable(item)).collect();
        for (item, is_reachable) in self.items.iter_mut().zip(reachable) {
            item.down_since_ns = match item.down_since_ns {
                _ if is_reachable => None,
                None => Some(self.now_ns),
                since_ns => since_ns,
            };
        }
    }

    pub(crate) fn avoid(&mut self, backend: u32, model: u32, until_ns: u64) {
        let now_ns = self.now_ns;
        let Some(host) = self.hosts.iter_mut().find(|host| host.id == backend) else { return };
        if let Some(known) = host.pausable.iter_mut().find(|known| known.model == model) {
            let is_lifted = until_ns <= now_ns;
            known.avoided_until_ns = if is_lifted { 0 } else { known.avoided_until_ns.max(until_ns) };
        }
    }

    pub(crate) fn pause(&mut self, backend: u32, model: Option<u32>, until_ns: u64) {
        let now_ns = self.now_ns;
        let Some(host) = self.hosts.iter_mut().find(|host| host.id == backend) else { return };
        for known in host.pausable.iter_mut().filter(|known| model.is_none_or(|model| known.model == model)) {
            let is_lifted = until_ns <= now_ns;
            known.paused_until_ns = if is_lifted { 0 } else { known.paused_until_ns.max(until_ns) };
        }
    }
}
