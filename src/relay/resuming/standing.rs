//! Where a session that goes on stands in the partitions of a Kafka topic.

use std::{collections::BTreeMap, sync::Arc};

use tokio::time::{Instant, timeout_at};

use super::Wanted;
use crate::{
    kafka::error::ErrorCode,
    ownership::{Body, Outgoing, Source},
    relay::{
        hub::{Hub, Seat, Subscriber, stored_source},
        inbound::now_ms,
        placing::ends,
        subscribing::StartAt,
    },
    session::SubscriptionKey,
    upstream::Topic,
};

/// How far clocks may lie apart, in milliseconds: of instances, and of those who set the timestamps of records.
const UNEVEN: i64 = 60_000;

/// See the head of the file.
#[derive(Debug)]
pub struct Stand {
    topic: Arc<Topic>,
    /// By partition.
    places: Vec<Standing>,
    /// The subscriptions that read it, and where they start.
    subscriptions: Vec<(SubscriptionKey, BTreeMap<Source, i64>)>,
}

#[derive(Clone, Copy, Debug)]
struct Standing {
    /// From where on it is read.
    position: i64,
    /// What lies between that and here is none of the session's, but for what is open: it was settled, or is too old.
    fresh: i64,
    /// Where it ended when that was asked.
    end: i64,
}

impl Stand {
    /// Its Kafka topic.
    pub fn topic(&self) -> &str {
        &self.topic.name
    }

    /// The subscriptions that read it, as they are stored.
    pub fn keys(&self) -> Vec<SubscriptionKey> {
        self.subscriptions.iter().map(|(key, _)| *key).collect()
    }

    /// Takes seats for these subscriptions, as far as `subscriber` has them; their starts are to be told before anything is handed out.
    pub fn sit(
        &self,
        hub: &Arc<Hub>,
        keys: &[SubscriptionKey],
        subscriber: impl Fn(SubscriptionKey) -> Option<(Box<str>, Subscriber)>,
    ) -> (Vec<(SubscriptionKey, Seat)>, Vec<StartAt>) {
        let with = |key: &SubscriptionKey| Some((*key, subscriber(*key)?));
        let (keys, subscribers): (Vec<_>, Vec<_>) = keys.iter().filter_map(with).unzip();
        let places: Vec<(i32, i64)> = (0..).zip(self.places.iter().map(|place| place.position)).collect();
        let (mut seats, mut starts) = (Vec::new(), Vec::new());
        for (key, seat) in keys.into_iter().zip(hub.sit_again(&self.topic, &places, subscribers)) {
            for (partition, standing) in (0..).zip(&self.places) {
                let (source, _) = hub.feed(&seat, partition, standing.end);
                let place = stored_source(&self.topic, partition);
                starts.push(StartAt {
                    key,
                    source,
                    place,
                    offset: self.start(key, place, *standing),
                });
            }
            seats.push((key, seat));
        }
        (seats, starts)
    }

    /// Where a subscription starts. One that came while the topic was away gets what is new then.
    fn start(&self, key: SubscriptionKey, place: Source, Standing { position, end, .. }: Standing) -> i64 {
        let known = self.subscriptions.iter().find(|(known, _)| *known == key);
        let start = match known {
            Some((_, starts)) => starts.get(&place).map_or(position, |start| end.min(*start)),
            None if self.topic.appeared => 0,
            None => end,
        };
        start.max(position)
    }

    /// The partitions of which a session knows more than there is: their logs were cut off while it was away. And where they ended.
    pub fn cut_off(&self, body: &Body) -> Vec<(Source, i64)> {
        let is_behind = |(source, end): &(Source, i64)| known(body, source).any(|place| place > *end);
        self.ends().filter(is_behind).collect()
    }

    /// The partitions of which more is read than is the session's, since something is open there; and what lies below is not, but for that.
    pub fn left_out(&self) -> impl Iterator<Item = (Source, i64)> {
        let read = (0..).zip(&self.places).filter(|(_, standing)| standing.fresh > standing.position);
        read.map(|(partition, standing)| (stored_source(&self.topic, partition), standing.fresh))
    }

    /// Where the partitions ended.
    pub fn ends(&self) -> impl Iterator<Item = (Source, i64)> {
        let end = |(partition, standing): (i32, &Standing)| (stored_source(&self.topic, partition), standing.end);
        (0..).zip(&self.places).map(end)
    }
}

