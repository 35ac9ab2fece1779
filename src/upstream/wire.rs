//! What the two tasks of a connection and those who send on it share: requests in line, requests without an answer, and whether
//! the broker wants us to wait.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, atomic::AtomicU64},
    time::Duration,
};

use bytes::Bytes;
use kafka_protocol::{messages::ApiKey, protocol::StrBytes};
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use super::{connection::CallError, counters::Counters, pieces::Pieces};

/// Requests that may wait for an answer on one connection. Far above what the lanes send; a bound all the same.
const MOST_PENDING: usize = 1024;
/// The end that is nobody's fault.
pub(super) const CLOSED_BY_US: &str = "closed by us";
/// The longest that a broker can make us wait at a time. Brokers bound it by their quota window, some seconds; whoever asks for more
/// meets the request timeout.
const LONGEST_THROTTLE: Duration = Duration::from_secs(60);

/// One connection, as its tasks and its senders see it.
pub(super) struct Wire {
    /// Short: pushes and pops only.
    state: Mutex<WireState>,
    /// Rung when there is something to write.
    pub(super) outgoing: Notify,
    /// Rung when the connection is poisoned, for the reader, which may be asleep in a read.
    pub(super) poisoned: Notify,
    /// Rung at the same time, for all others.
    ended: Notify,
    /// Bytes that came, in all: who waits for an answer sees that it is on its way.
    pub(super) heard: AtomicU64,
    pub(super) client_id: StrBytes,
    pub(super) counters: Arc<Counters>,
}

#[derive(Default)]
struct WireState {
    frames: VecDeque<Frame>,
    pending: VecDeque<Pending>,
    next_correlation: i32,
    broken: Option<CallError>,
    /// It counts as connected, so its end counts, too.
    ready: bool,
    /// Nothing is written before (KIP-219).
    throttled: Option<Instant>,
    /// While we prove anew who we are.
    held: Option<Held>,
}

/// Requests that wait until the broker knows again who we are: in between it takes nothing but SASL (KIP-368).
struct Held {
    since: Instant,
    waiting: VecDeque<(Frame, Option<Reply>)>,
}

type Reply = oneshot::Sender<Result<Bytes, CallError>>;

/// A request that is not written yet.
pub(super) struct Frame {
    pub(super) pieces: Pieces,
    pub(super) deadline: Instant,
    /// Told when it is written, if no answer will come.
    pub(super) written: Option<oneshot::Sender<()>>,
}

/// A request whose answer has not come yet.
struct Pending {
    correlation: i32,
    deadline: Instant,
    reply: Reply,
}

/// What the writer is to do next.
pub(super) struct Due {
    /// To be written now.
    pub(super) frame: Option<Frame>,
    /// The oldest request must have its answer by then.
    pub(super) deadline: Option<Instant>,
    /// Nothing may be written before.
    pub(super) throttled: Option<Instant>,
}

/// The wait that an answer asks for, if any.
pub(super) fn throttle(milliseconds: i32) -> Option<Duration> {
    let wait = Duration::from_millis(u64::try_from(milliseconds).ok().filter(|ms| *ms > 0)?);
    Some(wait.min(LONGEST_THROTTLE))
}

impl Frame {
    /// Whether it belongs to an authentication. The API key stands behind the length.
    fn is_sasl(&self) -> bool {
        let key = i16::from_be_bytes([self.pieces.head[4], self.pieces.head[5]]);
        [ApiKey::SaslHandshake as i16, ApiKey::SaslAuthenticate as i16].contains(&key)
    }
}

impl WireState {
    fn put(&mut self, mut frame: Frame, reply: Option<Reply>) {
        let correlation = self.next_correlation;
        self.next_correlation = correlation.wrapping_add(1);
        // The id stands behind length (4), API key (2) and version (2).
        frame.pieces.head[8..12].copy_from_slice(&correlation.to_be_bytes());
        // Its time begins when it may leave.
        let held_back = self.throttled.map(|until| until.saturating_duration_since(Instant::now()));
        frame.deadline += held_back.unwrap_or_default();
        let deadline = frame.deadline;
        self.frames.push_back(frame);
        self.pending.extend(reply.map(|reply| Pending {
            correlation,
            deadline,
            reply,
        }));
    }
}

impl Wire {
    pub(super) fn new(client_id: &str, counters: &Arc<Counters>) -> Self {
        Self {
            state: Mutex::default(),
            outgoing: Notify::new(),
            poisoned: Notify::new(),
            ended: Notify::new(),
            heard: AtomicU64::new(0),
            client_id: StrBytes::from_string(client_id.to_owned()),
            counters: Arc::clone(counters),
        }
    }

