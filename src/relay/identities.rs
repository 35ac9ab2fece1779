//! How many clients are connected by the same identity.
//!
//! Clients are counted, not connections: a device that comes back while its former connection hangs takes that over, and must not be shut out
//! by it.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

const SHARDS: usize = 16;

/// The identities that have clients here. As large as there are clients.
#[derive(Debug)]
pub struct Identities {
    most: NonZeroU32,
    /// Seeded: names are others' to choose. Of 64 bits, so that two names are taken for the same once in ages.
    hasher: RandomState,
    /// Taken when a client is recognised and when its connection ends, and never over an await.
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    /// By identity, how many clients it has.
    identities: HashMap<u64, u32>,
    /// By identity and client id, how many connections it has: during a take-over there are two.
    clients: HashMap<u64, u32>,
}

/// A client that counts until it is dropped.
#[derive(Debug)]
pub struct Counted {
    of: Arc<Identities>,
    identity: u64,
    client: u64,
}

impl Identities {
    /// With at most so many clients each.
    pub fn new(most: NonZeroU32) -> Arc<Self> {
        Arc::new(Self {
            most,
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::default()),
        })
    }

    /// Counts a client, unless that is too many. One that has sent no client id has the one that was made up for it.
    pub fn enter(self: &Arc<Self>, identity: &str, client: &str) -> Option<Counted> {
        let client = self.hasher.hash_one((identity, client));
        let identity = self.hasher.hash_one(identity);
        let mut shard = self.shard(identity);
        let Shard { identities, clients } = &mut *shard;
        let connections = clients.get(&client).copied().unwrap_or(0);
        if connections == 0 {
            let of_identity = identities.entry(identity).or_default();
            if *of_identity >= self.most.get() {
                return None;
            }
            *of_identity += 1;
        }
        clients.insert(client, connections + 1);
        drop(shard);
        Some(Counted {
            of: self.clone(),
            identity,
            client,
        })
    }

    fn shard(&self, identity: u64) -> MutexGuard<'_, Shard> {
        let shard = usize::try_from(identity % SHARDS as u64).expect("below the number of shards");
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut shard = self.of.shard(self.identity);
        if is_last(&mut shard.clients, self.client) {
            is_last(&mut shard.identities, self.identity);
        }
    }
}

/// Takes one away. True: it was the last, and the entry is gone.
fn is_last(counts: &mut HashMap<u64, u32>, key: u64) -> bool {
    let Some(count) = counts.get_mut(&key) else { return false };
    *count -= 1;
    let last = *count == 0;
    if last {
        counts.remove(&key);
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_counted_and_not_their_connections() {
        let identities = Identities::new(NonZeroU32::new(2).unwrap());
        let enter = |identity, client| identities.enter(identity, client);
        let first = enter("vin42", "a").unwrap();
        let _second = enter("vin42", "b").unwrap();
        assert!(enter("vin42", "c").is_none());
        let _other = enter("vin43", "c").unwrap();
        let again = enter("vin42", "a").unwrap();
        drop(first);
        assert!(enter("vin42", "c").is_none(), "its second connection is there");
        drop(again);
        let third = enter("vin42", "c").unwrap();
        drop(third);
        assert!(enter("vin42", "d").is_some(), "its place is free");
    }

    #[test]
    fn who_has_left_is_forgotten() {
        let identities = Identities::new(NonZeroU32::new(1).unwrap());
        for n in 0..1000 {
            let name = n.to_string();
            let _twice = (identities.enter(&name, "a"), identities.enter(&name, "a"));
            assert!(identities.enter(&name, "b").is_none());
        }
        for shard in &identities.shards {
            let shard = shard.lock().unwrap();
            assert!(shard.identities.is_empty() && shard.clients.is_empty());
        }
    }
}
