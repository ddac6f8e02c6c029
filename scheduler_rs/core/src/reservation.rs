//! A backend's short lane kept for one prompt that too much has passed: the one exception to work conservation.

use crate::TicketId;

/// While it stands, the short lane admits nothing of the same or a lower class but this bucket of this flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reservation {
    pub(crate) ticket: TicketId,
    pub(crate) class: u8,
    pub(crate) group: u32,
    pub(crate) flow: u32,
    pub(crate) bucket: u8,
}
