//! Turns of young connections: few of them at a time stand before those who are served.
//!
//! The runtime takes tasks in the order in which they are woken. A flood of connections (their handshakes, and the largest packets that somebody sends
//! as his first) would put a tenth of a second of work before every turn of those who are connected for long, though the processor is not even
//! busy all the time. So a connection whose client is not let in yet, and one in its first seconds and turns, takes a turn only when one of a few places
//! is free, in the order in which they ask. Without a flood there always is one.

use std::cell::Cell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::yield_now;

/// So long a connection is young, from its accept on, or until its client is let in,
const YOUTH: Duration = Duration::from_secs(10);
/// if it does not have so many turns behind that: more than a large first packet takes. A device that has come, and is at its work, is served. Turns
/// before CONNECT do not count: whoever likes can have many, a byte of his ClientHello at a time, and keep what costs most for their end.
const TURNS: u8 = 64;
/// Places for each thread of the runtime. As long as anybody waits the next of them stands in the queue; more of them would take the others' part
/// of a processor that is too small for all.
const EACH: usize = 1;

/// After young ones had so much of a thread their next turn comes when the sockets were looked at: a handshake takes about as much. A look costs some µs.
const LOOK: Duration = Duration::from_micros(200);

thread_local! {
    /// What turns of young ones took of this thread since the sockets were looked at for one of them.
    static SPENT: Cell<Duration> = const { Cell::new(Duration::ZERO) };
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
    left: u8,
    /// Its client is let in.
    served: bool,
    turns: Turns,
    place: Place,
}

enum Place {
    /// It has none, and needs none.
    None,
    /// It has asked for one.
    Asked(Pin<Box<dyn Future<Output = OwnedSemaphorePermit> + Send>>),
    /// It has one, and waits for the runtime to look at the sockets.
    Taken(OwnedSemaphorePermit),
    /// It stands in the queue with it.
    Queued(OwnedSemaphorePermit),
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

    /// For a place that is not free.
    fn ask(&self) -> Pin<Box<dyn Future<Output = OwnedSemaphorePermit> + Send>> {
        let places = self.0.clone();
        Box::pin(async move { places.acquire_owned().await.expect("they are never closed") })
    }

    /// Of a connection that was accepted at `opened`.
    pub(super) fn of<F: Future>(&self, opened: Instant, connection: F) -> InTurn<F> {
        let young = Young {
            until: opened + YOUTH,
            left: TURNS,
            served: false,
            turns: self.clone(),
            place: Place::None,
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
    ///
    /// Who had to wait for it may have to wait there until the sockets have been looked at. The runtime does that by itself only after so many turns,
    /// each of which may be a handshake, and those who are served would wait for them all before anybody knows that they have something to do.
    fn poll_place(&mut self, context: &mut Context<'_>) -> Poll<OwnedSemaphorePermit> {
        let place = match std::mem::replace(&mut self.place, Place::None) {
            Place::Queued(place) => return Poll::Ready(place),
            Place::Taken(place) => Ok(place),
            Place::Asked(asked) => Err(asked),
            Place::None => self.turns.0.clone().try_acquire_owned().map_err(|_| self.turns.ask()),
        };
        match place.map_err(|mut asked| (asked.as_mut().poll(context), asked)) {
            Err((Poll::Pending, asked)) => self.place = Place::Asked(asked),
            Err((Poll::Ready(place), _)) if SPENT.get() >= LOOK => {
                SPENT.set(Duration::ZERO);
                self.place = Place::Taken(place);
                // Its first poll has the runtime wake this when it has looked, and there is nothing behind that.
                let _ = pin!(yield_now()).poll(context);
            }
            Err((Poll::Ready(place), _)) | Ok(place) => {
                self.place = Place::Queued(place);
                // To the end of the queue: who is woken by another task, or by the runtime, comes next, before all that wait.
                context.waker().wake_by_ref();
            }
        }
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
        let began = Instant::now();
        let polled = this.connection.poll(context);
        SPENT.set(SPENT.get().saturating_add(began.elapsed()));
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

    /// In a flood of young ones, each of whose turns is as long as a handshake, something comes for who is served, between two looks that the runtime takes
    /// by itself.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn the_sockets_are_looked_at_between_long_turns_of_young_ones() {
        use tokio::io::AsyncReadExt;
        let (turns, done) = (turns(1), Arc::new(AtomicUsize::new(0)));
        let (mut near, far) = tokio::net::UnixStream::pair().unwrap();
        let far = far.into_std().unwrap();
        let served = tokio::spawn({
            let done = done.clone();
            async move {
                let mut behind = vec![];
                while let Ok(at) = near.read_u32().await {
                    behind.push(done.load(Relaxed) - at as usize);
                }
                behind
            }
        });
        let far = Arc::new(std::sync::Mutex::new(far));
        let flood: Vec<_> = (0..100)
            .map(|_| {
                let (done, far) = (done.clone(), far.clone());
                tokio::spawn(turns.of(Instant::now(), async move {
                    for _ in 0..10 {
                        let now = done.fetch_add(1, Relaxed) + 1;
                        if now.is_multiple_of(50) {
                            std::io::Write::write_all(&mut &*far.lock().unwrap(), &(now as u32).to_be_bytes()).unwrap();
                        }
                        let began = Instant::now();
                        while began.elapsed() < LOOK {
                            std::hint::spin_loop();
                        }
                        next_turn().await;
                    }
                }))
            })
            .collect();
        for one in flood {
            one.await.unwrap();
        }
        drop(far);
        let behind = served.await.unwrap();
        assert_eq!(behind.len(), 1_000 / 50);
        assert!(behind.iter().all(|turns| *turns <= 1), "{behind:?}");
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
            for _ in 0..10 * u32::from(TURNS) {
                next_turn().await;
                assert_eq!(places.available_permits(), 0, "it has one");
            }
        };
        turns.of(long_ago(), connection).await;
    }
}
