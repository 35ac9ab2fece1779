//! Permits for memory, in bytes: who holds what was read of the log while subscribers take their time needs one for what it holds.
//!
//! Permits are given in the order in which they were asked for, large ones included: while somebody is in line nobody else gets what is
//! free. So that a line moves, who holds a permit lets go when others wait and its time is over, and nobody who holds one waits for
//! more: it tries, and otherwise gives up what it has and gets in line for all that it needs.

use std::{pin::Pin, sync::Arc};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Permits are counted in such units: a semaphore has 32 bits for one request.
const UNIT: usize = 1024;

/// All there are.
#[derive(Debug)]
pub struct Permits {
    free: Arc<Semaphore>,
    total: u32,
    /// How many are in line.
    wanted: watch::Sender<usize>,
    used: Gauge,
}

/// A place in line for a permit.
pub type Wait = Pin<Box<dyn Future<Output = Permit> + Send>>;

/// The right to hold so many bytes; given back when it is dropped.
#[derive(Debug)]
pub struct Permit {
    held: OwnedSemaphorePermit,
    total: u32,
    used: Gauge,
}

/// More than there is counts as all there is: then nobody else holds any.
fn units(bytes: usize, total: u32) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(total)
}

impl Permits {
    /// For so many bytes together; `used` shows how many permits are out for.
    pub fn new(bytes: usize, used: Gauge) -> Arc<Self> {
        let most = Semaphore::MAX_PERMITS.min(u32::MAX as usize) as u32;
        let total = units(bytes, most).max(1);
        Arc::new(Self {
            free: Arc::new(Semaphore::new(total as usize)),
            total,
            wanted: watch::Sender::new(0),
            used,
        })
    }

    /// A permit, if so much is free and nobody waits.
    pub fn try_acquire(&self, bytes: usize) -> Option<Permit> {
        let held = self.free.clone().try_acquire_many_owned(units(bytes, self.total)).ok()?;
        Some(self.permit(held))
    }

    /// A permit, in the order in which the futures were polled first.
    pub async fn acquire(self: Arc<Self>, bytes: usize) -> Permit {
        let _waiting = Waiting::new(&self.wanted);
        let held = self.free.clone().acquire_many_owned(units(bytes, self.total)).await;
        self.permit(held.expect("the semaphore is never closed"))
    }

    fn permit(&self, held: OwnedSemaphorePermit) -> Permit {
        self.used.inc_by((held.num_permits() * UNIT) as i64);
        let (total, used) = (self.total, self.used.clone());
        Permit { held, total, used }
    }

    /// How many are in line.
    pub fn wanted(&self) -> watch::Receiver<usize> {
        self.wanted.subscribe()
    }
}

impl Permit {
    /// Makes it one for `bytes`, and gives back what is more. False: there is not so much free, or others wait; it stays as it is.
    pub fn resize(&mut self, bytes: usize) -> bool {
        let (wants, has) = (units(bytes, self.total) as usize, self.held.num_permits());
        if let Some(more) = wants.checked_sub(has).filter(|more| *more > 0) {
            let more = self.held.semaphore().clone().try_acquire_many_owned(more as u32);
            let Ok(more) = more else { return false };
            self.held.merge(more);
        } else {
            drop(self.held.split(has - wants));
        }
        self.used.inc_by((wants as i64 - has as i64) * UNIT as i64);
        true
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.used.dec_by((self.held.num_permits() * UNIT) as i64);
    }
}

/// Counts one who waits, for as long as it does.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl<'a> Waiting<'a> {
    fn new(wanted: &'a watch::Sender<usize>) -> Self {
        wanted.send_modify(|n| *n += 1);
        Self(wanted)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn permits_are_bounded_and_go_to_who_waits_longest() {
        let permits = Permits::new(6_000 * UNIT, Gauge::default());
        let first = permits.try_acquire(3_000 * UNIT).expect("all is free");
        let second = permits.try_acquire(2_999 * UNIT + 1);
        assert!(second.is_some() && permits.try_acquire(1).is_none());
        let waits = tokio::spawn(permits.clone().acquire(4_000 * UNIT));
        let mut wanted = permits.wanted();
        wanted.wait_for(|n| *n == 1).await.expect("the permits are there");
        drop(first);
        assert!(permits.try_acquire(1).is_none(), "what is free is for who waits");
        drop(second);
        let third = waits.await.expect("it is served");
        assert!(permits.try_acquire(2_001 * UNIT).is_none());
        assert_eq!(*wanted.borrow_and_update(), 0);
        drop(third);
        assert!(permits.try_acquire(6_000 * UNIT).is_some());
    }

    #[test]
    fn a_permit_grows_as_far_as_there_is_room_and_shrinks() {
        let used = Gauge::default();
        let permits = Permits::new(10 * UNIT, used.clone());
        let (mut one, mut other) = (permits.try_acquire(4 * UNIT).unwrap(), permits.try_acquire(4 * UNIT).unwrap());
        assert!(one.resize(6 * UNIT));
        assert!(!other.resize(5 * UNIT), "nothing is left");
        assert!(one.resize(2 * UNIT) && other.resize(8 * UNIT) && permits.try_acquire(1).is_none());
        assert_eq!(used.get(), 10 * UNIT as i64);
        drop(one);
        assert_eq!(used.get(), 8 * UNIT as i64);
        assert!(other.resize(usize::MAX), "more than there is: all there is");
        assert!(permits.try_acquire(1).is_none());
        assert_eq!(used.get(), 10 * UNIT as i64);
        assert!(other.resize(0) && permits.try_acquire(10 * UNIT).is_some());
    }
}
