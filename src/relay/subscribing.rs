//! From a SUBSCRIBE to its start: topics are found, seats taken, end offsets asked for, feeds begun.
//!
//! It runs beside the connection, which goes on with other packets; the answer comes back through the mailbox.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::AbortHandle;

use super::{
    chunk::SourceId,
    desk::Desk,
    granting::Granted,
    hub::{Hub, Seat, Subscriber, stored_source},
    mailbox::Mailbox,
    share::{SharedSeat, SharedWish, Shares},
};
use crate::{
    mapping::{NoSources, Source, Unmapped},
    mqtt::{QoS, ReasonCode, Subscribe, SubscribeFilter, topic},
    ownership::Source as StoredSource,
    session::{Requested, Session, SubscriptionKey, Ticket},
    upstream::{Topic, TopicState},
};

/// A SUBSCRIBE that waits for Kafka.
#[derive(Debug)]
pub struct Asked {
    ticket: Ticket,
    /// What each filter gets if nothing more is in its way.
    reasons: Vec<ReasonCode>,
    /// The task that places its wishes. Aborted, it gives back the seats that it has taken.
    pub placing: AbortHandle,
}

/// One filter of a SUBSCRIBE on its way.
#[derive(Debug)]
pub struct Wish {
    /// Its place in the packet.
    pub place: usize,
    /// The session's name for it.
    pub key: SubscriptionKey,
    /// The filter; of a shared subscription with its `$share`.
    pub filter: Box<str>,
    /// What the client asked for.
    pub granted: QoS,
    /// What must be read for it; not empty.
    pub sources: Vec<Source>,
    /// Of a shared subscription: unacknowledged messages that the client takes.
    pub shared: Option<usize>,
}

/// From which offset on a subscription gets the records of a source.
#[derive(Clone, Copy, Debug)]
pub struct StartAt {
    /// The subscription.
    pub key: SubscriptionKey,
    /// The partition.
    pub source: SourceId,
    /// The same, as it is stored.
    pub place: StoredSource,
    /// First offset that belongs to it.
    pub offset: i64,
}

/// What became of a SUBSCRIBE.
#[derive(Debug)]
pub struct Subscribed {
    /// Of the SUBSCRIBE.
    pub ticket: Ticket,
    /// For each wish that was refused, its place and why: a label of the metrics. The client is told 0x83.
    pub refused: Vec<(usize, &'static str)>,
    /// All that it asked for.
    pub keys: Vec<SubscriptionKey>,
    /// The seats of those that were granted.
    pub seats: Vec<(SubscriptionKey, Vec<Seat>)>,
    /// Where they start.
    pub starts: Vec<StartAt>,
    /// The same of shared subscriptions, which start where their groups are.
    pub shared: Vec<(SubscriptionKey, SharedSeat)>,
}

impl Subscribed {
    fn nothing(ticket: Ticket) -> Self {
        Self {
            ticket,
            refused: Vec::new(),
            keys: Vec::new(),
            seats: Vec::new(),
            starts: Vec::new(),
            shared: Vec::new(),
        }
    }
}

/// Levels that a filter may have. Bounds how deep a look-up goes; far above what people use.
const MAX_LEVELS: usize = 128;

/// Bytes that a share name may have: it is a part of a group's id.
const MAX_SHARE_NAME: usize = 200;

impl Desk {
    /// Takes a SUBSCRIBE the session has just entered. It is answered at once if nothing must be asked of Kafka.
    pub(super) fn subscribe(&mut self, session: &mut Session, subscribe: &Subscribe<'_>, ticket: Ticket, now: Instant) {
        let mut reasons = Vec::with_capacity(subscribe.filters.len());
        let mut wishes = Vec::new();
        for (place, (filter, requested)) in subscribe.filters.iter().zip(session.requested(ticket)).enumerate() {
            let reason = match requested {
                Requested::Subscribe { .. } if !self.may_keep(session.client_id(), filter.filter, filter.qos, now) => {
                    self.refuse_filter(ReasonCode::NotAuthorized, ReasonCode::NotAuthorized.name())
                }
                Requested::Subscribe { key, .. } => self.wish(place, filter, *key, session.receive_maximum(), &mut wishes),
                Requested::Refused(reason) => self.refuse_filter(*reason, reason.name()),
                Requested::Removed { .. } | Requested::NotFound => ReasonCode::UnspecifiedError,
            };
            reasons.push(reason);
        }
        if wishes.is_empty() {
            let answer = Subscribed::nothing(ticket);
            return self.grant(session, Granted { answer, reasons }, now);
        }
        let shared = &self.shared;
        self.outbound.pending.extend(wishes.iter().map(|w| w.key));
        let placing = tokio::spawn(place(
            (shared.hub.clone(), shared.shares.clone()),
            self.mailbox.clone(),
            ticket,
            wishes,
            shared.settings.delivery_timeout,
        ));
        self.asked.push(Asked {
            ticket,
            reasons,
            placing: placing.abort_handle(),
        });
    }

