//! The policies by their formulas, over the edges of the token buckets.

use super::place::Obstacle;
use super::{Item, Reference, Times, edge_of};

/// An ordering policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Order {
    Edf,
    Fcfs,
    Hrrn,
    Lars,
    Ljf,
    Sjf,
    SjfAged { tokens_per_s: f64 },
}

impl Order {
    pub(crate) const ALL: [Self; 7] = [
        Self::Edf,
        Self::Fcfs,
        Self::Hrrn,
        Self::Lars,
        Self::Ljf,
        Self::Sjf,
        Self::SjfAged { tokens_per_s: 1_000.0 },
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Edf => "edf",
            Self::Fcfs => "fcfs",
            Self::Hrrn => "hrrn",
            Self::Lars => "lars",
            Self::Ljf => "ljf",
            Self::Sjf => "sjf",
            Self::SjfAged { .. } => "sjf-aged",
        }
    }

    fn reads_deadlines(self) -> bool {
        matches!(self, Self::Edf | Self::Lars)
    }

    /// The score of a prompt of a bucket `edge` at a backend with these times, `wait_ns` after its arrival or, when it
    /// has a deadline that the policy reads, after that (below zero before it).
    fn score(self, edge: f64, times: &Times, wait_ns: f64, is_dated: bool) -> f64 {
        let (prefill_ns, service_ns) = (times.prefill(edge), times.service(edge));
        match self {
            Self::Edf if is_dated => wait_ns,
            Self::Edf => wait_ns - 60e9,
            Self::Fcfs => wait_ns,
            Self::Hrrn => (wait_ns + service_ns) / service_ns,
            Self::Lars if is_dated => wait_ns / service_ns,
            Self::Lars => wait_ns / service_ns - 10.0,
            Self::Ljf => prefill_ns + 0.01 * wait_ns,
            Self::Sjf => -prefill_ns,
            Self::SjfAged { tokens_per_s } => wait_ns - edge / tokens_per_s * 1e9,
        }
    }
}

/// Where the policy puts a prompt among those of its flow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Standing {
    pub(crate) order: Order,
    pub(crate) score: f64,
    /// What only the arrival tells apart: (edge, edge of the cost, whether it has a deadline).
    pub(crate) bucket: (u32, u32, bool),
    /// Its place in its bucket.
    pub(crate) place: (u64, u64),
}

impl Standing {
    /// Whether the score is higher beyond what two ways of computing the same may differ.
    pub(crate) fn is_above(&self, other: &Self) -> bool {
        let scale = self.score.abs().max(other.score.abs()).max(1.0);
        self.score > other.score + 1e-9 * scale
    }
}

impl Reference {
    /// The narrowest that is set: the model in the class, the model, the class, then the scheduler's own.
    pub(crate) fn order_of(&self, item: &Item) -> Order {
        let (class, model) = (Some(item.request.class), Some(item.request.model));
        let scopes = [(class, model), (None, model), (class, None)];
        let set = scopes.iter().find_map(|&(class, model)| {
            self.orders.iter().find(|&&(of_class, of_model, _)| (of_class, of_model) == (class, model))
        });
        set.map_or(self.rules.order, |&(_, _, order)| order)
    }

    pub(crate) fn set_order(&mut self, class: Option<u32>, model: Option<u32>, order: Option<Order>) {
        if (class, model) == (None, None) {
            self.rules.order = order.unwrap_or(self.rules.order);
            return;
        }
        self.orders.retain(|&(of_class, of_model, _)| (of_class, of_model) != (class, model));
        self.orders.extend(order.map(|order| (class, model, order)));
    }

    pub(crate) fn standing(&self, item: &Item) -> Standing {
        let order = self.order_of(item);
        let cost = if self.rules.cost_includes_output {
            item.request.tokens.saturating_add(item.request.output_tokens)
        } else {
            item.request.tokens
        };
        let cost = edge_of(cost);
        let is_dated = item.request.ttft_deadline_ns > 0 && order.reads_deadlines();
        let due_ns = if is_dated { item.arrival_ns + item.request.ttft_deadline_ns } else { 0 };
        let from_ns = if is_dated { due_ns } else { item.arrival_ns };
        let wait_ns = self.now_ns as f64 - from_ns as f64;
        Standing {
            order,
            score: order.score(f64::from(cost), &self.fastest(item), wait_ns, is_dated),
            bucket: (item.edge, cost, is_dated),
            place: (due_ns, item.id),
        }
    }

    /// One of those whose policies are not that of `chosen`, which came before it and which its own policy puts before
    /// all that may be able to go and came later: then it should have gone first. `others` are in the same flow, and
    /// can go for certain.
    pub(crate) fn earlier_first<'a>(&self, chosen: &Item, others: &[&'a Item]) -> Option<&'a Item> {
        // What is above the tokens that are left keeps its place.
        let by_tokens = |obstacle: Obstacle| obstacle.is_of_tokens() || obstacle == Obstacle::TenantTokens;
        let may_go = |item: &&Item| {
            self.hosts.iter().any(|host| self.obstacles(item, host, 0).into_iter().all(by_tokens))
        };
        let is_later = |item: &&Item| item.id > chosen.id && self.is_same_flow(item, chosen);
        let later: Vec<&Item> =
            self.waiting().filter(is_later).filter(|item| self.is_ready(item)).filter(may_go).collect();
        let is_first = |other: &&&Item| {
            let standing = self.standing(other);
            let mut rivals = later.iter().filter(|rival| self.order_of(rival) == standing.order);
            other.id < chosen.id && rivals.all(|rival| self.is_before(other, rival))
        };
        others.iter().find(is_first).copied()
    }

    /// Whether their common policy puts one before the other for certain.
    pub(crate) fn is_before(&self, item: &Item, other: &Item) -> bool {
        let (standing, of_other) = (self.standing(item), self.standing(other));
        let line =
            |item: &Item, standing: &Standing| (item.request.model, standing.bucket.1, standing.bucket.2);
        if line(item, &standing) == line(other, &of_other) {
            return standing.place < of_other.place;
        }
        standing.is_above(&of_other)
    }

    /// Whether it has waited so long that its flow may promote it.
    pub(crate) fn is_overdue(&self, item: &Item) -> bool {
        let max_wait_ns = match (self.rules.max_wait_ns, self.order_of(item)) {
            (0, Order::Sjf) => 60_000_000_000,
            (max_wait_ns, _) => max_wait_ns,
        };
        max_wait_ns > 0 && self.now_ns - item.arrival_ns > max_wait_ns
    }
}
