//! QoS 2 messages of shared subscriptions that stored sessions are about to take: whose they are is read in the log.
//!
//! A message is the session's once a record with its pair was read back. It is the group's again when a new claim is read before such a
//! record (what the former owner writes from then on counts for nothing), or when the session ends. Until then neither: were it given to
//! another member when the connection ends, or everything is read anew, both would get it if the pair is there all the same; were it settled
//! then, nobody would if it is not.

use super::task::Task;
use crate::{
    audit::cut,
    ownership::{ConnectionId, Entry, Key, Millis, Outgoing, Place, Record, State, Steps},
    relay::share::Lent,
};

/// A message that is lent to a session.
#[derive(Debug)]
pub(super) struct Borrowed {
    client: Box<str>,
    /// The claim that it is lent under.
    claim: i64,
    packet: u16,
    place: Place,
    lent: Lent,
}

impl Borrowed {
    fn is_in(&self, steps: &Steps) -> bool {
        let same = |outgoing: &&Outgoing| outgoing.share.is_some() && outgoing.place == self.place;
        steps.outbound.get(&self.packet).filter(same).is_some()
    }
}

/// Whose session a record is about.
fn client<'a>(record: &Record<'a>) -> Option<&'a str> {
    match Key::parse(record.key).ok()? {
        Key::Checkpoint(_) => None,
        key => Some(key.id()),
    }
}

impl Task {
    /// A session is to have a message under a packet id.
    pub(super) fn lend(&mut self, id: ConnectionId, (packet, place): (u16, Place), lent: Lent, now: Millis) {
        let Some(guest) = self.guests.get(&id) else { return };
        let client = guest.client.clone();
        let Some(claim) = self.partition.index().entry(&client).and_then(Entry::claim) else {
            return;
        };
        if self.partition.send_shared(id, packet, place, &lent.filter(), now) {
            self.borrowed.push(Borrowed {
                client,
                claim,
                packet,
                place,
                lent,
            });
        }
    }

    /// A record was read: what of the borrowed is decided by it.
    pub(super) fn resolve(&mut self, record: &Record<'_>) {
        let Some(client) = client(record) else { return };
        // Older than that of what is borrowed while the log is read anew.
        let now = self.partition.index().entry(client).and_then(Entry::claim);
        let is_void = |borrowed: &mut Borrowed| *borrowed.client == *client && now.is_some_and(|now| now > borrowed.claim);
        self.borrowed.extract_if(.., is_void).for_each(drop);
        let (Ok(Key::State(_, claim) | Key::Steps(_, claim)), Some(value)) = (Key::parse(record.key), record.value) else {
            return;
        };
        let is_under = |borrowed: &Borrowed| *borrowed.client == *client && borrowed.claim == claim;
        if now != Some(claim) || !self.borrowed.iter().any(is_under) {
            return;
        }
        let steps = match Key::parse(record.key) {
            Ok(Key::State(..)) => match State::parse(value) {
                Ok((_, State::Goes(body))) => body.steps,
                Ok(_) => return self.borrowed.retain(|borrowed| *borrowed.client != *client),
                Err(_) => return,
            },
            _ => match Steps::parse(value) {
                Ok((_, steps)) => steps,
                Err(_) => return,
            },
        };
        let written = |borrowed: &mut Borrowed| is_under(borrowed) && borrowed.is_in(&steps);
        for borrowed in self.borrowed.extract_if(.., written) {
            let (share, client) = (borrowed.lent.filter(), borrowed.client);
            if !borrowed.lent.keep() {
                self.around.metrics.shared.doubled.inc();
                tracing::warn!(
                    share = &*cut(&share),
                    client = &*cut(&client),
                    "a stored session has a message of QoS 2 that another member may have, too: it was not written down before its partition, \
                     or its lock, went elsewhere"
                );
            }
        }
    }
}
