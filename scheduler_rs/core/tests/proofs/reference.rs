//! A naive model of the documented rules: plain lists, read from end to end for every question.
//!
//! It imports nothing from the core: buckets, predicted times, scores, windows and flows are worked out again from the
//! documentation. It does not say what a poll must choose among equals; it says of each choice whether it is allowed.

mod bounds;
mod breaker;
mod calls;
mod check;
mod closing;
mod deadlines;
mod flow;
mod lanes;
mod law;
mod memory;
mod order;
mod place;
mod poll;
mod ramp;
mod retries;
mod shares;
mod sizes;
mod tenants;
mod terms;
mod times;
mod told;

pub(crate) use bounds::{Service, fairness_gap_bound};
pub(crate) use breaker::{BreakerTerms, SeenBreaker, State, Word};
pub(crate) use calls::Admission;
pub(crate) use check::{Closed, Seen, SeenBackend};
pub(crate) use law::{Law, Verdict};
pub(crate) use order::Order;
pub(crate) use poll::{Decided, Late, Sent, Why};
pub(crate) use shares::{Flow, Shares};
pub(crate) use sizes::edge_of;
pub(crate) use tenants::Allowance;
pub(crate) use terms::{BatchTerms, End, Request, Rules, Server, Sharing, Used};
pub(crate) use times::Times;
pub(crate) use told::Said;

use std::collections::BTreeMap;

/// A time that never comes.
pub(crate) const NEVER: u64 = u64::MAX;
pub(crate) const SECOND: u64 = 1_000_000_000;
pub(crate) const MINUTE: u64 = 60 * SECOND;
/// By how much a window may be longer than a minute: it is allowed to err on the safe side.
pub(crate) const WINDOW_SLACK_NS: u64 = SECOND / 10;

/// Where a prompt is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Where {
    Waiting { not_before_ns: u64, since_ns: u64 },
    InFlight(Flight),
}

/// One attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Flight {
    pub(crate) backend: u32,
    pub(crate) released_ns: u64,
    /// Since when it had waited: what counts again if it is turned away.
    pub(crate) waited_since_ns: u64,
    pub(crate) turned_away: bool,
    pub(crate) not_run: bool,
    pub(crate) moves: bool,
    pub(crate) in_prefill: bool,
    pub(crate) is_long: bool,
    pub(crate) first_token_due_ns: u64,
    pub(crate) idle_due_ns: u64,
    pub(crate) attempt_due_ns: u64,
    /// Whether its backend's breaker has heard of it.
    pub(crate) judged: bool,
}

/// A prompt that has not ended.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) id: u64,
    pub(crate) batch: u64,
    pub(crate) request: Request,
    /// Who is charged for it: until its attempt has ended, as it was at the release.
    pub(crate) flow: Flow,
    /// Upper edge of its token bucket: what lanes charge.
    pub(crate) edge: u32,
    pub(crate) arrival_ns: u64,
    /// Backends that it never goes to again.
    pub(crate) excluded: Vec<u32>,
    /// Backends that it does not go to while their whole limit of tokens is below it.
    pub(crate) too_small: Vec<u32>,
    /// The backend that failed it last, if it is to move on.
    pub(crate) avoided: Option<u32>,
    pub(crate) at: Where,
    pub(crate) cancelled: bool,
    pub(crate) attempts: u32,
    /// Sum of its ended attempts.
    pub(crate) busy_ns: u64,
    /// Since when no backend that it may go to is available.
    pub(crate) down_since_ns: Option<u64>,
    /// Short-lane tokens that were released while it waited: no fewer than what has passed it.
    pub(crate) passed_tokens: u64,
}

impl Item {
    /// The backends that it must not go to, and the one that it rather would not.
    pub(crate) fn turned_from(&self) -> (&[u32], &[u32], Option<u32>) {
        (&self.excluded, &self.too_small, self.avoided)
    }

    pub(crate) fn excludes(&self, backend: u32) -> bool {
        self.excluded.contains(&backend) || self.too_small.contains(&backend)
    }

    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.at, Where::Waiting { .. })
    }

    pub(crate) fn flight(&self) -> Option<&Flight> {
        match &self.at {
            Where::InFlight(flight) => Some(flight),
            Where::Waiting { .. } => None,
        }
    }

    /// What it counts for in a limit of tokens per minute.
    pub(crate) fn limited_tokens(&self) -> u64 {
        self.request.limited_tokens()
    }
}

/// A batch with prompts that have not ended.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) id: u64,
    pub(crate) terms: BatchTerms,
    /// Its queue time counts from here on: its last sign of life, or what it is to wait for if that is later.
    pub(crate) restarted_ns: u64,
    /// When the first of those asked to wait was, since one ended, and until when any was.
    pub(crate) asked_ns: Option<u64>,
    pub(crate) asked_until_ns: u64,
    /// Prompts numbered from here on must not start.
    pub(crate) horizon: u32,
    pub(crate) deadline_pending: bool,
    pub(crate) told_deadline_ns: u64,
    /// By class: whether it is a flow of its own.
    pub(crate) is_large: [bool; 3],
}

/// A model at a backend, as long as it is served or something of it is in flight.
#[derive(Clone, Debug)]
pub(crate) struct Pausable {
    pub(crate) model: u32,
    pub(crate) paused_until_ns: u64,
    /// Before this its prompts go elsewhere while another backend is up for them.
    pub(crate) avoided_until_ns: u64,
    /// Its own cap when it was last served; 0 = none.
    pub(crate) cap: u32,
    pub(crate) story: ramp::Story,
    pub(crate) words: told::Words,
}