/// Where a session stands in each of these topics. `None`: Kafka did not say in time where they end.
///
/// A log that ends before a session's place was cut off while it was away (an unclean election of a leader): what is written from its end on is
/// new to it, whatever the offsets say.
pub(super) async fn stands(hub: &Hub, body: &Body, of: &[(Arc<Topic>, &Wanted)], until: Instant) -> Option<Vec<Stand>> {
    let each = |(topic, _): &(Arc<Topic>, &Wanted)| {
        let topic = topic.clone();
        (0..topic.partitions.len() as i32).map(move |partition| ((topic.name.clone(), partition), topic.clone()))
    };
    let ends = ends(hub, of.iter().flat_map(each).collect(), until).await;
    let mut stands = Vec::with_capacity(of.len());
    for (topic, wanted) in of {
        let floors = timeout_at(until, floors(hub, topic, begins(body, topic, wanted))).await.ok()??;
        let mut places = Vec::with_capacity(topic.partitions.len());
        for partition in 0..topic.partitions.len() as i32 {
            let (source, end) = (stored_source(topic, partition), *ends.get(&(topic.name.clone(), partition))?);
            places.push(place(body, (source, end), floors.get(partition as usize).copied().unwrap_or(0)));
        }
        let starts = |key: &SubscriptionKey| (*key, body.subscriptions[key.0 as usize].starts.clone());
        stands.push(Stand {
            topic: topic.clone(),
            places,
            subscriptions: wanted.keys.iter().map(starts).collect(),
        });
    }
    Some(stands)
}

/// Where a session has been in a partition, or begins there.
fn known(body: &Body, source: &Source) -> impl Iterator<Item = i64> {
    let starts = body.subscriptions.iter().map(|subscription| &subscription.starts);
    starts
        .chain([&body.steps.positions])
        .filter_map(|places| places.get(source).copied())
}

/// Where a session reads a partition on: from the first message on that is to be sent again. Of one that it does not know all is for it
/// that does not lie below `floor`. What is open is completed, however old.
fn place(body: &Body, (source, end): (Source, i64), floor: i64) -> Standing {
    let starts = body
        .subscriptions
        .iter()
        .filter_map(|subscription| subscription.starts.get(&source));
    let position = body.steps.positions.get(&source).copied();
    let in_order = |outgoing: &&Outgoing| !outgoing.released && outgoing.share.is_none();
    let unreleased = body.steps.outbound.values().filter(in_order);
    let open = body.steps.flight.values().chain(unreleased.map(|outgoing| &outgoing.place));
    let again = open.filter(|place| place.source == source).map(|place| place.offset).min();
    let fresh = position.or(starts.min().copied()).unwrap_or(0).min(end).max(floor);
    let position = again.map_or(fresh, |again| again.min(fresh));
    Standing { position, fresh, end }
}

/// From when on, in milliseconds since 1970, the records of a topic are for a session: not those that a rule keeps from who returns late. Nor
/// those from before its absence, of a topic that it knows nothing of: either the topic was made since, or a rule reads it only since
/// then, and it may be years old.
fn begins(body: &Body, topic: &Topic, wanted: &Wanted) -> Option<i64> {
    let retention = wanted
        .offline_retention
        .map(|retention| i64::try_from(retention.as_millis()).unwrap_or(i64::MAX));
    // A whole second: sessions that return together ask Kafka for the same time then, in one request.
    let of_rule = retention.map(|retention| whole_second(now_ms().saturating_sub(retention)));
    let left = i64::try_from(body.left.unwrap_or(body.since)).unwrap_or(i64::MAX);
    let is_new = !topic.appeared && !knows(body, topic);
    of_rule.max(is_new.then_some(left.saturating_sub(UNEVEN)))
}

/// The same, or the next whole second, in milliseconds.
fn whole_second(millis: i64) -> i64 {
    millis.saturating_add(999).div_euclid(1_000).saturating_mul(1_000)
}

/// Whether a session has a place in any partition of a topic, or a start.
fn knows(body: &Body, topic: &Topic) -> bool {
    let starts = body.subscriptions.iter().map(|subscription| &subscription.starts);
    let mut places = starts.chain([&body.steps.positions]).flat_map(BTreeMap::keys);
    places.any(|source| source.topic == *topic.id.as_bytes())
}

/// Where the partitions of a topic begin for a session; where Kafka will not tell, nothing is left out. `None`: it did not tell in time.
async fn floors(hub: &Hub, topic: &Arc<Topic>, since: Option<i64>) -> Option<Vec<i64>> {
    let Some(since) = since else {
        return Some(Vec::new());
    };
    let partitions: Vec<_> = (0..topic.partitions.len() as i32)
        .map(|partition| (topic.clone(), partition))
        .collect();
    let offsets = hub.cluster.offsets_since(&partitions, since.max(0)).await;
    let floor = |offset: Result<i64, ErrorCode>| match offset {
        Err(ErrorCode::REQUEST_TIMED_OUT) => None,
        offset => Some(offset.unwrap_or(0)),
    };
    offsets.into_iter().map(floor).collect()
}
