//! Whether this process runs. One that was stopped (SIGSTOP, a host out of memory, a virtual machine that is moved) wakes up with what it knew, and others
//! may have taken its clients' sessions over meanwhile.
//!
//! A task beats; a beat that comes late tells of a pause, and as long as it is late nobody knows. After a pause the task of each partition asks for the end of its
//! log. When it has read so far it has closed all that is others', and whoever is left may say what it has to say.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::mapping::partition_for_key;

/// Between two beats.
const BEAT: Duration = Duration::from_millis(100);
/// A beat that is later is late: well above what a busy host takes to run a task, below any time that a client waits before it goes elsewhere.
const LATE: u64 = 500;

/// The pauses of this process.
#[derive(Debug)]
pub struct Pauses {
    began: Instant,
    /// Milliseconds from there to the last beat.
    beat: AtomicU64,
    /// How many there were: for those who look at each write.
    count: AtomicU64,
    /// The same, for those who wait for it.
    told: watch::Sender<u64>,
    /// Of each partition, after how many of them it was read to its end.
    read: OnceLock<Box<[watch::Sender<u64>]>>,
}

impl Pauses {
    /// None yet.
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            beat: AtomicU64::new(0),
            count: AtomicU64::new(0),
            told: watch::Sender::default(),
            read: OnceLock::new(),
        }
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Whether it is certain that there were no more than `seen`.
    pub fn are(&self, seen: u64) -> bool {
        // The beat comes behind the count of the pause that it ends.
        !self.is_late(self.now()) && self.count() == seen
    }

    /// Waits for the end of the pause, if there is one, and until the partition of `client` was read to an end that was asked for after it. How
    /// many there were.
    pub async fn over(&self, client: &str) -> u64 {
        loop {
            while self.is_late(self.now()) {
                // Rare, and nobody is woken by a beat.
                tokio::time::sleep(BEAT).await;
            }
            let count = self.count();
            if let Some(read) = self.partition(client) {
                // An error would be the end of the process.
                let _ = read.subscribe().wait_for(|read| *read >= count).await;
            }
            if self.are(count) {
                return count;
            }
        }
    }

    fn partition(&self, client: &str) -> Option<&watch::Sender<u64>> {
        let all = self.read.get().filter(|all| !all.is_empty())?;
        Some(&all[partition_for_key(client.as_bytes(), all.len() as u32) as usize])
    }

    /// Tells of each pause.
    pub(super) fn told(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }

    /// There are so many partitions.
    pub(super) fn partitions(&self, count: usize) {
        self.read.get_or_init(|| (0..count).map(|_| watch::Sender::default()).collect());
    }

    /// A partition was read to an end that was asked for after so many of them, and what followed of that is done.
    pub(super) fn read(&self, partition: i32, count: u64) {
        let all = self.read.get().map_or(&[][..], |all| all);
        if let Some(read) = all.get(partition as usize) {
            read.send_replace(count);
        }
    }

    /// Beats until the process ends; `tell` hears how long each pause was.
    pub(super) async fn run(&self, tell: impl Fn(Duration)) {
        self.beat.store(self.now(), Ordering::Release);
        loop {
            tokio::time::sleep(BEAT).await;
            if let Some(pause) = self.beats(self.now()) {
                tell(pause);
            }
        }
    }

    fn beats(&self, now: u64) -> Option<Duration> {
        let late = self.is_late(now);
        let pause = now.saturating_sub(self.beat.load(Ordering::Acquire));
        if late {
            let count = self.count.fetch_add(1, Ordering::Release) + 1;
            self.told.send_replace(count);
        }
        self.beat.store(now, Ordering::Release);
        late.then(|| Duration::from_millis(pause))
    }

    fn is_late(&self, now: u64) -> bool {
        now.saturating_sub(self.beat.load(Ordering::Acquire)) > LATE
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_beat_is_a_pause() {
        let pauses = Pauses::new();
        assert_eq!(pauses.beats(LATE), None);
        assert!(!pauses.is_late(2 * LATE) && pauses.is_late(2 * LATE + 1));
        assert_eq!(pauses.count(), 0, "nobody knows of it before the beat");
        assert_eq!(pauses.beats(3 * LATE), Some(Duration::from_millis(2 * LATE)));
        assert_eq!((pauses.count(), *pauses.told().borrow()), (1, 1));
        assert_eq!(pauses.beats(4 * LATE), None);
    }

    #[tokio::test]
    async fn it_is_over_for_a_client_when_its_partition_is_read() {
        let pauses = Pauses::new();
        pauses.partitions(4);
        let partition = partition_for_key(b"a", 4) as i32;
        assert_eq!(pauses.over("a").await, 0);
        pauses.beats(LATE);
        pauses.beats(3 * LATE);
        // The beat lies ahead of the clock, so it is not late.
        assert!(pauses.are(1) && !pauses.are(0));
        let over = pauses.over("a");
        tokio::pin!(over);
        let others = (0..4).filter(|other| *other != partition);
        others.for_each(|other| pauses.read(other, 1));
        assert!(now_or_never(over.as_mut()).is_none());
        pauses.read(partition, 1);
        assert_eq!(now_or_never(over.as_mut()), Some(1));
    }

    fn now_or_never<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match future.poll(&mut context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }
}
