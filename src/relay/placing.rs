//! Kafka's side of a SUBSCRIBE: topics are found, seats taken, end offsets asked for, feeds begun, retained messages waited for.
//!
//! It runs beside the connection, which goes on with other packets; the answer comes back through the mailbox.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use super::{
    hub::{Hub, Seat, Subscriber, stored_source, to_come},
    lookouts::{Looking, Lookouts, patterns, topics},
    mailbox::Mailbox,
    retained::{Retained, Starts},
    share::{SharedSeat, SharedWish, Shares},
    subscribing::{StartAt, Subscribed, Wish},
};
use crate::{
    mqtt::topic,
    session::{SubscriptionKey, Ticket},
    upstream::{Topic, TopicState},
};

/// Whose seats they are.
type To<'a> = (&'a Arc<Mailbox>, Option<&'a Arc<Lookouts>>);

/// What is left for the other filters of a SUBSCRIBE when a group has not taken this instance: it costs its own filter alone.
const OTHERS: Duration = Duration::from_secs(5);

/// Places all wishes of one SUBSCRIBE within `limit` and puts the answer into the mailbox.
pub async fn place(
    (hub, shares): (Arc<Hub>, Arc<Shares>),
    retained: Option<Arc<Retained>>,
    (mailbox, lookouts): (Arc<Mailbox>, Option<Arc<Lookouts>>),
    ticket: Ticket,
    wishes: Vec<Wish>,
    limit: Duration,
) {
    let until = tokio::time::Instant::now() + limit;
    let ready_by = until - OTHERS.min(limit / 2);
    let mut plain = Vec::with_capacity(wishes.len());
    let (mut wanted, mut shared) = (Vec::new(), Vec::new());
    let mut answer = Subscribed::nothing(ticket);
    for wish in wishes {
        let (place, key) = (wish.place, wish.key);
        answer.keys.push(key);
        if wish.shared.is_none() {
            let starts = (wish.retained && !wish.sources.is_empty()).then(Arc::<Starts>::default);
            if wish.retained {
                wanted.push((place, key, wish.filter.clone(), starts.clone()));
            }
            plain.push((wish, starts));
            continue;
        }
        shared.push((place, key, join_shared(&shares, &mailbox, &wish, until)));
    }
    for (place, key, seat) in shared {
        let ready = match seat {
            Ok(seat) => seat.ready(ready_by).await.map(|()| seat),
            Err(why) => Err(why),
        };
        match ready {
            Ok(seat) => answer.shared.push((key, seat)),
            Err(why) => answer.refused.push((place, why)),
        }
    }
    let (seated, ends) = sit_all(&hub, (&mailbox, lookouts.as_ref()), &plain, until).await;
    for (place, key, seats) in seated {
        match seats.and_then(|seats| Ok((begin(&hub, key, &seats, &ends)?, seats))) {
            Ok((starts, seats)) => {
                answer.starts.extend(starts);
                answer.seats.push((key, seats));
            }
            Err(why) => answer.refused.push((place, why)),
        }
    }
    wanted.retain(|(place, ..)| answer.refused.iter().all(|(refused, _)| refused != place));
    match retained.filter(|_| !wanted.is_empty()) {
        None => {}
        // Behind the end offsets of the mapped topics: see there.
        Some(retained) => match retained.streams(&wanted, until).await {
            Some(streams) => answer.retained = streams,
            None => answer.refused.extend(wanted.iter().map(|(place, ..)| (*place, UNAVAILABLE))),
        },
    }
    // What is refused keeps no seat.
    answer.seats.retain(|(key, _)| {
        !wanted
            .iter()
            .any(|(place, wanted, ..)| wanted == key && answer.refused.iter().any(|(refused, _)| refused == place))
    });
    for (wish, _) in plain.iter().filter(|(wish, _)| !wish.sources.is_empty()) {
        if answer.refused.iter().any(|(refused, _)| *refused == wish.place) {
            lookouts.iter().for_each(|lookouts| lookouts.end(wish.key));
        }
    }
    mailbox.subscribed(answer);
}

/// A place in a shared subscription, once it is ready.
fn join_shared(shares: &Arc<Shares>, mailbox: &Arc<Mailbox>, wish: &Wish, until: tokio::time::Instant) -> Result<SharedSeat, &'static str> {
    let filter = topic::parse_share(&wish.filter).ok().flatten();
    let shared = SharedWish {
        filter: filter.expect("it was found to be shared"),
        sources: &wish.sources,
        mailbox,
        key: wish.key,
        receive_maximum: wish.shared.expect("it was found to be shared"),
    };
    shares.join(&shared, until)
}

/// Kafka did not say in time what there is to know.
pub(super) const UNAVAILABLE: &str = "kafka_unavailable";

