//! What the two tasks of a connection and those who send on it share: requests in line, requests without an answer, and whether
//! the broker wants us to wait.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use super::{connection::CallError, counters::Counters};

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
}

/// A request that is not written yet.
pub(super) struct Frame {
    pub(super) bytes: BytesMut,
    pub(super) deadline: Instant,
    /// Told when it is written, if no answer will come.
    pub(super) written: Option<oneshot::Sender<()>>,
}

/// A request whose answer has not come yet.
struct Pending {
    correlation: i32,
    deadline: Instant,
    reply: oneshot::Sender<Result<Bytes, CallError>>,
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

impl Wire {
    pub(super) fn new(client_id: &str, counters: &Arc<Counters>) -> Self {
        Self {
            state: Mutex::default(),
            outgoing: Notify::new(),
            poisoned: Notify::new(),
            ended: Notify::new(),
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
        self.counters.throttled_ms.inc_by(wait.as_millis() as u64);
        let mut state = self.lock();
        state.throttled = state.throttled.max(Some(Instant::now() + wait));
        state.pending.iter_mut().for_each(|p| p.deadline += wait);
        state.frames.iter_mut().for_each(|f| f.deadline += wait);
        drop(state);
        self.outgoing.notify_one();
    }

    /// Puts a request in line; with `reply` an answer is waited for.
    pub(super) fn enqueue(&self, mut frame: Frame, reply: Option<oneshot::Sender<Result<Bytes, CallError>>>) -> Result<(), CallError> {
        let mut state = self.lock();
        if let Some(why) = &state.broken {
            return Err(why.clone());
        }
        if state.pending.len() >= MOST_PENDING || state.frames.len() >= MOST_PENDING {
            return Err(CallError::Unsendable("too many requests wait on one connection"));
        }
        let correlation = state.next_correlation;
        state.next_correlation = correlation.wrapping_add(1);
        // The id stands behind length (4), API key (2) and version (2).
        frame.bytes[8..12].copy_from_slice(&correlation.to_be_bytes());
        // Its time begins when it may leave.
        let held_back = state.throttled.map(|until| until.saturating_duration_since(Instant::now()));
        frame.deadline += held_back.unwrap_or_default();
        let deadline = frame.deadline;
        state.frames.push_back(frame);
        state.pending.extend(reply.map(|reply| Pending {
            correlation,
            deadline,
            reply,
        }));
        drop(state);
        self.outgoing.notify_one();
        Ok(())
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
        state.frames.clear();
        drop(state);
        if counts {
            self.counters.disconnects.inc();
        }
        for waiting in pending {
            // The receiver may be gone; then nobody asks any more.
            let _ = waiting.reply.send(Err(why.clone()));
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
