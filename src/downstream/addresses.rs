//! Connections open from each address.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

/// Locks among which the addresses are spread.
const SHARDS: usize = 16;

/// Counts by address. As large as there are connections: an address of which none is open is forgotten.
#[derive(Debug)]
pub(super) struct Addresses {
    most: u32,
    /// Decides about shards; addresses are an attacker's to choose, so it is seeded.
    hasher: RandomState,
    /// Taken at a connection's begin and end, and never over an await.
    shards: [Mutex<HashMap<IpAddr, u32>>; SHARDS],
}

impl Addresses {
    /// With at most so many connections of one address.
    pub(super) fn new(most: u32) -> Self {
        Self {
            most,
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// One more, unless that is too many.
    pub(super) fn enter(&self, address: IpAddr) -> bool {
        let mut shard = self.shard(address).lock().unwrap_or_else(PoisonError::into_inner);
        let open = shard.entry(address).or_default();
        let room = *open < self.most;
        *open += u32::from(room);
        room
    }

    /// One less.
    pub(super) fn leave(&self, address: IpAddr) {
        let mut shard = self.shard(address).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = shard.get_mut(&address) {
            *open -= 1;
            if *open == 0 {
                shard.remove(&address);
            }
        }
    }

    fn shard(&self, address: IpAddr) -> &Mutex<HashMap<IpAddr, u32>> {
        let hash = usize::try_from(self.hasher.hash_one(address) % SHARDS as u64).expect("below the number of shards");
        &self.shards[hash]
    }
}

/// What counts as one address: a customer of IPv6 has a /64 to choose from (RFC 6177).
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_room_and_is_forgotten() {
        let addresses = Addresses::new(2);
        let at = |text: &str| network_of(text.parse().unwrap());
        let (one, two) = (at("10.0.0.1"), at("10.0.0.2"));
        assert!(addresses.enter(one) && addresses.enter(one) && !addresses.enter(one));
        assert!(addresses.enter(two));
        addresses.leave(one);
        assert!(addresses.enter(one) && !addresses.enter(one));
        for address in [one, one, two] {
            addresses.leave(address);
        }
        assert!(addresses.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }

    #[test]
    fn a_customers_network_is_one_address() {
        let at = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(at("2001:db8:0:1::1"), at("2001:db8:0:1:ffff::2"));
        assert_ne!(at("2001:db8:0:1::1"), at("2001:db8:0:2::1"));
        assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
        assert_ne!(at("10.0.0.1"), at("10.0.0.2"));
    }
}
