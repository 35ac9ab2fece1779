//! Which connection of this instance a client id belongs to.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::mailbox::{Ending, Mailbox};

const SHARDS: usize = 64;

type Shard = HashMap<Box<str>, Arc<Mailbox>>;

/// Client ids and their connections, in shards so that connects on different cores do not wait for each other.
#[derive(Debug)]
pub struct Registry {
    /// The process stops.
    draining: watch::Sender<bool>,
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            draining: watch::Sender::new(false),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        }
    }
}

impl Registry {
    fn shard(&self, client: &str) -> MutexGuard<'_, Shard> {
        let shard = self.hasher.hash_one(client) as usize % SHARDS;
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a connection; one that had the client id before is told to end (0x8E) [MQTT-3.1.4-3].
    /// That one, if there was one.
    pub fn enter(&self, client: &str, mailbox: &Arc<Mailbox>) -> Option<Arc<Mailbox>> {
        let former = self.shard(client).insert(client.into(), mailbox.clone());
        if let Some(former) = &former {
            former.end(Ending::TakenOver);
        }
        // Either this sees the flag, or `end_all` locks the shard after us and finds the entry.
        if *self.draining.borrow() {
            mailbox.end(Ending::ShutDown);
        }
        former
    }

    /// Takes a connection out, unless the client id has gone to another one already. One that it still waits for has its place again: who comes
    /// next waits for that, too.
    pub fn leave(&self, client: &str, mailbox: &Arc<Mailbox>) {
        let mut shard = self.shard(client);
        if shard.get(client).is_none_or(|m| m.id() != mailbox.id()) {
            return;
        }
        // It takes itself out once it has closed, for which it must wait for us: so nothing stays that has ended.
        match mailbox.former() {
            Some(former) => drop(shard.insert(client.into(), former)),
            None => drop(shard.remove(client)),
        }
    }

    /// Calls `tell` for every connection that has entered.
    pub fn each(&self, tell: impl Fn(&Mailbox)) {
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.values().for_each(|mailbox| tell(mailbox));
        }
    }

    /// Whether the process stops, for connections that have not entered yet.
    pub fn draining(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }

    /// Tells every connection, also those that enter later, that the process stops.
    pub fn end_all(&self) {
        self.draining.send_replace(true);
        for shard in &self.shards {
            shard
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .values()
                .for_each(|mailbox| mailbox.end(Ending::ShutDown));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::budget::Budget;
    use tokio::sync::Notify;

    fn mailbox() -> Arc<Mailbox> {
        Arc::new(Mailbox::new(Arc::new(Notify::new()), Budget::new(0, Default::default())))
    }

    fn entered(registry: &Registry) -> usize {
        registry.shards.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }

    #[test]
    fn who_leaves_takes_only_its_own_place_away() {
        let (registry, first, second) = (Registry::default(), mailbox(), mailbox());
        assert!(registry.enter("a", &first).is_none());
        assert!(registry.enter("a", &second).is_some());
        assert_eq!(first.letters().2, Some(Ending::TakenOver));
        registry.leave("a", &first);
        assert_eq!(entered(&registry), 1, "the place is the second's");
        registry.leave("a", &second);
        assert_eq!(entered(&registry), 0);
    }

    #[test]
    fn who_enters_during_the_end_is_told() {
        let (registry, early, late) = (Registry::default(), mailbox(), mailbox());
        registry.enter("early", &early);
        registry.end_all();
        registry.enter("late", &late);
        for mailbox in [early, late] {
            assert_eq!(mailbox.letters().2, Some(Ending::ShutDown));
        }
    }
}
