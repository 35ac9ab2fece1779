//! The Kafka topics of a shared subscription: those that are named, and those of the cluster whose names have the form that rules give them.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    future::pending,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    mapping::Source,
    relay::{hub::Hub, lookouts, placing, share::Shares},
    upstream::{Lookout, Topic, TopicId, TopicState},
};

/// Where the partitions of topics end when the first subscriber comes, or when a topic can be seen first that could not; by the name, since
/// brokers may be too old for ids.
pub(in crate::relay::share) type Ends = HashMap<(Arc<str>, TopicId), Vec<i64>>;
/// Those of one topic that was away.
pub(super) type LateEnds = Option<((Arc<str>, TopicId), Vec<i64>)>;
/// Kafka did not say where a topic ends.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// See the head of the file.
pub(in crate::relay::share) struct Found {
    /// All whose partitions are wanted.
    pub(in crate::relay::share) topics: BTreeSet<Arc<str>>,
    /// Wanted, be they there or not.
    named: BTreeSet<Arc<str>>,
    /// Those that have come since the first subscriber of this instance: all that they hold is for it.
    young: HashSet<Arc<str>>,
    pub(in crate::relay::share) lookout: Option<Lookout>,
}

impl Found {
    /// What was found first.
    pub(super) fn new(sources: &[Source], topics: BTreeSet<String>, lookout: Option<Lookout>) -> Self {
        Self {
            topics: topics.into_iter().map(Arc::from).collect(),
            named: sources.iter().filter_map(Source::named).map(Arc::from).collect(),
            young: HashSet::new(),
            lookout,
        }
    }

    /// The topics of the cluster, once they are others; never, if all are named. Cancel-safe.
    pub(in crate::relay::share) async fn change(&mut self) -> Option<Vec<Arc<str>>> {
        match &mut self.lookout {
            Some(lookout) => lookout.change().await,
            None => pending().await,
        }
    }

    /// Takes the topics of the cluster; all that are wanted from now on, if these are others. One that is only missing in the list stays.
    pub(in crate::relay::share) fn take(&mut self, names: Vec<Arc<str>>, hub: &Hub) -> Option<BTreeSet<Arc<str>>> {
        let is_there = |name: &&Arc<str>| matches!(hub.cluster.topic(name), TopicState::Ready(_));
        let mut topics: BTreeSet<Arc<str>> = self.topics.iter().filter(is_there).cloned().collect();
        topics.extend(names.into_iter().filter(|name| !hub.is_own(name)));
        topics.extend(self.named.iter().cloned());
        if topics == self.topics {
            return None;
        }
        self.young.extend(topics.difference(&self.topics).cloned());
        self.young.retain(|name| topics.contains(name));
        self.topics.clone_from(&topics);
        Some(topics)
    }

    /// Whether all of a topic is younger than the subscription.
    pub(super) fn is_young(&self, name: &str) -> bool {
        self.young.contains(name)
    }
}

/// The topics of a shared subscription, where those end that are there, and the names of the others.
pub(in crate::relay::share) async fn begin_to_look(
    shares: &Shares,
    sources: &[Source],
    until: Instant,
) -> Result<(Found, Ends, Vec<String>), &'static str> {
    let (topics, lookout) = lookouts::topics(&shares.hub, sources, until).await.ok_or(placing::UNAVAILABLE)?;
    let (ends, away) = ends(shares, &topics, until).await?;
    if ends.is_empty() && lookout.is_none() {
        return Err("no_such_topic");
    }
    Ok((Found::new(sources, topics, lookout), ends, away))
}

/// Where the topics end that are there; the names of the others.
pub(in crate::relay::share) async fn ends(
    shares: &Shares,
    topics: &BTreeSet<String>,
    until: Instant,
) -> Result<(Ends, Vec<String>), &'static str> {
    let (mut there, mut away) = (Vec::new(), Vec::new());
    for name in topics {
        match placing::known(&shares.hub, name, until).await? {
            Some(topic) => there.push(topic),
            None => away.push(name.clone()),
        }
    }
    let all = |topic: &Arc<Topic>| (0..topic.partitions.len() as i32).map(|at| (topic.clone(), at)).collect::<Vec<_>>();
    let partitions: Vec<_> = there.iter().flat_map(all).collect();
    let told = tokio::time::timeout_at(until, shares.hub.cluster.end_offsets(&partitions)).await;
    let mut ends = Ends::new();
    for ((topic, _), end) in partitions.into_iter().zip(told.map_err(|_| placing::UNAVAILABLE)?) {
        match end {
            Ok(end) => ends.entry((topic.name.clone(), topic.id)).or_default().push(end),
            // It was deleted just now.
            Err(_) if shares.hub.cluster.is_away(&topic) => away.push(topic.name.to_string()),
            Err(_) => return Err(placing::UNAVAILABLE),
        }
    }
    away.dedup();
    ends.retain(|(name, _), _| away.iter().all(|away| *away != **name));
    Ok((ends, away))
}

/// Where a topic ends that was not there or could not be seen, once it can. All of one that has appeared is younger than the subscription.
pub(super) async fn late_ends(hub: Arc<Hub>, name: String) -> LateEnds {
    loop {
        let topic = hub.cluster.topic_appears(&name).await?;
        let ends = if topic.appeared {
            Some(Vec::new())
        } else {
            hub.ends_of(&topic).await
        };
        if let Some(ends) = ends {
            return Some(((topic.name.clone(), topic.id), ends));
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}
