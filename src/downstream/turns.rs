//! Turns of young connections: few of them at a time stand before those who are served.
//!
//! The runtime takes tasks in the order in which they are woken. A flood of connections (their handshakes, and the largest packets that somebody sends
//! as his first) would put a tenth of a second of work before every turn of those who are connected for long, though the processor is not even
//! busy all the time. So a connection whose client is not let in yet, and one in its first seconds and turns, takes a turn only when one of a few places
//! is free, in the order in which they ask. Without a flood there always is one.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So long a connection is young, from its accept on, or until its client is let in,
const YOUTH: Duration = Duration::from_secs(10);
/// if it does not have so many turns behind that: more than a large first packet takes. A device that has come, and is at its work, is served. Turns
/// before CONNECT do not count: whoever likes can have many, a byte of his ClientHello at a time, and keep what costs most for their end.
const TURNS: u32 = 64;
/// Places for each thread of the runtime. As long as anybody waits the next of them stands in the queue; more of them would take the others' part
/// of a processor that is too small for all.
const EACH: usize = 1;

thread_local! {
    /// In the turn that this thread gives, the connection was said to be served.
    static SERVED: Cell<bool> = const { Cell::new(false) };
}

/// Told in each turn of a connection whose client is let in.
pub(super) fn served() {
    SERVED.set(true);
}

/// Whether the turn that this thread has just given was of a connection whose client is let in.
#[cfg(test)]
pub fn was_served() -> bool {
    SERVED.take()
}

/// The places of all listeners.
#[derive(Clone, Debug)]
pub(super) struct Turns(Arc<Semaphore>);

pin_project! {
    /// What a connection is about, in its turns.
    #[derive(Debug)]
    pub(super) struct InTurn<F> {
        young: Option<Box<Young>>,
        #[pin]
        connection: F,
    }
}

/// Its memory goes with the first turn after the connection's youth.
struct Young {
    until: Instant,
    /// Turns that it has left, once its client is let in.
    left: u32,
    /// Its client is let in.
    served: bool,
    turns: Turns,
    /// It has asked for a place.
    asked: Option<Pin<Box<dyn Future<Output = OwnedSemaphorePermit> + Send>>>,
    /// It has one, and stands in the queue.
    place: Option<OwnedSemaphorePermit>,
}

impl std::fmt::Debug for Young {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Young").field("until", &self.until).finish_non_exhaustive()
    }
}

impl Turns {
    /// For a runtime of so many threads.
    pub(super) fn new(threads: usize) -> Self {
        Self(Arc::new(Semaphore::new(EACH * threads.max(1))))
    }

    /// Of a connection that was accepted at `opened`.
    pub(super) fn of<F: Future>(&self, opened: Instant, connection: F) -> InTurn<F> {
        let young = Young {
            until: opened + YOUTH,
            left: TURNS,
            served: false,
            turns: self.clone(),
            asked: None,
            place: None,
        };
        InTurn {
            young: Some(Box::new(young)),
            connection,
        }
    }
}

impl Young {
    fn is_young(&self) -> bool {
        !self.served || self.left > 0 && Instant::now() < self.until
    }

