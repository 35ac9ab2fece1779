//! Answers that wait until what they say is written.

use super::Tenancy;
use crate::{relay::granting::Granted, session::Ticket};

/// An answer that waits until what it says is written.
pub enum Resting {
    /// Of a SUBSCRIBE.
    Granted(Granted),
    /// Of an UNSUBSCRIBE, by its ticket.
    Removed(Ticket),
}

impl Resting {
    fn ticket(&self) -> u32 {
        match self {
            Resting::Granted(granted) => granted.ticket().0,
            Resting::Removed(ticket) => ticket.0,
        }
    }
}

impl Tenancy {
    /// The answer that rests on what is written now.
    pub fn rested(&mut self, ticket: u32) -> Option<Resting> {
        let at = self.resting.iter().position(|resting| resting.ticket() == ticket)?;
        Some(self.resting.remove(at))
    }
}
