//! How many of a model go at once to a backend that has turned one away: worked out again from all that has happened.

use super::{Host, Reference};

/// What happened to an attempt of the model.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Met {
    TurnedAway {
        released_ns: u64,
        at_ns: u64,
        in_flight: usize,
    },
    Success {
        released_ns: u64,
    },
    /// The most that may be in flight as configured is now another, or the ramp is switched off.
    Configured {
        is_on: bool,
    },
}

/// Everything since the backend began to serve the model, each with the hard cap of its time.
pub(crate) type Story = Vec<(Met, usize)>;

/// Most in flight after all this; none = only the hard caps count.
///
/// Halved by the first that is turned away of those released after the last halving; one more for as many successes,
/// of prompts released after it, as may be in flight; forgotten once it is no less than the hard cap.
fn soft_cap(story: &Story) -> Option<usize> {
    let mut soft = None;
    let mut halved_ns = None;
    let mut successes = 0;
    for &(met, hard) in story {
        let since_ns = halved_ns;
        let is_news = |released_ns: u64| since_ns.is_none_or(|since_ns| released_ns > since_ns);
        match met {
            Met::TurnedAway { released_ns, at_ns, in_flight } if is_news(released_ns) => {
                (soft, halved_ns, successes) = (Some((in_flight / 2).max(1)), Some(at_ns), 0);
            }
            Met::Success { released_ns } if is_news(released_ns) => successes += 1,
            Met::Configured { is_on: false } => (soft, halved_ns, successes) = (None, None, 0),
            _ => {}
        }
        let Some(cap) = soft.as_mut() else { continue };
        if matches!(met, Met::Success { released_ns } if is_news(released_ns)) && successes >= *cap {
            *cap += 1;
            successes = 0;
        }
        soft = soft.filter(|&cap| cap < hard);
    }
    soft
}

impl Host {
    fn hard_cap(&self, model: u32) -> usize {
        let known = self.pausable.iter().find(|known| known.model == model);
        let own = known.map_or(0, |known| known.cap);
        let cap = if own == 0 { self.server.cap } else { own.min(self.server.cap) };
        cap as usize
    }

    /// Most of a model in flight now.
    pub(crate) fn cap_of(&self, model: u32) -> usize {
        let known = self.pausable.iter().find(|known| known.model == model);
        let soft = known.and_then(|known| soft_cap(&known.story));
        soft.map_or(usize::MAX, |soft| soft).min(self.hard_cap(model))
    }

    fn note(&mut self, model: u32, met: Met) {
        let hard = self.hard_cap(model);
        let known = self.pausable.iter_mut().find(|known| known.model == model);
        known.expect("a model in flight stays known").story.push((met, hard));
    }

    /// To be called with a new description.
    pub(crate) fn note_configured(&mut self) {
        let is_on = self.server.ramp;
        for model in self.pausable.iter().map(|known| known.model).collect::<Vec<_>>() {
            self.note(model, Met::Configured { is_on });
        }
    }
}

impl Reference {
    /// A prompt in flight was turned away by a rate limit; it has yet to be retried or to end.
    pub(crate) fn turned_away(&mut self, id: u64) {
        let now_ns = self.now_ns;
        let Some(flight) = self.flight_mut(id) else { return };
        if std::mem::replace(&mut flight.turned_away, true) {
            return;
        }
        let (backend, released_ns) = (flight.backend, flight.released_ns);
        let model = self.item(id).expect("it is in flight").request.model;
        let in_flight = self.at_host(backend).filter(|(item, _)| item.request.model == model).count();
        let met = Met::TurnedAway { released_ns, at_ns: now_ns, in_flight };
        let Some(host) = self.hosts.iter_mut().find(|host| host.id == backend) else { return };
        if host.server.ramp {
            host.note(model, met);
        }
    }

    /// A prompt in flight has succeeded.
    pub(crate) fn note_success(&mut self, backend: u32, model: u32, released_ns: u64) {
        if let Some(host) = self.hosts.iter_mut().find(|host| host.id == backend) {
            host.note(model, Met::Success { released_ns });
        }
    }
}
