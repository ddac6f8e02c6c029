//! What is closed for a prompt that asks for more tokens than are left: nothing smaller that comes after it in the order
//! may use them up.

use super::Backend;
use crate::TicketId;
use crate::ticket::Ticket;

/// For whom a backend, or a model of it, is closed until another may be the first there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closing {
    pub(crate) ticket: TicketId,
    pub(crate) flow: u32,
    /// The tenant in the prompt's class.
    pub(crate) tenant: u32,
    /// The model of which its provider has too few left; none = all is closed, by the backend's own tokens per minute.
    pub(crate) model_slot: Option<u32>,
    class: u8,
    bucket: u8,
    /// For whom room was kept: with that ends what kept others from coming before.
    kept_for: Option<TicketId>,
}

impl Backend {
    /// Whether so many tokens are left for a model, by its own limit and its provider's.
    pub(crate) fn admits(&self, now_ns: u64, model_slot: u32, tokens: u64) -> bool {
        self.limits.admits(now_ns, tokens) && self.has_left(now_ns, model_slot, tokens)
    }

    /// Closed for a ticket that asks for so many tokens: a model of which its provider has too few left, or none for all.
    pub(crate) fn close_for(&mut self, ticket: &Ticket, tenant: u32, model_slot: Option<u32>) {
        match model_slot {
            Some(of_model) => self.close_told(of_model),
            None => self.limits.close_for(ticket.limited_tokens()),
        }
        let kept_for = self.kept_for();
        let (class, bucket) = (ticket.class, ticket.bucket());
        self.closings.push(Closing {
            ticket: ticket.id,
            flow: ticket.flow,
            tenant,
            model_slot,
            class,
            bucket,
            kept_for,
        });
    }

    /// Opens what is closed for a ticket that a lane keeps back by now, where room is kept for another than then, and
    /// where somebody else `may_be_first`: who is first closes it again or goes.
    pub(crate) fn reopen(&mut self, now_ns: u64, may_be_first: impl Fn(&Closing) -> bool) {
        let kept_for = self.kept_for();
        let mut closings = std::mem::take(&mut self.closings);
        closings.retain(|closing| {
            let is_let_in = self.open_to(closing.class).contains(closing.bucket);
            let stays = is_let_in && closing.kept_for == kept_for && !may_be_first(closing);
            match closing.model_slot {
                _ if stays => {}
                Some(of_model) => self.refresh_model(now_ns, of_model),
                None => self.refresh_own(now_ns),
            }
            stays
        });
        self.closings = closings;
    }

    fn kept_for(&self) -> Option<TicketId> {
        self.reservation.map(|kept| kept.ticket)
    }
}
