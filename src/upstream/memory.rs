//! The producer's memory: one budget in bytes, and the buffers that go round.

use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;

/// The budget. Charged when a batch grows, released when it is settled and no request holds it.
pub(crate) struct Memory {
    limit: usize,
    used: AtomicUsize,
    /// What the oldest of those who wait for much will take; nobody else gets it meanwhile.
    reserved: AtomicUsize,
    /// Those who wait for much, one after the other.
    turn: tokio::sync::Mutex<()>,
    /// Rung at each release while something is reserved.
    released: Notify,
    /// Fair: who waits longest is woken first, and a woken one that is gone passes its turn on.
    freed: Notify,
    /// Rung when nothing is held any more.
    empty: Notify,
    /// Empty buffers for new batches; their bytes are not charged, so they are bounded on their own.
    pool: Mutex<Pool>,
    /// Settled batches that a request still holds, with what is charged for them: the broker reads nothing, and another has them, or they are given up.
    lent: Mutex<Vec<(Bytes, usize)>>,
    gauge: Gauge,
}

#[derive(Default)]
struct Pool {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

/// The budget must have this much free before a waiter is woken: a share with which a connection gets somewhere. Who needs more
/// waits for it by name, or it would be woken for nothing, again and again.
const WORTH_WAKING: usize = 16 * 1024;
/// What is there at least for [`Memory::charge_ahead`].
const LEAST_AHEAD: usize = 1 << 20;
/// Buffers kept at most, whatever their size.
const MOST_BUFFERS: usize = 256;

impl Memory {
    pub(crate) fn new(limit: usize, gauge: Gauge) -> Self {
        Self {
            limit,
            used: AtomicUsize::new(0),
            reserved: AtomicUsize::new(0),
            turn: tokio::sync::Mutex::default(),
            released: Notify::new(),
            freed: Notify::new(),
            empty: Notify::new(),
            pool: Mutex::default(),
            lent: Mutex::default(),
            gauge,
        }
    }

    /// Takes `bytes` of the budget, or nothing.
    pub(crate) fn charge(&self, bytes: usize) -> bool {
        self.charge_beside(bytes, self.reserved.load(Relaxed))
    }

    /// The same beyond the limit, up to an eighth of it (or 1 MiB), and whoever else waits: for records that others wait for which hold memory.
    pub(crate) fn charge_ahead(&self, bytes: usize) -> bool {
        let beyond = (self.limit / 8).max(LEAST_AHEAD);
        self.charge_up_to(bytes, self.limit.saturating_add(beyond))
    }

    fn charge_beside(&self, bytes: usize, reserved: usize) -> bool {
        self.charge_up_to(bytes, self.limit.saturating_sub(reserved))
    }

    fn charge_up_to(&self, bytes: usize, limit: usize) -> bool {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= limit);
        let taken = self.used.fetch_update(Relaxed, Relaxed, fits);
        if taken.is_ok() {
            self.gauge.inc_by(bytes as i64);
        }
        taken.is_ok()
    }

    /// Gives `bytes` back.
    pub(crate) fn release(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes, Relaxed);
        if before == bytes {
            self.empty.notify_waiters();
        }
        self.gauge.dec_by(bytes as i64);
        self.wake();
    }

    fn wake(&self) {
        if self.reserved.load(Relaxed) > 0 {
            self.released.notify_waiters();
        }
        if self.has_room() {
            self.freed.notify_one();
        }
    }

    /// Whether so much can ever be had.
    pub(crate) fn could_hold(&self, bytes: usize) -> bool {
        bytes <= self.limit
    }

    /// Waits until `needed` bytes can be had. Returns how many were charged for the caller: none if it needs so little that it will
    /// find them. Cancel-safe; who waits for much and does not wait on loses its turn.
    pub(crate) async fn available(&self, needed: usize) -> usize {
        if needed > WORTH_WAKING.min(self.limit / 4) {
            self.take_much(needed).await;
            return needed;
        }
        self.room().await;
        0
    }

    /// Takes `needed` bytes as they become free; those who come later get none before.
    async fn take_much(&self, needed: usize) {
        let _turn = self.turn.lock().await;
        let reservation = Reservation::of(self, needed);
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            // Listens from here on, so that a release between the look and the wait is heard.
            released.as_mut().enable();
            if self.charge_beside(needed, 0) {
                break;
            }
            released.await;
        }
        drop(reservation);
    }

    /// Waits until there is room. The woken one wakes the next while there still is, so a large release reaches all.
    async fn room(&self) {
        if self.has_room() {
            return;
        }
        loop {
            let freed = self.freed.notified();
            if self.has_room() {
                break;
            }
            freed.await;
            if self.has_room() {
                break;
            }
        }
        self.freed.notify_one();
    }

    /// Waits until nothing is held.
    pub(crate) async fn drained(&self) {
        loop {
            let empty = self.empty.notified();
            tokio::pin!(empty);
            // Listens from here on, so that a release between the look and the wait is heard.
            empty.as_mut().enable();
            if self.used() == 0 {
                return;
            }
            empty.await;
        }
    }

    fn has_room(&self) -> bool {
        let taken = self.used.load(Relaxed).saturating_add(self.reserved.load(Relaxed));
        taken.saturating_add(WORTH_WAKING.min(self.limit / 4)) <= self.limit
    }

    /// An empty buffer, used before if there is one.
    pub(crate) fn buffer(&self) -> Vec<u8> {
        let mut pool = self.pool.lock().expect("no code that holds this lock panics");
        let buffer = pool.buffers.pop().unwrap_or_default();
        pool.bytes -= buffer.capacity();
        buffer
    }

    /// Gives back what a settled batch takes: at once, or when the last request that carries it is gone.
    pub(crate) fn give_back(&self, bytes: Bytes, charged: usize) {
        if bytes.is_unique() {
            self.recycle(bytes);
            self.release(charged);
        } else {
            self.lent().push((bytes, charged));
        }
    }

    /// Gives back what could not be at once, and can be by now; or `all` of it, at the end of the client.
    pub(crate) fn look_for_lent(&self, all: bool) {
        let back: Vec<_> = self.lent().extract_if(.., |(bytes, _)| all || bytes.is_unique()).collect();
        for (bytes, charged) in back {
            self.recycle(bytes);
            self.release(charged);
        }
    }

    fn lent(&self) -> MutexGuard<'_, Vec<(Bytes, usize)>> {
        self.lent.lock().expect("no code that holds this lock panics")
    }

    /// Keeps the buffer of a settled batch, if nobody else holds it and there is room for it.
    fn recycle(&self, bytes: Bytes) {
        let Ok(bytes) = bytes.try_into_mut() else { return };
        let mut buffer = Vec::from(bytes);
        buffer.clear();
        let mut pool = self.pool.lock().expect("no code that holds this lock panics");
        if pool.buffers.len() < MOST_BUFFERS && pool.bytes + buffer.capacity() <= self.limit / 4 {
            pool.bytes += buffer.capacity();
            pool.buffers.push(buffer);
        }
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Relaxed)
    }
}

