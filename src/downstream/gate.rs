//! How many connections may be open, and how many may come in a second: at all listeners together, at one, from one address.
//!
//! What does not get in is closed and counted. It is not left in the kernel's queue: a device that is refused at once
//! backs off, one that hangs tries again beside the first attempt and makes the storm larger.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::audit::{Audit, Event, Whom};
use crate::metrics::{ConnectionRefusal, ListenerCounters};

use super::addresses::{Addresses, network_of};
use super::settings::{Limits, ListenerLimits};
use super::turns::Turns;

/// The limits that all listeners share.
#[derive(Debug)]
pub struct Gate {
    limits: Limits,
    open: AtomicU32,
    /// Only accept loops take this lock, and never over an await.
    rate: Mutex<Option<TokenBucket>>,
    /// Connections open from each address; only if there is a limit for it.
    addresses: Option<Addresses>,
    audit: Audit,
    /// Young connections of all listeners take turns.
    pub(super) turns: Turns,
}

impl Gate {
    /// A gate with nothing open and a full second's worth of connects.
    pub fn new(limits: Limits) -> Arc<Self> {
        let rate = limits.connect_rate.map(|rate| TokenBucket::full(rate.get(), Instant::now()));
        Arc::new(Self {
            limits,
            open: AtomicU32::new(0),
            rate: Mutex::new(rate),
            addresses: limits.connections_per_address.map(Addresses::new),
            audit: Audit::default(),
            // As many as the runtime has threads.
            turns: Turns::new(std::thread::available_parallelism().map_or(1, usize::from)),
        })
    }

    /// Connections open now, handshakes included.
    pub fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// Takes a seat for one connection, or says why not. Rates are asked when its client is known, by [`Seat::enter`].
    pub(super) fn admit(self: &Arc<Self>, listener: &Arc<ListenerState>, peer: SocketAddr) -> Result<Seat, ConnectionRefusal> {
        take_one(&self.open, self.limits.connections).ok_or(ConnectionRefusal::Limit)?;
        let connections = listener.limits.connections.unwrap_or(u32::MAX);
        if take_one(&listener.open, connections).is_none() {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(ConnectionRefusal::ListenerLimit);
        }
        listener.counters.current.inc();
        // From here on it leaves what it has taken by being dropped.
        Ok(Seat {
            gate: self.clone(),
            listener: listener.clone(),
            address: None,
            peer,
        })
    }
}

fn take_one(open: &AtomicU32, most: u32) -> Option<u32> {
    let below = |open: u32| (open < most).then_some(open + 1);
    open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, below).ok()
}

fn has_token(rate: &Mutex<Option<TokenBucket>>, now: Instant) -> bool {
    let mut rate = rate.lock().unwrap_or_else(PoisonError::into_inner);
    rate.as_mut().is_none_or(|bucket| bucket.take(now))
}

/// What the connections of one listener share.
#[derive(Debug)]
pub(super) struct ListenerState {
    pub(super) name: Box<str>,
    pub(super) counters: ListenerCounters,
    limits: ListenerLimits,
    open: AtomicU32,
    rate: Mutex<Option<TokenBucket>>,
    /// When it was last told that a limit refuses connections.
    told: Mutex<Option<Instant>>,
}

/// A storm of refusals is one log line in so long.
const TELL_AGAIN: Duration = Duration::from_secs(60);

impl ListenerState {
    pub(super) fn new(name: &str, counters: ListenerCounters, limits: ListenerLimits) -> Self {
        let rate = limits.connect_rate.map(|rate| TokenBucket::full(rate.get(), Instant::now()));
        Self {
            name: name.into(),
            counters,
            limits,
            open: AtomicU32::new(0),
            rate: Mutex::new(rate),
            told: Mutex::default(),
        }
    }

    /// Counts a connection that a limit refuses; the first in a while is told.
    pub(super) fn refuse(&self, reason: ConnectionRefusal, now: Instant) {
        self.counters.refused(reason);
        if self.is_news(now) {
            let (listener, reason) = (&*self.name, reason.as_str());
            tracing::warn!(
                listener,
                reason,
                "connections are refused (said once a minute); `limits` in the configuration says how many may come"
            );
        }
    }

    fn is_news(&self, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let news = told.is_none_or(|last| now.saturating_duration_since(last) >= TELL_AGAIN);
        if news {
            *told = Some(now);
        }
        news
    }
}

/// One connection's place; leaving it is dropping it.
#[derive(Debug)]
pub struct Seat {
    gate: Arc<Gate>,
    pub(super) listener: Arc<ListenerState>,
    /// Under which it is counted among those of its address. Boxed: most have no such limit.
    address: Option<Box<IpAddr>>,
    /// Where the connection comes from, as far as it is known.
    pub(super) peer: SocketAddr,
}

impl Seat {
    /// Lets the connection of this client in, whose address a balancer may have had to tell first; `None`: it has none. Limits are asked
    /// before rates: an address that has its part spends no token of the others.
    pub(super) fn enter(&mut self, client: Option<IpAddr>, now: Instant) -> Result<(), ConnectionRefusal> {
        if let Some(client) = client {
            self.come_from(client)?;
        }
        if !has_token(&self.listener.rate, now) {
            return Err(ConnectionRefusal::ListenerRate);
        }
        if !has_token(&self.gate.rate, now) {
            return Err(ConnectionRefusal::Rate);
        }
        self.listener.counters.opened.inc();
        Ok(())
    }