    fn lock(&self) -> MutexGuard<'_, WireState> {
        self.state.lock().expect("no code that holds this lock panics")
    }

    /// Why it is closed, if it is.
    pub(super) fn broken(&self) -> Option<CallError> {
        self.lock().broken.clone()
    }

    /// Resolves once it is closed.
    pub(super) async fn closed(&self) {
        loop {
            let ended = self.ended.notified();
            if self.lock().broken.is_some() {
                return;
            }
            ended.await;
        }
    }

    /// Until when the broker wants no request, if it wants none now.
    pub(super) fn throttled(&self) -> Option<Instant> {
        self.lock().throttled.filter(|until| *until > Instant::now())
    }

    /// From here on its end counts as that of a connection. False: it has ended already.
    pub(super) fn set_ready(&self) -> bool {
        let mut state = self.lock();
        state.ready = state.broken.is_none();
        state.ready
    }

    /// The next to be written, and the times that count. `None`: it is poisoned.
    pub(super) fn due(&self) -> Option<Due> {
        let mut state = self.lock();
        if state.broken.is_some() {
            return None;
        }
        let now = Instant::now();
        state.throttled = state.throttled.filter(|until| *until > now);
        let throttled = state.throttled;
        Some(Due {
            frame: if throttled.is_none() { state.frames.pop_front() } else { None },
            deadline: state.pending.front().map(|p| p.deadline),
            throttled,
        })
    }

    /// The broker wants no request for so long, and serves none that is under way: their time counts from then on.
    pub(super) fn throttle(&self, milliseconds: i32) {
        let Some(wait) = throttle(milliseconds) else { return };
        let mut state = self.lock();
        let now = Instant::now();
        // Each answer of several that were in flight tells of the same quiet: only what it adds counts.
        let before = state.throttled.map_or(now, |until| until.max(now));
        let added = (now + wait).saturating_duration_since(before);
        state.throttled = Some(before + added);
        state.pending.iter_mut().for_each(|p| p.deadline += added);
        state.frames.iter_mut().for_each(|f| f.deadline += added);
        self.counters.throttled.inc_by(added.as_secs_f64());
        drop(state);
        self.outgoing.notify_one();
    }

    /// Puts a request in line; with `reply` an answer is waited for.
    pub(super) fn enqueue(&self, frame: Frame, reply: Option<Reply>) -> Result<(), CallError> {
        let mut state = self.lock();
        if let Some(why) = &state.broken {
            return Err(why.clone());
        }
        let held = state.held.as_ref().map_or(0, |held| held.waiting.len());
        if state.pending.len().max(state.frames.len()).max(held) >= MOST_PENDING {
            return Err(CallError::Unsendable("too many requests wait on one connection"));
        }
        match &mut state.held {
            Some(held) if !frame.is_sasl() => held.waiting.push_back((frame, reply)),
            _ => state.put(frame, reply),
        }
        drop(state);
        self.outgoing.notify_one();
        Ok(())
    }

    /// From here on only SASL leaves; what is under way is still answered. Gives the time by which all of that must be.
    pub(super) fn hold(&self) -> Option<Instant> {
        let mut state = self.lock();
        let (since, waiting) = (Instant::now(), VecDeque::new());
        state.held = Some(Held { since, waiting });
        state.pending.iter().map(|p| p.deadline).max()
    }

    /// What was held back leaves, in its order; its time begins now.
    pub(super) fn release(&self) {
        let mut state = self.lock();
        let Some(held) = state.held.take() else { return };
        let waited = held.since.elapsed();
        for (mut frame, reply) in held.waiting {
            frame.deadline += waited;
            state.put(frame, reply);
        }
        drop(state);
        self.outgoing.notify_one();
    }

    /// Ends the connection for `why`; everyone who waits is told. The first reason stays.
    pub(super) fn poison(&self, why: &str) -> CallError {
        self.poison_as(CallError::Broken(why.into()))
    }

    /// The same with a reason of another kind.
    pub(super) fn poison_as(&self, why: CallError) -> CallError {
        let mut state = self.lock();
        let ours = matches!(&why, CallError::Broken(why) if **why == *CLOSED_BY_US);
        let counts = state.ready && state.broken.is_none() && !ours;
        let why = state.broken.get_or_insert(why).clone();
        let pending = std::mem::take(&mut state.pending);
        let held = state.held.take();
        state.frames.clear();
        drop(state);
        if counts {
            self.counters.disconnects.inc();
        }
        let held = held.into_iter().flat_map(|held| held.waiting).filter_map(|(_, reply)| reply);
        for reply in pending.into_iter().map(|pending| pending.reply).chain(held) {
            // The receiver may be gone; then nobody asks any more.
            let _ = reply.send(Err(why.clone()));
        }
        self.outgoing.notify_one();
        self.poisoned.notify_one();
        self.ended.notify_waiters();
        why
    }

    /// Hands one frame to the request it answers.
    pub(super) fn settle(&self, frame: Bytes) -> Result<(), &'static str> {
        let correlation = frame.get(..4).map(|b| i32::from_be_bytes(b.try_into().expect("four bytes")));
        let waiting = {
            let mut state = self.lock();
            match (state.pending.front(), correlation) {
                (Some(front), Some(id)) if front.correlation == id => state.pending.pop_front(),
                _ => None,
            }
        };
        let waiting = waiting.ok_or("an answer that nobody asked for")?;
        let _ = waiting.reply.send(Ok(frame));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    fn frame(api: ApiKey, name: u8) -> Frame {
        let mut bytes = BytesMut::zeroed(13);
        bytes[4..6].copy_from_slice(&(api as i16).to_be_bytes());
        bytes[12] = name;
        Frame {
            pieces: Pieces::starting(bytes),
            deadline: Instant::now() + Duration::from_secs(10),
            written: None,
        }
    }

    fn send(wire: &Wire, api: ApiKey, name: u8) -> oneshot::Receiver<Result<Bytes, CallError>> {
        let (reply, answer) = oneshot::channel();
        wire.enqueue(frame(api, name), Some(reply)).unwrap();
        answer
    }

    /// The names of what may be written now, with their correlation ids.
    fn written(wire: &Wire) -> Vec<(u8, u8)> {
        std::iter::from_fn(|| wire.due()?.frame)
            .map(|frame| (frame.pieces.head[12], frame.pieces.head[11]))
            .collect()
    }

    #[tokio::test]
    async fn while_held_only_sasl_leaves_and_then_all_in_order() {
        let wire = Wire::new("test", &Arc::default());
        let mut before = send(&wire, ApiKey::Produce, 1);
        assert!(wire.hold().is_some());
        let mut held: Vec<_> = (2..5).map(|name| send(&wire, ApiKey::Produce, name)).collect();
        let mut sasl = send(&wire, ApiKey::SaslHandshake, 9);
        assert_eq!(written(&wire), [(1, 0), (9, 1)]);
        // Answers come in the order in which the requests left.
        for id in 0..2u8 {
            wire.settle(Bytes::from(vec![0, 0, 0, id])).unwrap();
        }
        assert!(before.try_recv().is_ok() && sasl.try_recv().is_ok());
        wire.release();
        assert_eq!(written(&wire), [(2, 2), (3, 3), (4, 4)]);
        for id in 2..5u8 {
            wire.settle(Bytes::from(vec![0, 0, 0, id])).unwrap();
        }
        for (answer, id) in held.iter_mut().zip(2..) {
            assert_eq!(answer.try_recv().unwrap().unwrap()[3], id);
        }
        drop(send(&wire, ApiKey::Produce, 6));
        assert_eq!(written(&wire), [(6, 5)]);
    }

    /// Five requests were in flight when the broker became tired of us: each answer tells of the same second.
    #[tokio::test]
    async fn throttle_times_of_answers_that_come_together_do_not_add_up() {
        let counters = Arc::<Counters>::default();
        let wire = Wire::new("test", &counters);
        let _answer = send(&wire, ApiKey::Produce, 1);
        let deadline = |wire: &Wire| wire.due().unwrap().deadline.unwrap();
        let before = deadline(&wire);
        for _ in 0..5 {
            wire.throttle(1000);
        }
        let grown = deadline(&wire) - before;
        assert!((1.0..1.5).contains(&grown.as_secs_f64()), "{grown:?}");
        assert!((1.0..1.5).contains(&counters.throttled.get()), "{}", counters.throttled.get());
    }

    #[tokio::test]
    async fn what_is_held_is_told_of_the_end_and_is_bounded() {
        let wire = Wire::new("test", &Arc::default());
        assert_eq!(wire.hold(), None);
        let mut held: Vec<_> = (0..MOST_PENDING).map(|_| send(&wire, ApiKey::Fetch, 0)).collect();
        let (reply, _) = oneshot::channel();
        let full = wire.enqueue(frame(ApiKey::Fetch, 0), Some(reply));
        assert!(matches!(full, Err(CallError::Unsendable(_))));
        let why = wire.poison("gone");
        for answer in &mut held {
            assert_eq!(answer.try_recv().unwrap(), Err(why.clone()));
        }
    }
}
