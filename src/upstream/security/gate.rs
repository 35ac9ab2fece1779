//! Brokers that refused us wait: a wrong password that is tried again and again locks accounts and fills the brokers' logs.
//!
//! Sender, fetcher and the others come back on their own clocks. Here they share one for each address: until it has run down they get
//! the reason that is known, without a connection.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use crate::upstream::backoff;

/// The wait after the first refusal, and the longest.
const FIRST: Duration = Duration::from_millis(500);
const MOST: Duration = Duration::from_secs(10);
/// Addresses remembered. Brokers that move leave theirs behind; beyond this the oldest are forgotten.
const MOST_ADDRESSES: usize = 1_024;

/// Who refused us, and why.
#[derive(Default)]
pub(crate) struct Gate(Mutex<HashMap<String, Refusal>>);

struct Refusal {
    why: Arc<str>,
    until: Instant,
    in_a_row: u32,
}

impl Gate {
    /// # Errors
    /// Why this broker refused us a short time ago.
    pub(crate) fn pass(&self, address: &str, now: Instant) -> Result<(), Arc<str>> {
        match self.refusals().get(address) {
            Some(refusal) if refusal.until > now => Err(Arc::clone(&refusal.why)),
            _ => Ok(()),
        }
    }

    /// Remembers a refusal. True: it is news for an operator.
    pub(crate) fn refused(&self, address: &str, why: &Arc<str>, now: Instant) -> bool {
        let mut refusals = self.refusals();
        let before = refusals.get(address);
        let news = before.is_none_or(|r| r.why != *why);
        // Several that began before the first was refused count as one.
        let in_a_row = match before {
            Some(r) if r.until > now => r.in_a_row,
            Some(r) => r.in_a_row + 1,
            None => 0,
        };
        if refusals.len() >= MOST_ADDRESSES && !refusals.contains_key(address) {
            let oldest = refusals.iter().min_by_key(|(_, r)| r.until).map(|(address, _)| address.clone());
            oldest.map(|address| refusals.remove(&address));
        }
        let refusal = Refusal {
            why: Arc::clone(why),
            until: now + backoff::wait(in_a_row, FIRST, MOST),
            in_a_row,
        };
        refusals.insert(address.to_owned(), refusal);
        news
    }

    /// It took us.
    pub(crate) fn taken(&self, address: &str) {
        self.refusals().remove(address);
    }

    fn refusals(&self) -> MutexGuard<'_, HashMap<String, Refusal>> {
        self.0.lock().expect("no code that holds this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_refused_us_is_left_alone_longer_each_time() {
        let (gate, mut now) = (Gate::default(), Instant::now());
        let why: Arc<str> = "wrong password".into();
        assert_eq!(gate.pass("a:1", now), Ok(()));
        assert!(gate.refused("a:1", &why, now));
        assert_eq!(gate.pass("a:1", now), Err(Arc::clone(&why)));
        assert_eq!(gate.pass("b:1", now), Ok(()));
        // Those that were on their way at the same time do not lengthen it.
        for _ in 0..10 {
            assert!(!gate.refused("a:1", &why, now));
        }
        now += Duration::from_millis(700);
        assert_eq!(gate.pass("a:1", now), Ok(()));
        for _ in 0..20 {
            now += Duration::from_secs(13);
            assert_eq!(gate.pass("a:1", now), Ok(()));
            assert!(!gate.refused("a:1", &why, now));
        }
        assert!(gate.pass("a:1", now + Duration::from_secs(7)).is_err());
        assert!(gate.refused("a:1", &"expired".into(), now), "another reason is news");
        gate.taken("a:1");
        assert_eq!(gate.pass("a:1", now), Ok(()));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (gate, now, why) = (Gate::default(), Instant::now(), "x".into());
        for n in 0..3 * MOST_ADDRESSES {
            gate.refused(&format!("a:{n}"), &why, now);
        }
        assert_eq!(gate.refusals().len(), MOST_ADDRESSES);
    }
}
