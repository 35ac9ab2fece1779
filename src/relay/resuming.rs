//! A session that goes on takes its seats again, at the places where it stood: what came meanwhile lies in the log.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::time::timeout_at;

use super::{
    hub::{Hub, Seat, Subscriber, stored_source, to_come},
    inbound::now_ms,
    mailbox::Mailbox,
    once::id,
    placing::{Ends, UNAVAILABLE, ends, known},
    share::{SharedSeat, SharedWish, Shares},
    store::Letter,
    subscribing::StartAt,
};
use crate::{
    mqtt::{QoS, topic::parse_share},
    ownership::{Body, Source, StoredSubscription},
    session::{Options, Present, SubscriptionKey},
    upstream::Topic,
};

/// The seats of a session that goes on, and where its subscriptions start.
#[derive(Debug)]
pub struct Resumed {
    /// As it was found.
    pub body: Box<Body>,
    pub seats: HashMap<SubscriptionKey, Vec<Seat>>,
    pub starts: Vec<StartAt>,
    /// Its places in shared subscriptions, which go on where their groups are.
    pub shared: Vec<(SubscriptionKey, SharedSeat)>,
}

impl Resumed {
    /// Of a session that needs no seats.
    pub fn of(body: Box<Body>) -> Self {
        Self {
            body,
            seats: HashMap::new(),
            starts: Vec::new(),
            shared: Vec::new(),
        }
    }
}

/// The subscriptions that want something of one Kafka topic.
struct Wanted {
    topic: Arc<Topic>,
    /// The longest of the rules that they read it by; `None`: as far as the topic reaches.
    offline_retention: Option<Duration>,
    subscribers: Vec<(SubscriptionKey, Box<str>, QoS)>,
}

/// The session as the pure room has it. Subscriptions get keys from 0 on, in their order.
pub fn present(body: &Body) -> Present {
    let options = |stored: &StoredSubscription| Options {
        qos: stored.qos,
        no_local: stored.no_local,
        retain_as_published: stored.retain_as_published,
        retain_handling: stored.retain_handling,
        subscription_id: stored.id,
    };
    let subscriptions = body.subscriptions.iter();
    Present {
        subscriptions: subscriptions
            .map(|stored| (stored.filter.as_str().into(), options(stored)))
            .collect(),
        received: body.steps.inbound.keys().filter_map(|packet| id(*packet)).collect(),
        open: Vec::new(),
    }
}

/// Takes the seats, and tells the connection. Topics that no rule reads any more are left out; those that are gone are read if they appear.
pub async fn resume(
    (hub, shares): (Arc<Hub>, Arc<Shares>),
    mailbox: Arc<Mailbox>,
    body: Box<Body>,
    receive_maximum: usize,
    until: tokio::time::Instant,
) {
    let (Some(wanted), Ok(shared)) = (
        wanted(&hub, &body, until).await,
        sit_in_shares(&shares, &mailbox, &body, receive_maximum, until).await,
    ) else {
        return mailbox.store(Letter::Refuse(crate::mqtt::ReasonCode::ServerUnavailable));
    };
    let partitions = wanted.iter().flat_map(|wanted| {
        let topic = &wanted.topic;
        (0..topic.partitions.len() as i32).map(move |partition| ((topic.name.clone(), partition), topic.clone()))
    });
    let ends = ends(&hub, partitions.collect(), until).await;
    let Ok(floors) = timeout_at(until, floors(&hub, &wanted)).await else {
        return mailbox.store(Letter::Refuse(crate::mqtt::ReasonCode::ServerUnavailable));
    };
    let mut resumed = Resumed::of(body);
    resumed.shared = shared;
    for wanted in &wanted {
        stand_before_the_end(&mut resumed.body, &wanted.topic, &ends);
    }
    for (Wanted { topic, subscribers, .. }, floors) in wanted.into_iter().zip(floors) {
        let floor = |partition: i32| floors.get(partition as usize).copied().unwrap_or(0);
        let places: Vec<(i32, i64)> = (0..topic.partitions.len() as i32)
            .map(|partition| {
                let source = stored_source(&topic, partition);
                (partition, place(&resumed.body, source, floor(partition)))
            })
            .collect();
        let keys: Vec<SubscriptionKey> = subscribers.iter().map(|(key, ..)| *key).collect();
        let subscribers = subscribers
            .into_iter()
            .map(|(key, filter, qos)| (filter, Subscriber::new(mailbox.clone(), key, qos)));
        let seats = hub.sit_again(&topic, &places, subscribers.collect());
        for (key, seat) in keys.into_iter().zip(seats) {
            for (partition, position) in &places {
                let Some(end) = ends.get(&(topic.name.clone(), *partition)) else {
                    return mailbox.store(Letter::Refuse(crate::mqtt::ReasonCode::ServerUnavailable));
                };
                let (source, _) = hub.feed(&seat, *partition, *end);
                let place = stored_source(&topic, *partition);
                let starts = &resumed.body.subscriptions[key.0 as usize].starts;
                let offset = starts.get(&place).map_or(*position, |start| (*start).max(*position));
                resumed.starts.push(StartAt {
                    key,
                    source,
                    place,
                    offset,
                });
            }
            resumed.seats.entry(key).or_default().push(seat);
        }
    }
    mailbox.store(Letter::Resumed(Box::new(resumed)));
}