    /// A place, which is taken before this stands in the runtime's queue and not when its turn there has come: they go to those who ask first.
    fn poll_place(&mut self, context: &mut Context<'_>) -> Poll<OwnedSemaphorePermit> {
        if let Some(place) = self.place.take() {
            return Poll::Ready(place);
        }
        let places = &self.turns.0;
        let free = self.asked.is_none().then(|| places.clone().try_acquire_owned().ok()).flatten();
        let ask = || {
            let places = places.clone();
            Box::pin(async move { places.acquire_owned().await.expect("they are never closed") }) as _
        };
        let place = match free {
            Some(place) => place,
            None => ready!(self.asked.get_or_insert_with(ask).as_mut().poll(context)),
        };
        self.asked = None;
        self.place = Some(place);
        // To the end of the queue: who is woken by another task comes next, before all that wait.
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<F: Future> Future for InTurn<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let Some(young) = this.young.as_mut().filter(|young| young.is_young()) else {
            *this.young = None;
            return this.connection.poll(context);
        };
        // Until the end of this turn.
        let _place = ready!(young.poll_place(context));
        SERVED.set(false);
        let polled = this.connection.poll(context);
        if SERVED.take() {
            young.served = true;
            young.left = young.left.saturating_sub(1);
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use tokio::task::yield_now;

    fn turns(places: usize) -> Turns {
        Turns(Arc::new(Semaphore::new(places)))
    }

    /// To the end of the queue; tokio's own waits for the reactor's turn.
    async fn next_turn() {
        let mut is_first = true;
        poll_fn(|context| {
            if !std::mem::take(&mut is_first) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// A flood of young ones that always have something to do, and one that is served: it has a turn after as many of theirs as there are places.
    async fn who_is_served_waits_for_three_turns() {
        let (turns, done) = (turns(3), Arc::new(AtomicUsize::new(0)));
        let busy = |done: Arc<AtomicUsize>| async move {
            for _ in 0..10 {
                done.fetch_add(1, Relaxed);
                next_turn().await;
            }
        };
        let flood: Vec<_> = (0..100)
            .map(|_| tokio::spawn(turns.of(Instant::now(), busy(done.clone()))))
            .collect();
        let served = tokio::spawn(async move {
            let mut most = 0;
            while done.load(Relaxed) < 1_000 {
                let before = done.load(Relaxed);
                next_turn().await;
                most = most.max(done.load(Relaxed) - before);
            }
            most
        });
        let most = served.await.unwrap();
        assert!(most <= 3, "{most}");
        for one in flood {
            one.await.unwrap();
        }
        assert_eq!(turns.0.available_permits(), 3);
    }

    #[tokio::test]
    async fn who_is_served_waits_for_no_more_turns_of_young_ones_than_there_are_places() {
        who_is_served_waits_for_three_turns().await;
    }

    /// The proxy's kind of runtime, where the task that another one wakes comes before those in the queue.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn nor_where_who_is_woken_comes_first() {
        who_is_served_waits_for_three_turns().await;
    }

    #[tokio::test]
    async fn one_that_is_gone_while_it_waits_and_one_that_waits_itself_keep_no_place() {
        let turns = turns(1);
        let held = turns.0.clone().try_acquire_owned().unwrap();
        let gone = tokio::spawn(turns.of(Instant::now(), async {}));
        let next = tokio::spawn(turns.of(Instant::now(), async {}));
        yield_now().await;
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        let asleep = tokio::spawn(turns.of(Instant::now(), std::future::pending::<()>()));
        drop(held);
        next.await.unwrap();
        yield_now().await;
        assert_eq!(turns.0.available_permits(), 1);
        asleep.abort();
    }

    fn long_ago() -> Instant {
        Instant::now().checked_sub(YOUTH).expect("the clock is older")
    }

    /// In a turn that takes no place: it goes on also while all are taken.
    async fn takes_none(places: Arc<Semaphore>) {
        assert_eq!(places.available_permits(), 1, "it has none itself");
        let _held = places.try_acquire_owned().unwrap();
        next_turn().await;
    }

    #[tokio::test]
    async fn who_is_let_in_and_young_no_more_needs_no_place() {
        let turns = turns(1);
        let places = turns.0.clone();
        let connection = async move {
            served();
            next_turn().await;
            takes_none(places).await;
        };
        turns.of(long_ago(), connection).await;
    }

    #[tokio::test]
    async fn who_has_had_its_turns_is_young_no_more() {
        let turns = turns(1);
        let places = turns.0.clone();
        let connection = async move {
            for _ in 0..TURNS {
                assert_eq!(places.available_permits(), 0, "it has one");
                served();
                next_turn().await;
            }
            takes_none(places).await;
        };
        turns.of(Instant::now(), connection).await;
    }

    /// As somebody who sends his ClientHello a byte at a time.
    #[tokio::test]
    async fn who_is_not_let_in_stays_young_for_ever() {
        let turns = turns(1);
        let places = turns.0.clone();
        let connection = async move {
            for _ in 0..10 * TURNS {
                next_turn().await;
                assert_eq!(places.available_permits(), 0, "it has one");
            }
        };
        turns.of(long_ago(), connection).await;
    }
}