    /// What one filter of a SUBSCRIBE gets if all goes well; a wish if Kafka must be asked first.
    fn wish(
        &mut self,
        place: usize,
        filter: &SubscribeFilter<'_>,
        key: SubscriptionKey,
        receive_maximum: usize,
        wishes: &mut Vec<Wish>,
    ) -> ReasonCode {
        // In 3.x the codec knows nothing of shared subscriptions, and looks no further.
        let shared = match topic::parse_share(filter.filter) {
            Ok(shared) if shared.is_none_or(|shared| shared.name.len() <= MAX_SHARE_NAME) => shared,
            _ => return self.refuse_filter(ReasonCode::TopicFilterInvalid, "share_name"),
        };
        let plain = shared.map_or(filter.filter, |shared| shared.filter);
        if plain.split('/').count() > MAX_LEVELS {
            return self.refuse_filter(ReasonCode::TopicFilterInvalid, "too_many_levels");
        }
        // What was not complete at the end of a connection is not the next one's in a shared subscription: at QoS 2 it would be lost.
        let is_stored = self.tenancy.as_deref().is_some_and(|tenancy| tenancy.stored);
        let highest = if shared.is_some() && is_stored {
            QoS::AtLeastOnce
        } else {
            QoS::ExactlyOnce
        };
        let granted = match filter.qos.min(highest) {
            QoS::AtMostOnce => ReasonCode::Success,
            QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
            QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
        };
        if let Some(seats) = self.seats.get_mut(&key) {
            seats.iter_mut().for_each(|seat| seat.grant(filter.qos));
            return granted;
        }
        if self.shares.seats.contains_key(&key) {
            return granted;
        }
        match self.shared.rules.sources(plain) {
            Ok(sources) => {
                wishes.push(Wish {
                    place,
                    key,
                    filter: filter.filter.into(),
                    granted: filter.qos,
                    sources,
                    shared: shared.map(|_| receive_maximum),
                });
                granted
            }
            Err(NoSources::Unmapped) => {
                let refusal = self.refuse_filter(ReasonCode::TopicFilterInvalid, "unmapped");
                tracing::debug!(filter = filter.filter, why = "unmapped", "a filter gets no messages");
                if self.shared.rules.unmapped() == Unmapped::Drop {
                    granted
                } else {
                    refusal
                }
            }
            Err(NoSources::NotReadable { why, .. }) => {
                tracing::debug!(filter = filter.filter, why, "a filter is refused");
                self.refuse_filter(ReasonCode::ImplementationSpecificError, "not_readable")
            }
        }
    }

    fn refuse_filter(&self, reason: ReasonCode, why: &'static str) -> ReasonCode {
        self.shared.metrics.refused(why);
        reason
    }

    /// Kafka's side of a SUBSCRIBE is done. If the session is stored the answer rests on its being written.
    pub(super) fn subscribed(&mut self, session: &mut Session, answer: Subscribed, now: Instant) {
        let Some(at) = self.asked.iter().position(|asked| asked.ticket == answer.ticket) else {
            return;
        };
        let Asked { mut reasons, .. } = self.asked.swap_remove(at);
        for (place, why) in &answer.refused {
            reasons[*place] = self.refuse_filter(ReasonCode::ImplementationSpecificError, why);
        }
        self.grant(session, Granted { answer, reasons }, now);
    }
}

/// Places all wishes of one SUBSCRIBE within `limit` and puts the answer into the mailbox.
async fn place((hub, shares): (Arc<Hub>, Arc<Shares>), mailbox: Arc<Mailbox>, ticket: Ticket, wishes: Vec<Wish>, limit: Duration) {
    let until = tokio::time::Instant::now() + limit;
    let mut seated = Vec::with_capacity(wishes.len());
    let mut answer = Subscribed::nothing(ticket);
    for wish in wishes {
        let (place, key) = (wish.place, wish.key);
        if wish.shared.is_none() {
            seated.push((place, key, sit(&hub, &mailbox, wish, until).await));
            continue;
        }
        answer.keys.push(key);
        match sit_shared(&shares, &mailbox, &wish, until).await {
            Ok(seat) => answer.shared.push((key, seat)),
            Err(why) => answer.refused.push((place, why)),
        }
    }
    let ends = ends(&hub, partitions(&seated), until).await;
    for (place, key, seats) in seated {
        answer.keys.push(key);
        match seats.and_then(|seats| Ok((begin(&hub, key, &seats, &ends)?, seats))) {
            Ok((starts, seats)) => {
                answer.starts.extend(starts);
                answer.seats.push((key, seats));
            }
            Err(why) => answer.refused.push((place, why)),
        }
    }
    mailbox.subscribed(answer);
}

/// A place in a shared subscription.
async fn sit_shared(
    shares: &Arc<Shares>,
    mailbox: &Arc<Mailbox>,
    wish: &Wish,
    until: tokio::time::Instant,
) -> Result<SharedSeat, &'static str> {
    let filter = topic::parse_share(&wish.filter).ok().flatten();
    let shared = SharedWish {
        filter: filter.expect("it was found to be shared"),
        sources: &wish.sources,
        mailbox,
        key: wish.key,
        receive_maximum: wish.shared.expect("it was found to be shared"),
    };
    shares.sit(shared, until).await
}

