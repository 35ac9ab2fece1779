//! The loop of one MQTT connection: a table of contents whose verbs live in the sibling files.
//!
//! One input, then drain: whatever woke the loop is given to the session, the session's outputs are acted on, and all
//! that is to be written leaves with one write. Nothing here waits while a lock is held.

mod last_words;
mod reading;
mod taking;
mod waking;
mod within;

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use tokio::{
    sync::Notify,
    time::{Sleep, sleep_until, timeout},
};

use super::{Shared, allowance, desk::Desk, guard::Guard, pace::Pace};
use crate::{
    downstream::{Fill, Link, Ready},
    mqtt::codec::{Decoder, Role},
    session::Session,
};
use reading::Clocks;
use waking::Awake;
use within::Within;

/// How long the last bytes may take to leave.
const LAST_WRITE: std::time::Duration = std::time::Duration::from_secs(5);
/// So much later than it was due a deadline is looked at only by a process that did not run, or hardly.
const OVERSLEPT: std::time::Duration = std::time::Duration::from_millis(250);

/// One MQTT connection.
pub struct Connection {
    link: Link,
    session: Session,
    decoder: Decoder,
    /// What the relay keeps for this connection.
    desk: Desk,
    /// Rung by the mailbox and by receipts.
    wake: Arc<Notify>,
    /// One timer that is only moved when it fires or is needed sooner: most deadlines move on with every packet.
    alarm: Option<Pin<Box<Sleep>>>,
    /// Whether the socket is read at the moment.
    reading: bool,
    /// How the session's clocks go.
    clocks: Clocks,
    /// Bytes in the outbox at the end of the last turn.
    unsent: u32,
    /// Since when, in tenths of a second of this connection, nothing is known to have left of what waits; zero: nothing waits. Small, as each connection has it.
    stuck: u16,
    /// Of a client whose speed is limited.
    pace: Option<Box<Pace>>,
    /// Of one that speaks for a stored session.
    awake: Option<Box<Awake>>,
    /// The connection ends when the client's last words are heard, and by then at the latest. It is given no messages any more.
    ends_by: Option<Box<Instant>>,
}

/// What ended a wait.
#[derive(Clone, Copy)]
enum Event {
    /// Something lies in the mailbox or among the receipts, a wait for memory or a topic may be over, or the clock.
    Woken,
    /// The socket.
    Socket(Ready),
    /// A fault of the socket.
    Lost,
}

impl Connection {
    fn new(mut link: Link, shared: Arc<Shared>) -> Self {
        let now = Instant::now();
        let wake = Arc::new(Notify::new());
        let opened = link.connect_deadline().checked_sub(shared.settings.session.connect_timeout);
        let session = Session::new(shared.settings.session.clone(), opened.unwrap_or(now));
        let most = shared.settings.session.connect_size();
        link.set_max_packet_size(most);
        let decoder = Decoder {
            version: None,
            role: Role::Server,
            max_packet_size: most,
        };
        let pace = Pace::new(shared.settings.rate, now);
        let guard = Guard::new(&link, &shared.settings.access);
        let desk = Desk::new(shared, &wake, guard);
        Self {
            link,
            session,
            decoder,
            desk,
            wake,
            alarm: None,
            reading: true,
            clocks: Clocks::Go,
            unsent: 0,
            stuck: 0,
            pace,
            awake: None,
            ends_by: None,
        }
    }

    /// Runs until the session is over and its last bytes are written, and drops `alive` then.
    ///
    /// Not an `async fn`: the memory of one holds its arguments beside the connection that is made of them, for as long as it runs.
    pub fn serve(link: Link, shared: Arc<Shared>, alive: impl Send + 'static) -> impl Future<Output = ()> + Send {
        // Only where debug lines are asked for, and then with each of them: a client id may be empty, or not its own.
        let span = tracing::debug_span!("connection", peer = %link.peer(), listener = link.listener());
        let mut connection = span.in_scope(|| Self::new(link, shared));
        let served = async move {
            connection.run().await;
            // Boxed: the task of an idle connection has no room for its end.
            Box::pin(connection.finish()).await;
            drop(alive);
        };
        Within::new(span, served)
    }

    /// Until the session is over. As [`Connection::serve`] no `async fn`.
    #[expect(clippy::manual_async_fn, reason = "its memory would hold `self` twice")]
    fn run(&mut self) -> impl Future<Output = ()> + Send {
        async move {
            loop {
                if !Awake::is_sure(self.awake.as_deref()) {
                    // Boxed: rare, and the task of an idle connection has no room for it.
                    Box::pin(self.make_sure()).await;
                }
                self.turn();
                if self.session.is_closed() {
                    break;
                }
                self.session.speak();
                let is_used_up = allowance::is_used_up();
                // One that is blocked has what it waits for, however dear it was: looked at again at once it would be as dear once more.
                let event = self.wait(is_used_up && !self.desk.is_blocked()).await;
                self.heed(event);
                if is_used_up {
                    // Boxed: rare, and the task of an idle connection has no room for it.
                    Box::pin(allowance::next_turn()).await;
                }
            }
        }
    }

    fn heed(&mut self, event: Event) {
        match event {
            Event::Woken | Event::Socket(Ready::Bytes | Ready::Written) => {}
            Event::Socket(Ready::Deaf) => self.begin_last_words(Instant::now()),
            Event::Socket(Ready::Part) => {
                self.session.waits_for_rest(0, Instant::now());
            }
            Event::Socket(Ready::End) | Event::Lost => self.session.lost(Instant::now()),
        }
    }

