//! How many shared subscriptions one connection takes part in: else a single device could take all that the instance has.

use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashMap;

/// Shared subscriptions that one connection may take part in.
const MOST_PARTS: u8 = 16;

/// By the number of the connection's mailbox; who takes no part is not in it.
#[derive(Debug, Default)]
pub struct Parts(Mutex<FxHashMap<u64, u8>>);

/// One that is taken; dropping it gives it back.
#[derive(Debug)]
pub struct Part {
    of: Arc<Parts>,
    connection: u64,
}

impl Parts {
    /// Takes one more, if there is one left for this connection.
    pub(super) fn take(self: &Arc<Self>, connection: u64) -> Option<Part> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(connection).or_default();
        if *count >= MOST_PARTS {
            return None;
        }
        *count += 1;
        Some(Part {
            of: self.clone(),
            connection,
        })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut taken = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.connection) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.remove(&self.connection)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_has_its_own_and_gives_them_back() {
        let parts = Arc::<Parts>::default();
        let mut taken: Vec<_> = (0..MOST_PARTS).map(|_| parts.take(1).unwrap()).collect();
        assert!(parts.take(1).is_none());
        drop(parts.take(2).unwrap());
        taken.pop();
        taken.push(parts.take(1).unwrap());
        assert!(parts.take(1).is_none());
        drop(taken);
        assert!(parts.0.lock().unwrap().is_empty(), "nothing is kept of connections that are gone");
    }
}