/// Bytes that are kept for one who waits. Ends with its wait, however that ends.
struct Reservation<'m>(&'m Memory);

impl<'m> Reservation<'m> {
    fn of(memory: &'m Memory, bytes: usize) -> Self {
        memory.reserved.store(bytes, Relaxed);
        Self(memory)
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.0.reserved.store(0, Relaxed);
        self.0.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_is_woken_by_the_release() {
        let memory = std::sync::Arc::new(Memory::new(64 * 1024, Gauge::default()));
        assert!(memory.charge(64 * 1024));
        assert!(!memory.charge(1));
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..3 {
            let memory = std::sync::Arc::clone(&memory);
            waiting.spawn(async move { memory.available(1).await });
        }
        tokio::task::yield_now().await;
        memory.release(32 * 1024);
        // One release, three waiters: the first wakes the second, and so on.
        while waiting.join_next().await.is_some() {}
        assert_eq!(memory.used(), 32 * 1024);
    }

    /// Polls a wait once.
    fn looks<T>(wait: &mut std::pin::Pin<Box<impl Future<Output = T>>>) -> Option<T> {
        match wait.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        }
    }

    #[test]
    fn who_needs_much_is_not_woken_for_little_and_not_overtaken_by_those_who_need_little() {
        let memory = Memory::new(256 * 1024, Gauge::default());
        assert!(memory.charge(200 * 1024));
        let mut much = Box::pin(memory.available(100 * 1024));
        assert_eq!(looks(&mut much), None, "there is room for a small one, but not for it");
        assert!(!memory.charge(1024), "what is free is kept for it");
        let mut little = Box::pin(memory.available(1024));
        assert_eq!(looks(&mut little), None);
        memory.release(20 * 1024);
        assert_eq!(looks(&mut much), None);
        memory.release(40 * 1024);
        assert_eq!(looks(&mut much), Some(100 * 1024));
        assert_eq!(memory.used(), 240 * 1024);
        assert_eq!(looks(&mut little), Some(0));
        assert!(memory.charge(1024));
    }

    #[test]
    fn who_gives_up_waiting_for_much_sets_the_others_free() {
        let memory = Memory::new(256 * 1024, Gauge::default());
        assert!(memory.charge(200 * 1024));
        let (mut much, mut more) = (Box::pin(memory.available(100 * 1024)), Box::pin(memory.available(120 * 1024)));
        let mut little = Box::pin(memory.available(1024));
        assert_eq!((looks(&mut much), looks(&mut more), looks(&mut little)), (None, None, None));
        drop(more);
        drop(much);
        assert_eq!(looks(&mut little), Some(0));
        assert!(memory.charge(20 * 1024));
    }

    #[test]
    fn what_a_request_holds_is_charged_until_it_is_gone() {
        let memory = Memory::new(64 * 1024, Gauge::default());
        assert!(memory.charge(3000));
        let batch = Bytes::from(vec![1; 1000]);
        let in_request = batch.clone();
        memory.give_back(batch, 2000);
        memory.give_back(Bytes::from(vec![1; 1000]), 1000);
        memory.look_for_lent(false);
        assert_eq!(memory.used(), 2000);
        drop(in_request);
        memory.look_for_lent(false);
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn buffers_come_back_unless_shared() {
        let memory = Memory::new(64 * 1024, Gauge::default());
        let bytes = Bytes::from(Vec::with_capacity(1024)).clone();
        memory.recycle(bytes);
        let mut buffer = Vec::with_capacity(2048);
        buffer.push(1);
        let bytes = Bytes::from(buffer);
        let shared = bytes.clone();
        memory.recycle(bytes);
        assert_eq!(
            memory.pool.lock().unwrap().buffers.iter().filter(|b| b.capacity() >= 2048).count(),
            0
        );
        memory.recycle(shared);
        assert!(memory.buffer().capacity() >= 2048);
    }
}
