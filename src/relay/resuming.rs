//! A session that goes on takes its seats again, at the places where it stood: what came meanwhile lies in the log.

mod again;
mod standing;
mod walks;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{
    hub::{Hub, Seat, Subscriber},
    lookouts::{Looking, Lookouts, patterns},
    mailbox::Mailbox,
    once::id,
    placing::{UNAVAILABLE, grown, known},
    retained::{Retained, Stream},
    share::{SharedSeat, SharedWish, Shares},
    store::Letter,
    subscribing::StartAt,
    tenancy::Away,
};
use crate::{
    audit::cut,
    kafka::TopicPattern,
    mapping::{KafkaTopics, Source},
    mqtt::{ReasonCode, topic::parse_share},
    ownership::{Body, Place, Source as StoredSource, StoredSubscription},
    session::{Options, Present, SubscriptionKey},
    upstream::Topic,
};
use standing::stands;

pub use again::{Again, Found, find_one};
pub use standing::Stand;

/// How long Kafka has to say where a topic that has appeared begins and ends.
const ASK_WITHIN: Duration = Duration::from_secs(30);
/// It did not.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The seats of a session that goes on, and where its subscriptions start.
#[derive(Debug)]
pub struct Resumed {
    /// As it was found.
    pub body: Box<Body>,
    pub seats: HashMap<SubscriptionKey, Vec<Seat>>,
    pub starts: Vec<StartAt>,
    /// Logs that were cut off while it was away, and where: it knows more of them than there is.
    pub cut_off: Vec<(StoredSource, i64)>,
    /// What lies below these is none of its, but for what is open.
    pub left_out: Vec<(StoredSource, i64)>,
    /// Its places in shared subscriptions, which go on where their groups are.
    pub shared: Vec<(SubscriptionKey, SharedSeat)>,
    /// What it has open at QoS 2 of shared subscriptions.
    pub again: Vec<Again>,
    /// The id of the topic of retained messages, if any may be open.
    pub retained: Option<[u8; 16]>,
    /// Walks over retained messages that go on.
    pub walks: Vec<Stream>,
    /// Those that get more once Kafka topics that are away can be read: [`Letter::Appeared`].
    pub away: Vec<Away>,
}

impl Resumed {
    /// Of a session that needs no seats.
    pub fn of(body: Box<Body>) -> Self {
        Self {
            body,
            seats: HashMap::new(),
            starts: Vec::new(),
            cut_off: Vec::new(),
            left_out: Vec::new(),
            shared: Vec::new(),
            again: Vec::new(),
            retained: None,
            walks: Vec::new(),
            away: Vec::new(),
        }
    }
}

/// The subscriptions that want something of one Kafka topic.
struct Wanted {
    name: String,
    /// The longest of the rules that they read it by; `None`: as far as the topic reaches.
    offline_retention: Option<Duration>,
    keys: Vec<SubscriptionKey>,
}

impl Wanted {
    /// Of a topic that is away.
    fn away(&self, hub: &Hub) -> Away {
        Away {
            topic: self.name.as_str().into(),
            hidden: hub.cluster.is_hidden(&self.name),
            keys: self.keys.clone(),
        }
    }
}

/// Whether a session reads anything, or has messages open that must be read again.
pub fn needs_kafka(body: &Body) -> bool {
    !body.subscriptions.is_empty() || open(body).next().is_some()
}

/// Where the messages lie that must be read again.
fn open(body: &Body) -> impl Iterator<Item = &Place> {
    let unreleased = body.steps.outbound.values().filter(|outgoing| !outgoing.released);
    body.steps.flight.values().chain(unreleased.map(|outgoing| &outgoing.place))
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
        ..Present::default()
    }
}

