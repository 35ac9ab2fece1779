//! Connections of which nothing is stored stay when this instance gives everything up, and nobody owns their client ids here any more.
//! They are still to end once their client connects elsewhere.
//!
//! A claim that was read before everything was given up has been acted on then, so those that lie behind it count only. Custodians bid and do not
//! claim: what they make of an instance that they took for dead ends no connection.

use std::collections::HashMap;

use super::task::Task;
use crate::{
    mqtt::ReasonCode,
    ownership::{ClaimHead, ConnectionId, Key, Record},
};

/// By client id.
pub(super) type Loose = HashMap<Box<str>, Lonely>;

/// A connection without an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lonely {
    connection: ConnectionId,
    /// Claims before this offset are older.
    from: i64,
}

impl Task {
    /// Everything was given up.
    pub(super) fn loosen(&mut self) {
        // Within an instance the registry tells them.
        if self.around.settings.local_takeover {
            return;
        }
        let from = self.partition.given_up_at();
        for (connection, guest) in self.guests.iter().filter(|(_, guest)| !guest.stored) {
            let lonely = Lonely {
                connection: *connection,
                from,
            };
            self.loose.entry(guest.client.clone()).or_insert(lonely);
        }
    }

    /// A connection of a client is gone.
    pub(super) fn forget_loose(&mut self, client: &str, connection: ConnectionId) {
        if self.loose.get(client).is_some_and(|lonely| lonely.connection == connection) {
            self.loose.remove(client);
        }
    }

    /// Ends a connection without an owner whose client another instance has claimed.
    pub(super) fn mind_claim(&mut self, record: &Record<'_>) {
        let (Ok(Key::Claim(client)), Some(_)) = (Key::parse(record.key), record.value) else {
            return;
        };
        let Ok(head) = ClaimHead::parse(record) else { return };
        let newer = |lonely: &&Lonely| record.offset >= lonely.from && *head.owner != *self.around.instance;
        let Some(lonely) = self.loose.get(client).filter(newer).copied() else {
            return;
        };
        self.loose.remove(client);
        let reason = match head.operator {
            true => ReasonCode::AdministrativeAction,
            false => ReasonCode::SessionTakenOver,
        };
        self.close(lonely.connection, reason);
    }
}