    /// Counts the connection among those of its client's address.
    fn come_from(&mut self, client: IpAddr) -> Result<(), ConnectionRefusal> {
        let Some(addresses) = &self.gate.addresses else {
            return Ok(());
        };
        let network = network_of(client);
        if !addresses.enter(network) {
            return Err(ConnectionRefusal::AddressLimit);
        }
        self.address = Some(Box::new(network));
        Ok(())
    }

    /// Tells the audit log of a client whose certificate is refused.
    pub(super) fn tell_certificate(&self, client: SocketAddr, reason: &str) {
        let whom = Whom {
            client: "",
            identity: "",
            peer: Some(client),
        };
        self.gate.audit.tell(Event::Certificate, whom, "", reason, Instant::now());
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        self.gate.limits.connect_timeout
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // tokio catches the panic of a task, but what lives in it is dropped while it unwinds.
        if std::thread::panicking() {
            self.listener.counters.panics.inc();
            tracing::error!(peer = %self.peer, "a connection's task panicked; only that connection ended");
        }
        self.gate.open.fetch_sub(1, Ordering::Relaxed);
        self.listener.counters.current.dec();
        self.listener.open.fetch_sub(1, Ordering::Relaxed);
        if let (Some(addresses), Some(network)) = (&self.gate.addresses, &self.address) {
            addresses.leave(**network);
        }
    }
}

/// Fills at `per_second`, holds one second's worth. Counted in nanoseconds of credit, so nothing is rounded away.
#[derive(Debug)]
struct TokenBucket {
    /// What one token costs, in nanoseconds of waiting.
    cost: u64,
    credit: u64,
    last: Instant,
}

/// What a bucket holds at most: one second.
const FULL: u64 = 1_000_000_000;

impl TokenBucket {
    fn full(per_second: u32, now: Instant) -> Self {
        Self {
            cost: FULL / u64::from(per_second.max(1)),
            credit: FULL,
            last: now,
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.last).as_nanos();
        self.credit = FULL.min(self.credit.saturating_add(u64::try_from(passed).unwrap_or(FULL)));
        // Of two threads the later one may have looked at the clock earlier: no time is counted twice.
        self.last = self.last.max(now);
        let enough = self.credit >= self.cost;
        if enough {
            self.credit -= self.cost;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_a_second_at_once_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::full(4, start);
        let taken = |bucket: &mut TokenBucket, at: u64| (0..100).take_while(|_| bucket.take(start + Duration::from_millis(at))).count();
        assert_eq!(taken(&mut bucket, 0), 4);
        assert_eq!(taken(&mut bucket, 249), 0);
        assert_eq!(taken(&mut bucket, 250), 1);
        assert_eq!(taken(&mut bucket, 1_000), 3);
        assert_eq!(taken(&mut bucket, 60_000), 4, "a long rest saves no more than a second");
    }

    #[test]
    fn an_address_that_has_its_part_spends_no_token_of_the_others() {
        let gate = Gate::new(Limits {
            connections_per_address: Some(1),
            connect_rate: std::num::NonZeroU32::new(2),
            ..Limits::default()
        });
        let own = ListenerLimits {
            connect_rate: std::num::NonZeroU32::new(2),
            ..ListenerLimits::default()
        };
        let state = Arc::new(ListenerState::new("tcp", crate::metrics::Metrics::new().listener("tcp"), own));
        let now = Instant::now();
        let enter = |last: u8| {
            let mut seat = gate.admit(&state, ([10, 0, 0, last], 1).into())?;
            seat.enter(Some(IpAddr::from([10, 0, 0, last])), now).map(|()| seat)
        };
        let first = enter(1).unwrap();
        for _ in 0..10 {
            assert_eq!(enter(1).unwrap_err(), ConnectionRefusal::AddressLimit);
        }
        let second = enter(2).unwrap();
        assert_eq!(enter(3).unwrap_err(), ConnectionRefusal::ListenerRate);
        assert_eq!(gate.open(), 2, "who was refused has left");
        assert_eq!(state.counters.opened.get(), 2);
        drop((first, second));
    }

    #[test]
    fn a_storm_of_refusals_is_one_line_a_minute() {
        let state = ListenerState::new("tcp", crate::metrics::Metrics::new().listener("tcp"), ListenerLimits::default());
        let start = Instant::now();
        let news: Vec<u64> = (0..200).filter(|s| state.is_news(start + Duration::from_secs(*s))).collect();
        assert_eq!(news, [0, 60, 120, 180]);
    }

    #[test]
    fn a_clock_that_steps_back_gives_nothing_and_breaks_nothing() {
        let start = Instant::now() + Duration::from_secs(10);
        let mut bucket = TokenBucket::full(1, start);
        assert!(bucket.take(start));
        assert!(!bucket.take(start - Duration::from_secs(5)));
        assert!(!bucket.take(start), "the same five seconds");
    }
}
