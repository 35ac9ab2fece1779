//! The producer's memory: one budget in bytes, and the buffers that go round.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;

/// The budget. Charged when a batch grows, released when it is settled.
pub(crate) struct Memory {
    limit: usize,
    used: AtomicUsize,
    /// Fair: who waits longest is woken first, and a woken one that is gone passes its turn on.
    freed: Notify,
    /// Rung when nothing is held any more.
    empty: Notify,
    /// Empty buffers for new batches; their bytes are not charged, so they are bounded on their own.
    pool: Mutex<Pool>,
    gauge: Gauge,
}

#[derive(Default)]
struct Pool {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

/// The budget must have this much free before a waiter is woken: a share with which a connection gets somewhere.
const WORTH_WAKING: usize = 16 * 1024;
/// Buffers kept at most, whatever their size.
const MOST_BUFFERS: usize = 256;

impl Memory {
    pub(crate) fn new(limit: usize, gauge: Gauge) -> Self {
        Self {
            limit,
            used: AtomicUsize::new(0),
            freed: Notify::new(),
            empty: Notify::new(),
            pool: Mutex::default(),
            gauge,
        }
    }

    /// Takes `bytes` of the budget, or nothing.
    pub(crate) fn charge(&self, bytes: usize) -> bool {
        let taken = self
            .used
            .fetch_update(Relaxed, Relaxed, |used| used.checked_add(bytes).filter(|sum| *sum <= self.limit));
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
        if self.has_room() {
            self.freed.notify_one();
        }
    }

    /// Waits until there is room. The woken one wakes the next while there still is, so a large release reaches all.
    pub(crate) async fn available(&self) {
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
        self.used.load(Relaxed) + WORTH_WAKING.min(self.limit / 4) <= self.limit
    }

    /// An empty buffer, used before if there is one.
    pub(crate) fn buffer(&self) -> Vec<u8> {
        let mut pool = self.pool.lock().expect("no code that holds this lock panics");
        let buffer = pool.buffers.pop().unwrap_or_default();
        pool.bytes -= buffer.capacity();
        buffer
    }

    /// Takes the buffer of a settled batch back, if nobody else holds it and there is room for it.
    pub(crate) fn recycle(&self, bytes: Bytes) {
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
            waiting.spawn(async move { memory.available().await });
        }
        tokio::task::yield_now().await;
        memory.release(32 * 1024);
        // One release, three waiters: the first wakes the second, and so on.
        while waiting.join_next().await.is_some() {}
        assert_eq!(memory.used(), 32 * 1024);
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