/// Kafka did not say in time what there is to know.
pub(super) const UNAVAILABLE: &str = "kafka_unavailable";

/// Seats for a filter in all Kafka topics that exist; it is refused if none of them does.
///
/// All partitions are read, also where the filter fixes the key: a producer with another partitioner than ours may have put
/// the record anywhere, and records of any producer are delivered.
async fn sit(hub: &Arc<Hub>, mailbox: &Arc<Mailbox>, wish: Wish, until: tokio::time::Instant) -> Result<Vec<Seat>, &'static str> {
    let mut seats: Vec<Seat> = Vec::new();
    // Several rules may read one Kafka topic; one seat in it is enough.
    let names: BTreeSet<&str> = wish.sources.iter().map(|s| s.kafka_topic.as_str()).collect();
    for name in names {
        let Some(topic) = known(hub, name, until).await? else {
            continue;
        };
        let subscriber = Subscriber::new(mailbox.clone(), wish.key, wish.granted);
        let partitions = (0..topic.partitions.len() as i32).collect();
        seats.push(hub.sit(topic, partitions, &wish.filter, subscriber));
    }
    if seats.is_empty() { Err("no_such_topic") } else { Ok(seats) }
}

/// The topic; `None` if the cluster has none of that name.
pub(super) async fn known(hub: &Hub, name: &str, until: tokio::time::Instant) -> Result<Option<Arc<Topic>>, &'static str> {
    match tokio::time::timeout_at(until, hub.cluster.topic_known(name)).await {
        Ok(TopicState::Ready(topic)) => Ok(Some(topic)),
        Ok(TopicState::Missing) => {
            hub.missing.missing(name);
            Ok(None)
        }
        Ok(TopicState::Unknown) | Err(_) => Err(UNAVAILABLE),
    }
}

/// One wish: its place, its key, its seats or why it has none.
type Seated = (usize, SubscriptionKey, Result<Vec<Seat>, &'static str>);

pub(super) type Ends = HashMap<(Arc<str>, i32), i64>;

/// The partitions of all seats, each once.
fn partitions(seated: &[Seated]) -> HashMap<(Arc<str>, i32), Arc<Topic>> {
    let mut wanted = HashMap::new();
    for seat in seated.iter().filter_map(|(_, _, seats)| seats.as_ref().ok()).flatten() {
        wanted.extend(
            seat.partitions()
                .iter()
                .map(|p| ((seat.topic().name.clone(), *p), seat.topic().clone())),
        );
    }
    wanted
}

/// Their end offsets, by one request for each broker.
pub(super) async fn ends(hub: &Hub, wanted: HashMap<(Arc<str>, i32), Arc<Topic>>, until: tokio::time::Instant) -> Ends {
    let (names, asked): (Vec<_>, Vec<_>) = wanted.into_iter().map(|(name, topic)| (name.clone(), (topic, name.1))).unzip();
    let answers = tokio::time::timeout_at(until, hub.cluster.end_offsets(&asked))
        .await
        .unwrap_or_default();
    names
        .into_iter()
        .zip(answers)
        .filter_map(|(partition, end)| Some((partition, end.ok()?)))
        .collect()
}

/// Feeds for all partitions of a subscription; refused if the end of one is not known.
fn begin(hub: &Hub, key: SubscriptionKey, seats: &[Seat], ends: &Ends) -> Result<Vec<StartAt>, &'static str> {
    let mut starts = Vec::new();
    for seat in seats {
        for partition in seat.partitions() {
            let end = ends.get(&(seat.topic().name.clone(), *partition)).ok_or(UNAVAILABLE)?;
            let (source, offset) = hub.feed(seat, *partition, *end);
            let place = stored_source(seat.topic(), *partition);
            starts.push(StartAt {
                key,
                source,
                place,
                offset,
            });
        }
    }
    Ok(starts)
}