/// A release that a limit of tokens counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    pub(crate) at_ns: u64,
    pub(crate) tokens: u64,
    pub(crate) item: u64,
}

/// A backend.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) id: u32,
    pub(crate) server: Server,
    /// What predictions go by, and what scores do: that follows when it has moved by a tenth.
    pub(crate) in_force: Times,
    pub(crate) scored: Times,
    pub(crate) pausable: Vec<Pausable>,
    pub(crate) requests: Vec<u64>,
    pub(crate) tokens: Vec<Counted>,
    pub(crate) breaker: Option<breaker::Breaker>,
    /// The models in memory, and how long it takes to load one, as the scheduler says.
    pub(crate) loaded: Vec<u32>,
    pub(crate) load_ns: f64,
}

/// What the scheduler says of a backend that the model does not predict.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// Backends whose short lane is kept, and for whom.
    pub(crate) kept: Vec<(u32, u64)>,
    /// Backends that a limit of tokens closed in the last poll.
    pub(crate) closed: Vec<u32>,
    /// Tenants at a limit by the end of the last poll, and until when.
    pub(crate) stopped_tenants: Vec<(u32, Closed, u64)>,
    /// Releases in the last poll.
    pub(crate) releases: usize,
    /// How often the breaker of each backend had opened by the end of it.
    pub(crate) opened: Vec<(u32, u64)>,
    /// Whether all of the last poll has been followed.
    pub(crate) is_over: bool,
}

impl Report {
    /// Whether one of its limits keeps a tenant out.
    pub(crate) fn is_stopped(&self, tenant: u32) -> bool {
        self.stopped_tenants.iter().any(|&(stopped, ..)| stopped == tenant)
    }

    /// Whether its limit of tokens does.
    pub(crate) fn is_out_of_tokens(&self, tenant: u32) -> bool {
        self.stopped_tenants.iter().any(|&(stopped, by, _)| (stopped, by) == (tenant, Closed::Tokens))
    }
}

/// The model.
#[derive(Debug)]
pub(crate) struct Reference {
    pub(crate) rules: Rules,
    pub(crate) now_ns: u64,
    pub(crate) items: Vec<Item>,
    pub(crate) groups: Vec<Group>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) early_horizons: BTreeMap<u64, u32>,
    pub(crate) credits: BTreeMap<u32, f64>,
    /// (class, model, order), narrowest first when looked up.
    pub(crate) orders: Vec<(Option<u32>, Option<u32>, Order)>,
    pub(crate) report: Report,
    pub(crate) submitted: u64,
    pub(crate) refused: u64,
    pub(crate) retried: u64,
    /// By [`End`].
    pub(crate) ended: [u64; 4],
    /// Released edges by the policy's choice and by promotion.
    pub(crate) ordinary_tokens: u64,
    pub(crate) promoted_tokens: u64,
    /// By class: tokens that went before a higher class, and tokens of higher classes that went while it may have had
    /// something that could go.
    pub(crate) early_tokens: [u64; 3],
    pub(crate) passed_class_tokens: [u64; 3],
    pub(crate) largest_charge: u64,
    pub(crate) shares: Shares,
    /// Of the tenants that have limits.
    pub(crate) allowances: BTreeMap<u32, Allowance>,
    pub(crate) verdict: Verdict,
}

impl Reference {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            now_ns: 0,
            items: Vec::new(),
            groups: Vec::new(),
            hosts: Vec::new(),
            early_horizons: BTreeMap::new(),
            credits: BTreeMap::new(),
            orders: Vec::new(),
            report: Report::default(),
            submitted: 0,
            refused: 0,
            retried: 0,
            ended: [0; 4],
            ordinary_tokens: 0,
            promoted_tokens: 0,
            early_tokens: [0; 3],
            passed_class_tokens: [0; 3],
            largest_charge: 0,
            shares: Shares::default(),
            allowances: BTreeMap::new(),
            verdict: Verdict::default(),
        }
    }

    pub(crate) fn item(&self, id: u64) -> Option<&Item> {
        self.items.iter().find(|item| item.id == id)
    }

    pub(crate) fn item_mut(&mut self, id: u64) -> Option<&mut Item> {
        self.items.iter_mut().find(|item| item.id == id)
    }

    /// The batch of a prompt that has not ended.
    pub(crate) fn group(&self, batch: u64) -> &Group {
        self.groups.iter().find(|group| group.id == batch).expect("a prompt has its batch")
    }

    pub(crate) fn group_mut(&mut self, batch: u64) -> &mut Group {
        self.groups.iter_mut().find(|group| group.id == batch).expect("a prompt has its batch")
    }

    pub(crate) fn host(&self, backend: u32) -> Option<&Host> {
        self.hosts.iter().find(|host| host.id == backend)
    }

    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| item.is_waiting())
    }

    pub(crate) fn in_flight(&self) -> impl Iterator<Item = (&Item, &Flight)> {
        self.items.iter().filter_map(|item| Some((item, item.flight()?)))
    }

    pub(crate) fn at_host(&self, backend: u32) -> impl Iterator<Item = (&Item, &Flight)> {
        self.in_flight().filter(move |(_, flight)| flight.backend == backend)
    }
}
