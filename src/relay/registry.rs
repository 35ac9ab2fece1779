//! Which connection of this instance a client id belongs to.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::mailbox::{Ending, Mailbox};

const SHARDS: usize = 64;

type Shard = HashMap<Box<str>, Arc<Mailbox>>;

/// Client ids and their connections, in shards so that connects on different cores do not wait for each other.
#[derive(Debug)]
pub struct Registry {
    draining: AtomicBool,
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            draining: AtomicBool::new(false),
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
    /// True if there was one.
    pub fn enter(&self, client: &str, mailbox: &Arc<Mailbox>) -> bool {
        let former = self.shard(client).insert(client.into(), mailbox.clone());
        if let Some(former) = &former {
            former.end(Ending::TakenOver);
        }
        // Either this sees the flag, or `end_all` locks the shard after us and finds the entry.
        if self.draining.load(Ordering::SeqCst) {
            mailbox.end(Ending::ShutDown);
        }
        former.is_some()
    }

    /// Takes a connection out, unless the client id has gone to another one already.
    pub fn leave(&self, client: &str, mailbox: &Arc<Mailbox>) {
        let mut shard = self.shard(client);
        if shard.get(client).is_some_and(|m| m.id() == mailbox.id()) {
            shard.remove(client);
        }
    }

    /// Tells every connection, also those that enter later, that the process stops.
    pub fn end_all(&self) {
        self.draining.store(true, Ordering::SeqCst);
        for shard in &self.shards {
            shard
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .values()
                .for_each(|mailbox| mailbox.end(Ending::ShutDown));
        }
    }
}
