//! Requests and tokens per minute of one backend or of one tenant.

use crate::LimitKind;
use crate::window::Window;

#[derive(Debug, Default)]
pub(crate) struct Limits {
    pub(crate) requests: Window,
    pub(crate) tokens: Window,
    /// Why and until when nothing is released, as far as was seen when it was last looked at.
    pub(crate) closed: Option<(LimitKind, u64)>,
    pub(crate) reported: Reported,
}

/// What the caller was last told of: each limit once until its reset.
#[derive(Debug, Default)]
pub(crate) struct Reported(Option<(LimitKind, u64)>);

impl Reported {
    /// Whether the caller knows of this limit.
    pub(crate) fn is_told(&self, now_ns: u64, kind: LimitKind) -> bool {
        self.0.is_some_and(|(of, reset_at_ns)| of == kind && reset_at_ns > now_ns)
    }

    /// Notes what the caller is told of; none when it already knows.
    pub(crate) fn news(&mut self, now_ns: u64, closed: (LimitKind, u64)) -> Option<(LimitKind, u64)> {
        if self.is_told(now_ns, closed.0) {
            return None;
        }
        self.0 = Some(closed);
        self.0
    }
}

impl Limits {
    /// 0 = no limit.
    pub(crate) fn configure(&mut self, requests_per_min: u32, tokens_per_min: u64) {
        self.requests.set_limit(u64::from(requests_per_min));
        self.tokens.set_limit(tokens_per_min);
        self.closed = None;
    }

    pub(crate) fn is_on(&self) -> bool {
        self.requests.limit() > 0 || self.tokens.limit() > 0
    }

    /// Forgets what was seen before; closed only if not even one request fits.
    pub(crate) fn refresh(&mut self, now_ns: u64) {
        self.requests.advance(now_ns);
        self.tokens.advance(now_ns);
        let fits_at_ns = self.requests.fits_at_ns(1);
        self.closed = (fits_at_ns > now_ns).then_some((LimitKind::Requests, fits_at_ns));
    }

    pub(crate) fn admits(&self, now_ns: u64, tokens: u64) -> bool {
        self.tokens.fits_at_ns(tokens) <= now_ns
    }

    /// Closed until a prompt of so many tokens fits: nothing smaller that comes after it in the order may use up what
    /// becomes free.
    pub(crate) fn close_for(&mut self, tokens: u64) {
        self.closed = Some((LimitKind::Tokens, self.tokens.fits_at_ns(tokens)));
    }

    pub(crate) fn charge(&mut self, now_ns: u64, tokens: u64) {
        self.requests.charge(now_ns, 1);
        self.tokens.charge(now_ns, tokens);
        let fits_at_ns = self.requests.fits_at_ns(1);
        if fits_at_ns > now_ns {
            self.closed = Some((LimitKind::Requests, fits_at_ns));
        }
    }
}
