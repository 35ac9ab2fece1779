//! The membership of this instance in the share group (KIP-932) of one shared subscription: Kafka locks messages for it one by one, they go
//! out, and what became of each is said.
//!
//! Where the group begins is set before anybody joins it, and before SUBACK: where the partitions end when the first subscriber comes.
//! No more is locked than members have room for, since what is locked here others do not get. What stays locked while its subscriber
//! takes its time has its lock renewed.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    REFUSED, Readiness, Share, Shares,
    acquired::{Made, make},
    grace::Grace,
    messages::Scratch,
    state::{PartId, Said},
    task::{Found, begin_to_look},
};
use crate::{
    audit::cut,
    mapping::{MissingSchema, Source},
    relay::{budget::Budget, placing::UNAVAILABLE},
    upstream::{AckKind, Acquired, AcquiredRange, Lease, ShareEvent, ShareGroup, ShareStart, Terms},
};

/// Why a shared subscription is refused: the cluster cannot do what the configuration asks for.
pub(super) const NOT_SUPPORTED: &str = "share_groups_not_supported";
/// Bytes of messages that may be with members, or wait for them: with all memory in use, and otherwise.
const HELD: std::ops::RangeInclusive<usize> = 256 * 1024..=8 * 1024 * 1024;

struct Task {
    share: Arc<Share>,
    shares: Arc<Shares>,
    group: ShareGroup,
    /// What is read by names with holes, and was found so far.
    found: Found,
    parts: HashMap<Lease, PartId>,
    leases: HashMap<PartId, Lease>,
    held: Arc<Budget>,
    scratch: Scratch,
    /// Records whose schemas are looked for.
    looking: JoinSet<Acquired>,
    /// For those who have left, the last of all.
    patience: Option<Grace>,
    terms: Terms,
}

pub(super) async fn run(shares: &Arc<Shares>, share: &Arc<Share>, sources: &[Source], until: Instant) {
    let (found, terms) = match prepare(shares, share, sources, until).await {
        Ok(prepared) => prepared,
        Err(why) => {
            shares.end(share, true);
            share.ready.send_replace(Readiness::Refused(why));
            return;
        }
    };
    tell(share, &terms);
    let group = shares.hub.cluster.join_share(shares.group(share), names(&found.topics));
    share.ready.send_replace(Readiness::Joining);
    let mut task = Task {
        held: shares.hub.budget.part(&share.wake),
        shares: shares.clone(),
        share: share.clone(),
        group,
        found,
        parts: HashMap::new(),
        leases: HashMap::new(),
        scratch: Scratch::default(),
        looking: JoinSet::new(),
        patience: None,
        terms,
    };
    task.live().await;
    task.acknowledge();
    task.end_all();
    task.group.leave().await;
}

fn names(topics: &BTreeSet<Arc<str>>) -> Vec<String> {
    topics.iter().map(|name| name.to_string()).collect()
}

async fn prepare(shares: &Shares, share: &Share, sources: &[Source], until: Instant) -> Result<(Found, Terms), &'static str> {
    let cluster = &shares.hub.cluster;
    let prepared = async {
        match cluster.lacks_share_groups().await {
            Ok(None) => {}
            Ok(Some(lacks)) => {
                let share = share.share_name();
                tracing::error!(
                    share = &*cut(share),
                    lacks,
                    "`sessions.shared` is `share-group`, and the brokers have no share groups (Apache Kafka 4.2 or newer): a shared subscription \
                     is refused"
                );
                return Err(NOT_SUPPORTED);
            }
            Err(_) => return Err(UNAVAILABLE),
        }
        // What is not there now is younger than the group, and is read from its beginning.
        let (found, ends, _) = begin_to_look(shares, sources, until).await?;
        let starts = ends.into_iter().map(|((topic, _), offsets)| ShareStart { topic, offsets });
        let starts: Vec<ShareStart> = starts.collect();
        let terms = cluster.prepare_share_group(&shares.group(share), &starts).await?;
        Ok((found, terms))
    };
    tokio::time::timeout_at(until, prepared).await.unwrap_or(Err(UNAVAILABLE))
}

/// What an operator should know of the terms.
fn tell(share: &Share, terms: &Terms) {
    let (share, lock) = (cut(share.share_name()), terms.lock);
    match terms.deliveries {
        Some(deliveries) => tracing::warn!(
            share = &*share,
            deliveries,
            ?lock,
            "a message that so many subscribers were given and did not acknowledge is given to nobody any more (share.delivery.count.limit of \
             the group); locks are renewed as long as a subscriber is connected"
        ),
        None => tracing::warn!(
            share = &*share,
            "Kafka does not say how often it gives out a message that is not acknowledged (DESCRIBE_CONFIGS on the group): 5 times unless set \
             otherwise, then nobody gets it"
        ),
    }
}

impl Task {
    /// Until nobody here takes part any more, or the client is shut down.
    async fn live(&mut self) {
        if self.found.topics.is_empty() {
            // Nobody joins for nothing; whatever comes is read whole.
            self.is_ready(Readiness::Ready);
        }
        loop {
            while self.share.hand_out() > 0 {}
            self.acknowledge();
            if self.is_deserted() && self.shares.end(&self.share, false) {
                return;
            }
            self.group.want(self.room());
            let (share, patience) = (self.share.clone(), self.patience.map(|grace| grace.ends(Instant::now())));
            tokio::select! {
                event = self.group.next() => match event {
                    Some(event) => self.told(event).await,
                    None => {
                        self.shares.end(&self.share, true);
                        return;
                    }
                },
                names = self.found.change() => self.listed(names),
                Some(Ok(acquired)) = self.looking.join_next() => self.take_those_that_waited(&acquired).await,
                () = share.wake.notified() => {}
                () = sleep_until(patience.unwrap_or_else(Instant::now)), if patience.is_some() => {}
            }
        }
    }