/// Seats for all of them, and where the partitions end. A topic that was deleted just now is only known to be away once that is asked: then
/// it is a topic to come.
async fn sit_all(hub: &Arc<Hub>, to: To<'_>, wishes: &[(Wish, Option<Arc<Starts>>)], until: tokio::time::Instant) -> (Vec<Seated>, Ends) {
    loop {
        let mut seated = Vec::with_capacity(wishes.len());
        for (wish, starts) in wishes {
            seated.push((wish.place, wish.key, sit(hub, to, wish, starts.as_ref(), until).await));
        }
        let wanted = partitions(&seated);
        let ends = ends(hub, wanted.clone(), until).await;
        let is_lost = |(partition, topic): (&(Arc<str>, i32), &Arc<Topic>)| !ends.contains_key(partition) && hub.cluster.is_away(topic);
        if tokio::time::Instant::now() >= until || !wanted.iter().any(is_lost) {
            return (seated, ends);
        }
        let begun = wishes.iter().filter(|(wish, _)| !wish.sources.is_empty());
        begun.for_each(|(wish, _)| to.1.into_iter().for_each(|lookouts| lookouts.end(wish.key)));
    }
}

/// Seats for a filter in all its Kafka topics, also in those that are not there or cannot be seen; it is refused if that is all of them.
///
/// All partitions are read, also where the filter fixes the key: a producer with another partitioner than ours may have put
/// the record anywhere, and records of any producer are delivered.
async fn sit(
    hub: &Arc<Hub>,
    (mailbox, lookouts): To<'_>,
    wish: &Wish,
    starts: Option<&Arc<Starts>>,
    until: tokio::time::Instant,
) -> Result<Vec<Seat>, &'static str> {
    let mut seats: Vec<Seat> = Vec::new();
    // It has them.
    if wish.sources.is_empty() {
        return Ok(seats);
    }
    let subscriber = || Subscriber::new(mailbox.clone(), wish.key, wish.granted).with_starts(starts.cloned());
    // Several rules may read one Kafka topic; one seat in it is enough.
    let (mut names, lookout) = topics(hub, &wish.sources, until).await.ok_or(UNAVAILABLE)?;
    names.retain(|name| wish.awaited.iter().all(|awaited| **awaited != **name));
    let mut missing = Vec::new();
    for name in &names {
        match known(hub, name, until).await? {
            Some(topic) => {
                // Whoever would find it later sits down first.
                lookouts.into_iter().for_each(|lookouts| lookouts.come(&topic));
                seats.push(hub.sit(topic.clone(), all_of(&topic), &wish.filter, subscriber()));
            }
            None => missing.push(name),
        }
    }
    if seats.is_empty() && lookout.is_none() {
        return Err("no_such_topic");
    }
    // See `hub::grow`.
    for name in missing {
        lookouts.into_iter().for_each(|lookouts| lookouts.awaits(name));
        seats.push(hub.sit(to_come(name), Vec::new(), &wish.filter, subscriber()));
    }
    if let (Some(lookouts), Some(lookout)) = (lookouts, lookout) {
        lookouts.begin(looking(wish, names), lookout);
    }
    Ok(seats)
}

/// What a wish looks out for that has its seats in these topics.
fn looking(wish: &Wish, names: BTreeSet<String>) -> Looking<'_> {
    let known = names.into_iter().map(Arc::from);
    Looking {
        key: wish.key,
        filter: &wish.filter,
        granted: wish.granted,
        patterns: patterns(&wish.sources),
        known: known.chain(wish.awaited.iter().map(|name| Arc::from(&**name))).collect(),
    }
}

fn all_of(topic: &Topic) -> Vec<i32> {
    (0..topic.partitions.len() as i32).collect()
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

/// How long it may take to learn of a partition that another instance has read.
const GROWS_WITHIN: Duration = Duration::from_secs(2);

/// A topic that has `partition`, if Kafka tells of that in time. Of what is left until `until` half is for the questions that follow.
pub(super) async fn grown(hub: &Hub, topic: Arc<Topic>, partition: Option<u32>, until: tokio::time::Instant) -> Arc<Topic> {
    let Some(partition) = partition else { return topic };
    let now = tokio::time::Instant::now();
    let within = GROWS_WITHIN.min(until.saturating_duration_since(now) / 2);
    hub.cluster.topic_with(topic, partition, now + within).await
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
    let mut offsets = Vec::new();
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
            offsets.push((place, offset));
        }
    }
    // Said before the retained messages are asked for: see `retained::barrier`.
    if let Some(watched) = seats.first().and_then(Seat::starts) {
        watched.begin(offsets);
    }
    Ok(starts)
}