/// Takes the seats, and tells the connection. Topics that no rule reads any more are left out; those that are not there, or cannot be seen, are
/// read on when they can be: this ends when it waits for none, or is aborted.
pub async fn resume(
    (hub, shares, retained): (Arc<Hub>, Arc<Shares>, Option<Arc<Retained>>),
    (mailbox, lookouts): (Arc<Mailbox>, Option<Arc<Lookouts>>),
    body: Box<Body>,
    receive_maximum: usize,
    until: Instant,
) {
    let refuse = || mailbox.store(Letter::Refuse(ReasonCode::ServerUnavailable));
    let (Some(again), Some(topic), Some((stands, Wishes { away, outlooks, .. })), Ok(shared)) = (
        again::find(&hub, &body, until).await,
        retained_topic(retained.as_ref(), &body, until).await,
        stand_up(&hub, &body, until).await,
        sit_in_shares(&shares, &mailbox, &body, receive_maximum, until).await,
    ) else {
        return refuse();
    };
    let left = (!away.is_empty()).then(|| body.clone());
    let mut resumed = Resumed::of(body);
    (resumed.shared, resumed.again, resumed.retained) = (shared, again, topic);
    resumed.away = away.iter().map(|wanted| wanted.away(&hub)).collect();
    for stand in stands {
        resumed.cut_off.extend(stand.cut_off(&resumed.body));
        resumed.left_out.extend(stand.left_out());
        let subscriptions = &resumed.body.subscriptions;
        let subscriber = |key: SubscriptionKey| {
            let stored = &subscriptions[key.0 as usize];
            Some((stored.filter.as_str().into(), Subscriber::new(mailbox.clone(), key, stored.qos)))
        };
        let (seats, starts) = stand.sit(&hub, &stand.keys(), subscriber);
        resumed.starts.extend(starts);
        for (key, seat) in seats {
            resumed.seats.entry(key).or_default().push(seat);
        }
    }
    match walks::go_on(retained.as_ref(), &resumed.body, &resumed.starts, until).await {
        Some(walks) => resumed.walks = walks,
        None => return refuse(),
    }
    if let Some(lookouts) = lookouts {
        for (key, patterns, known) in outlooks {
            let stored = &resumed.body.subscriptions[key.0 as usize];
            let lookout = hub.cluster.look_out(patterns.clone());
            let looking = Looking {
                key,
                filter: &stored.filter,
                granted: stored.qos,
                patterns,
                known,
            };
            lookouts.begin(looking, lookout);
        }
    }
    mailbox.store(Letter::Resumed(Box::new(resumed)));
    if let Some(body) = left {
        await_topics(&hub, &mailbox, &body, away).await;
    }
}

/// The id of the topic of retained messages, if any may be open. `None`: that is not known in time.
async fn retained_topic(retained: Option<&Arc<Retained>>, body: &Body, until: Instant) -> Option<Option<[u8; 16]>> {
    // What is of a source was told with a position there. The topic is asked for by those only who may have something of it.
    let is_of_a_source = |place: &Place| body.steps.positions.keys().any(|source| source.topic == place.source.topic);
    match retained.filter(|_| !open(body).all(is_of_a_source)) {
        Some(retained) => timeout_at(until, retained.topic_id()).await.ok(),
        None => Some(None),
    }
}

/// Where the session stands in the topics that are there, and what is wanted of others. A topic that was deleted just now is only known to be
/// away once it is asked where it ends. `None`: Kafka did not say in time what there is to know.
async fn stand_up(hub: &Arc<Hub>, body: &Body, until: Instant) -> Option<(Vec<Stand>, Wishes)> {
    loop {
        let wishes = wanted(hub, body, until).await?;
        let asked: Vec<_> = wishes.there.iter().map(|(topic, wanted)| (topic.clone(), wanted)).collect();
        match stands(hub, body, &asked, until).await {
            Some(stands) => return Some((stands, wishes)),
            None if Instant::now() < until && wishes.there.iter().any(|(topic, _)| hub.cluster.is_away(topic)) => {}
            None => return None,
        }
    }
}

/// Tells the connection of each topic where its session stands, as soon as it can be read.
async fn await_topics(hub: &Arc<Hub>, mailbox: &Arc<Mailbox>, body: &Body, away: Vec<Wanted>) {
    let mut waits = JoinSet::new();
    for wanted in away {
        waits.spawn(await_topic(hub.clone(), mailbox.clone(), body.clone(), wanted));
    }
    while waits.join_next().await.is_some() {}
}