    /// Everything that can be done without waiting.
    fn turn(&mut self) {
        allowance::begin();
        let now = Instant::now();
        if let Some(pace) = &mut self.pace {
            pace.regard(now);
        }
        self.regard_taking(now);
        self.regard_sleep(now);
        self.regard_rest(now);
        self.desk.regard_expiry(&mut self.session, now);
        self.regard_unread(now);
        self.session.tick(now);
        self.desk.regard_enhanced(&mut self.session, now);
        self.desk.read_letters(&mut self.session, now);
        self.desk.read_receipts(&mut self.session, now);
        self.admit(now);
        self.read_packets(now);
        if self.admit(now) {
            self.read_packets(now);
        }
        if std::mem::take(&mut self.desk.takes_over) {
            self.tell_takeover("takes_the_client_id", now);
        }
        if let Some(ending) = self.desk.ending.take() {
            self.begin_to_end(ending, now);
        }
        self.regard_deaf(now);
        if self.ends_by.is_none() {
            self.desk.hand_out(&mut self.session, now);
        }
        self.desk.drain(&mut self.session, now);
        self.desk.act(&mut self.session, None, now);
        self.desk.count_packets(&mut self.session);
        self.regard_pauses();
        self.regard_reading(now);
        if self.session.is_live() {
            self.link.served();
        }
    }

    /// A process that has not run for a while (stopped, a virtual machine that is moved) hears that a client's time is over before it hears of what that
    /// has said meanwhile, which lies in the socket: epoll gives nothing to who was just woken.
    fn regard_sleep(&mut self, now: Instant) {
        let is_late = |deadline| now.saturating_duration_since(deadline) > OVERSLEPT;
        if self.session.is_live() && self.session.deadline().is_some_and(is_late) {
            self.session.slept(now);
        }
    }

    /// Lets a CONNECT in that waits, unless its client has given it up meanwhile: a clean start would discard the session that the client
    /// has resumed elsewhere. One that has said more behind it wants that to be heard. True if it may go on: it was let in, or is to answer AUTH.
    fn admit(&mut self, now: Instant) -> bool {
        if self.desk.admission.is_none() {
            return false;
        }
        let looks = self.desk.shared.store.is_some() && self.link.input().is_empty();
        let mut context = Context::from_waker(Waker::noop());
        if looks && let Poll::Ready(Ok(Fill::End) | Err(_)) = self.link.poll_fill(&mut context) {
            self.session.lost(now);
        }
        self.desk.admit(&mut self.session, self.link.peer(), now);
        self.session.is_live() || self.session.is_challenged()
    }

    /// Until there is something to do. A turn that was cut short is to go on: then nothing is waited for, and what can be written leaves.
    async fn wait(&mut self, is_cut_short: bool) -> Event {
        self.set_alarm();
        let reads = self.reading || self.looks_for_its_end();
        let Self {
            link,
            session,
            desk,
            wake,
            alarm,
            awake,
            ..
        } = self;
        let mut ready = pin!(link.ready(session.outbox(), reads));
        let ready = poll_fn(|context| Awake::poll(awake.as_deref(), context, |context| ready.as_mut().poll(context)));
        tokio::select! {
            biased;
            // Whoever rings all the time would keep it from the socket.
            () = wake.notified(), if !is_cut_short => Event::Woken,
            ready = ready => ready.map_or(Event::Woken, |ready| ready.map_or(Event::Lost, Event::Socket)),
            () = std::future::ready(()), if is_cut_short => Event::Woken,
            () = desk.unblocked() => Event::Woken,
            () = ring(alarm) => Event::Woken,
        }
    }

    fn set_alarm(&mut self) {
        let deadlines = [
            self.session.deadline(),
            self.desk.deadline(),
            self.paced(),
            self.ends_by.as_deref().copied(),
            self.stuck_until(),
        ];
        let Some(due) = deadlines.into_iter().flatten().min() else {
            return self.alarm = None;
        };
        match &mut self.alarm {
            Some(alarm) if !alarm.is_elapsed() && alarm.deadline().into_std() <= due => {}
            Some(alarm) => alarm.as_mut().reset(due.into()),
            None => self.alarm = Some(Box::pin(sleep_until(due.into()))),
        }
    }

    /// A will is the last that is heard of a client: it is due when Kafka has what was published before it, or when it is clear that it never will.
    async fn settle(&mut self) {
        let longest = self.desk.shared.settings.delivery_timeout;
        let all = async {
            self.desk.drop_receipts();
            while self.desk.holds_will() {
                self.wake.notified().await;
                self.desk.drop_receipts();
            }
        };
        let _ = timeout(longest, all).await;
    }

    /// Writes what is left, closes the socket, gives everything back.
    async fn finish(mut self) {
        self.settle().await;
        let Self {
            mut link,
            mut session,
            mut desk,
            awake,
            ..
        } = self;
        desk.leave(&session);
        // A peer that takes nothing any more, or is gone, leaves nothing more to do.
        let last = async {
            match Awake::is_sure(awake.as_deref()) || session.is_hushed() {
                true => link.flush(session.outbox()).await,
                false => Ok(()),
            }
        };
        let _ = timeout(LAST_WRITE, last).await;
        // A will that waits is memory: until it is placed nobody else gets this place.
        let _seat = link.close().await;
        desk.send_will(session.client_id()).await;
    }
}

async fn ring(alarm: &mut Option<Pin<Box<Sleep>>>) {
    match alarm {
        Some(alarm) => alarm.as_mut().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