    /// The topics with the names that are looked out for; `None` after a shutdown.
    fn listed(&mut self, listed: Option<Vec<Arc<str>>>) {
        let Some(listed) = listed else {
            self.found.lookout = None;
            return;
        };
        if let Some(topics) = self.found.take(listed, &self.shares.hub) {
            self.group.subscribe(names(&topics));
        }
    }

    fn room(&self) -> usize {
        let has_memory = self.held.used() <= self.held.share(*HELD.start(), *HELD.end());
        // What waits for its schema has its place in memory, too.
        if has_memory && self.looking.is_empty() {
            self.share.lock().state.room_left()
        } else {
            0
        }
    }

    /// Whether nobody here takes part any more, and what was sent is acknowledged or has had time for that.
    fn is_deserted(&mut self) -> bool {
        let inner = self.share.lock();
        if !inner.state.is_deserted() {
            self.patience = None;
            return false;
        }
        let now = Instant::now();
        let grace = *self.patience.get_or_insert(Grace::from(now));
        // What nobody may be given again if this instance gives it up waits for who comes next, as what is sent waits for its answer.
        let is_quiet = inner.state.is_all_quiet() && inner.state.last() == 0;
        grace.is_over(now, is_quiet, self.shares.awaits(&inner.state))
    }

    /// Says what became of messages.
    fn acknowledge(&self) {
        let said = self.share.lock().state.said();
        for (part, records) in said {
            let Some(lease) = self.leases.get(&part) else { continue };
            for (offset, said) in records {
                let kind = match said {
                    Said::Done => AckKind::Accept,
                    Said::Released => AckKind::Release,
                };
                self.group.acknowledge(*lease, offset, offset, kind);
            }
        }
    }

    async fn told(&mut self, event: ShareEvent) {
        match event {
            ShareEvent::Joined => self.is_ready(Readiness::Ready),
            ShareEvent::Refused => self.is_ready(Readiness::Refused(REFUSED)),
            ShareEvent::Acquired(acquired) => self.take(&acquired, false).await,
            ShareEvent::Lost(lease) => self.lose(lease),
            ShareEvent::Expired(lease, offset) => {
                tracing::warn!(
                    share = &*cut(self.share.share_name()),
                    offset,
                    "the lock of a message has run out: it comes again"
                );
                if let Some(part) = self.parts.get(&lease) {
                    self.share.lock().state.expire(*part, offset);
                }
            }
            ShareEvent::Late(count) => {
                self.shares.hub.metrics.shared.commit_failures.inc_by(count);
                tracing::debug!(
                    share = &*cut(self.share.share_name()),
                    count,
                    "acknowledgements were too late: the messages come again"
                );
            }
        }
    }

    /// The first answer to the SUBSCRIBEs that wait.
    fn is_ready(&self, news: Readiness) {
        self.share.ready.send_if_modified(|ready| {
            let waits = ready.is_open() || news == Readiness::Ready;
            if waits {
                *ready = news;
            }
            waits
        });
    }

    /// Schemas were looked for. What another has the lock of by now comes there.
    async fn take_those_that_waited(&mut self, acquired: &Acquired) {
        if self.parts.contains_key(&acquired.lease) {
            self.take(acquired, true).await;
        }
    }

    /// Has the schemas of records looked for that are locked, and are taken again then.
    fn await_schemas(&mut self, acquired: &Acquired, waiting: Vec<(AcquiredRange, MissingSchema)>) {
        let (ranges, mut schemas): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
        if ranges.is_empty() {
            return;
        }
        schemas.sort_unstable_by_key(|schema| schema.id);
        schemas.dedup_by_key(|schema| schema.id);
        let (registries, again) = (
            self.shares.hub.registries.clone(),
            Acquired {
                ranges,
                ..acquired.clone()
            },
        );
        self.looking.spawn(async move {
            for schema in schemas {
                registries.look_up(&schema.catalog, schema.id).await;
            }
            again
        });
    }

    async fn take(&mut self, acquired: &Acquired, waited: bool) {
        let (hub, share) = (&self.shares.hub, self.share.clone());
        let Made {
            messages,
            settled,
            waiting,
        } = make(hub, &self.held, acquired, (share.filter(), waited), &mut self.scratch).await;
        self.await_schemas(acquired, waiting);
        for (first, last, kind) in settled {
            self.group.acknowledge(acquired.lease, first, last, kind);
        }
        let mut inner = share.lock();
        let part = *self.parts.entry(acquired.lease).or_insert_with(|| inner.state.begin_locked());
        self.leases.insert(part, acquired.lease);
        for (offset, deliveries, message) in messages {
            let is_last = self
                .terms
                .deliveries
                .is_some_and(|most| u32::try_from(deliveries).is_ok_and(|count| count >= most));
            inner.state.push_locked(part, offset, is_last, message);
        }
    }

    fn lose(&mut self, lease: Lease) {
        let Some(part) = self.parts.remove(&lease) else { return };
        self.leases.remove(&part);
        self.share.lock().state.end(part);
        tracing::info!(
            share = &*cut(self.share.share_name()),
            "another broker has messages to give out, or a connection to one has ended: what was not acknowledged comes again"
        );
    }

    /// Whoever may still hold messages is told that they are not its own any more.
    fn end_all(&mut self) {
        let mut inner = self.share.lock();
        let last = inner.state.last();
        self.parts.values().for_each(|part| inner.state.end(*part));
        drop(inner);
        if last > 0 {
            tracing::warn!(
                share = &*cut(self.share.share_name()),
                messages = last,
                "messages were given out as often as share.delivery.count.limit allows and are not acknowledged: nobody gets them any more"
            );
        }
    }
}