async fn await_topic(hub: Arc<Hub>, mailbox: Arc<Mailbox>, body: Body, wanted: Wanted) {
    while let Some(topic) = hub.cluster.topic_appears(&wanted.name).await {
        let there = [(topic, &wanted)];
        if let Some(stand) = stands(&hub, &body, &there, Instant::now() + ASK_WITHIN).await {
            return stand.into_iter().for_each(|stand| mailbox.store(Letter::Appeared(Box::new(stand))));
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Its places in shared subscriptions; an error if Kafka does not say in time what there is to know.
async fn sit_in_shares(
    shares: &Arc<Shares>,
    mailbox: &Arc<Mailbox>,
    body: &Body,
    receive_maximum: usize,
    until: Instant,
) -> Result<Vec<(SubscriptionKey, SharedSeat)>, &'static str> {
    let mut joined = Vec::new();
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
        joined.push((key, &subscription.filter, shares.join(&wish, until)));
    }
    let mut seats = Vec::new();
    for (key, filter, seat) in joined {
        // Its group may be full, or wait for members that died longer than CONNECT may take. No SUBACK tells the client to try again, so it
        // is let in and waits: it gets its part as soon as the group takes this instance.
        let begun = match seat {
            Ok(seat) => seat.begun(until).await.map(|()| seat),
            Err(why) => Err(why),
        };
        match begun {
            Ok(seat) => seats.push((key, seat)),
            Err(UNAVAILABLE) => return Err(UNAVAILABLE),
            Err(why) => tracing::warn!(
                filter = &*cut(filter),
                why,
                "a stored session goes on without a shared subscription"
            ),
        }
    }
    Ok(seats)
}

/// What the subscriptions want.
struct Wishes {
    /// In topics that are there.
    there: Vec<(Arc<Topic>, Wanted)>,
    /// In others.
    away: Vec<Wanted>,
    /// Those that look out for topics that come later, with the names of these and of the topics that it has got here.
    outlooks: Vec<(SubscriptionKey, Vec<TopicPattern>, HashSet<Arc<str>>)>,
}

/// What the subscriptions want. `None`: Kafka did not say in time which topics there are.
async fn wanted(hub: &Arc<Hub>, body: &Body, until: Instant) -> Option<Wishes> {
    let keys = (0..body.subscriptions.len() as u32).map(SubscriptionKey);
    let of = |key: SubscriptionKey| {
        (
            key,
            hub.rules.sources(&body.subscriptions[key.0 as usize].filter).unwrap_or_default(),
        )
    };
    let read: Vec<(SubscriptionKey, Vec<Source>)> = keys.map(of).collect();
    let listed = listed(hub, read.iter().flat_map(|(_, sources)| patterns(sources)).collect(), until).await?;
    let mut topics: BTreeMap<String, Wanted> = BTreeMap::new();
    let mut want = |name: &str, source: &Source, key: SubscriptionKey| {
        let retention = hub.rules.rule(source.rule).offline_retention;
        let wanted = topics.entry(name.to_owned()).or_insert_with_key(|name| Wanted {
            name: name.clone(),
            offline_retention: retention,
            keys: Vec::new(),
        });
        wanted.offline_retention = wanted.offline_retention.zip(retention).map(|(longest, own)| longest.max(own));
        // Several rules may read one Kafka topic; one seat in it is enough.
        if wanted.keys.last() != Some(&key) {
            wanted.keys.push(key);
        }
    };
    // What is named may be away, and is then waited for; those who mean it by other names wait, too.
    let named: BTreeSet<&str> = read.iter().flat_map(|(_, sources)| sources).filter_map(Source::named).collect();
    let mut outlooks = Vec::new();
    for (key, sources) in &read {
        for source in sources {
            match &source.kafka_topics {
                KafkaTopics::One(name) => want(name, source, *key),
                KafkaTopics::Like(pattern) => {
                    let others = listed.iter().map(|name| &**name).filter(|name| !named.contains(name));
                    let all = named.iter().copied().chain(others);
                    all.filter(|name| pattern.matches(name)).for_each(|name| want(name, source, *key));
                }
            }
        }
        let patterns = patterns(sources);
        if !patterns.is_empty() {
            outlooks.push((*key, patterns));
        }
    }
    let got = |(key, patterns): (SubscriptionKey, Vec<TopicPattern>)| {
        let its = topics.iter().filter(|(_, wanted)| wanted.keys.contains(&key));
        (key, patterns, its.map(|(name, _)| Arc::from(&**name)).collect())
    };
    let outlooks = outlooks.into_iter().map(got).collect();
    let (mut there, mut away) = (Vec::new(), Vec::new());
    for (name, wanted) in topics {
        match known(hub, &name, until).await.ok()? {
            Some(topic) => {
                // Another instance may have sent from a partition that this one has not heard of.
                let last = highest_open(body, &topic);
                there.push((grown(hub, topic, last, until).await, wanted));
            }
            None => away.push(wanted),
        }
    }
    Some(Wishes { there, away, outlooks })
}

/// The last partition of a topic from which messages are open that must be read again.
fn highest_open(body: &Body, topic: &Topic) -> Option<u32> {
    let outbound = body.steps.outbound.values();
    let unreleased = outbound.filter(|outgoing| !outgoing.released && outgoing.share.is_none());
    let open = body.steps.flight.values().chain(unreleased.map(|outgoing| &outgoing.place));
    let of_it = open.filter(|place| place.source.topic == *topic.id.as_bytes());
    of_it.map(|place| place.source.partition).max()
}

/// The topics of the cluster that have such names. `None`: Kafka did not say in time.
async fn listed(hub: &Hub, patterns: Vec<TopicPattern>, until: Instant) -> Option<Vec<Arc<str>>> {
    if patterns.is_empty() {
        return Some(Vec::new());
    }
    let names = timeout_at(until, hub.cluster.look_out(patterns).now()).await.ok()??;
    Some(names.into_iter().filter(|name| !hub.is_own(name)).collect())
}