/// Its places in shared subscriptions; an error if Kafka does not say in time what there is to know.
async fn sit_in_shares(
    shares: &Arc<Shares>,
    mailbox: &Arc<Mailbox>,
    body: &Body,
    receive_maximum: usize,
    until: tokio::time::Instant,
) -> Result<Vec<(SubscriptionKey, SharedSeat)>, &'static str> {
    let mut seats = Vec::new();
    for (at, subscription) in body.subscriptions.iter().enumerate() {
        let key = SubscriptionKey(at as u32);
        let Ok(Some(filter)) = parse_share(&subscription.filter) else {
            continue;
        };
        let sources = shares.sources(filter.filter);
        if sources.is_empty() {
            continue;
        }
        let wish = SharedWish {
            filter,
            sources: &sources,
            mailbox,
            key,
            receive_maximum,
        };
        match shares.sit(wish, until).await {
            Ok(seat) => seats.push((key, seat)),
            Err(UNAVAILABLE) => return Err(UNAVAILABLE),
            Err(why) => tracing::warn!(
                filter = subscription.filter,
                why,
                "a stored session goes on without a shared subscription"
            ),
        }
    }
    Ok(seats)
}

/// A log that ends before a session's place was cut off while it was away (an unclean election of a leader): what is written from its end on is
/// new to it, whatever the offsets say.
fn stand_before_the_end(body: &mut Body, topic: &Topic, ends: &Ends) {
    for partition in 0..topic.partitions.len() as i32 {
        let source = stored_source(topic, partition);
        let starts = body.subscriptions.iter_mut().map(|subscription| &mut subscription.starts);
        let places = starts
            .chain([&mut body.steps.positions])
            .filter_map(|places| places.get_mut(&source));
        if let Some(end) = ends.get(&(topic.name.clone(), partition)) {
            places.for_each(|place| *place = (*end).min(*place));
        }
    }
}

/// Where a session reads a partition on: from the first message on that is to be sent again. One that it does not know is younger than its
/// subscriptions: all of it is for it, as far as it does not lie below `floor`. What is open is completed, however old.
fn place(body: &Body, source: Source, floor: i64) -> i64 {
    let starts = body
        .subscriptions
        .iter()
        .filter_map(|subscription| subscription.starts.get(&source));
    let position = body.steps.positions.get(&source).copied();
    let unreleased = body.steps.outbound.values().filter(|outgoing| !outgoing.released);
    let open = body.steps.flight.values().chain(unreleased.map(|outgoing| &outgoing.place));
    let again = open.filter(|place| place.source == source).map(|place| place.offset).min();
    let place = position.or(starts.min().copied()).unwrap_or(0).max(floor);
    again.map_or(place, |again| again.min(place))
}

/// For each topic where its partitions begin for those who return, as far as a rule says; where Kafka does not tell, nothing is left out.
async fn floors(hub: &Hub, wanted: &[Wanted]) -> Vec<Vec<i64>> {
    let mut floors = Vec::with_capacity(wanted.len());
    for Wanted {
        topic, offline_retention, ..
    } in wanted
    {
        let Some(retention) = offline_retention else {
            floors.push(Vec::new());
            continue;
        };
        let since = now_ms().saturating_sub(i64::try_from(retention.as_millis()).unwrap_or(i64::MAX));
        let partitions: Vec<_> = (0..topic.partitions.len() as i32)
            .map(|partition| (topic.clone(), partition))
            .collect();
        let offsets = hub.cluster.offsets_since(&partitions, since.max(0)).await;
        floors.push(offsets.into_iter().map(|offset| offset.unwrap_or(0)).collect());
    }
    floors
}

/// `None`: Kafka did not say in time which topics there are.
async fn wanted(hub: &Arc<Hub>, body: &Body, until: tokio::time::Instant) -> Option<Vec<Wanted>> {
    type Readers = (Option<Duration>, Vec<(SubscriptionKey, Box<str>, QoS)>);
    let mut topics: BTreeMap<String, Readers> = BTreeMap::new();
    for (at, subscription) in body.subscriptions.iter().enumerate() {
        let key = SubscriptionKey(at as u32);
        for source in hub.rules.sources(&subscription.filter).unwrap_or_default() {
            let retention = hub.rules.rule(source.rule).offline_retention;
            let (longest, subscribers) = topics.entry(source.kafka_topic).or_insert((retention, Vec::new()));
            *longest = longest.zip(retention).map(|(longest, own)| longest.max(own));
            // Several rules may read one Kafka topic; one seat in it is enough.
            if subscribers.last().is_none_or(|(last, ..)| *last != key) {
                subscribers.push((key, subscription.filter.as_str().into(), subscription.qos));
            }
        }
    }
    let mut wanted = Vec::with_capacity(topics.len());
    for (name, (offline_retention, subscribers)) in topics {
        let known = known(hub, &name, until).await.ok()?;
        let to_come = || hub.cluster.is_free(&name).then(|| to_come(&name));
        if let Some(topic) = known.or_else(to_come) {
            wanted.push(Wanted {
                topic,
                offline_retention,
                subscribers,
            });
        }
    }
    Some(wanted)
}
