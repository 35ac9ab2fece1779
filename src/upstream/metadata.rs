//! Which topics, partitions, leaders and brokers there are: one loop asks, everybody else reads what it found.
//!
//! It asks when a topic is wanted that it does not know, when a sender or fetcher met an error that newer metadata may cure (`pace`), when
//! what it knows is old, and now and then for topics that are missing. Bursts of reasons become one request.

use std::{
    collections::hash_map::Entry as Found,
    future::pending,
    sync::Arc,
    time::{Duration, Instant},
};

use kafka_protocol::{
    messages::{
        MetadataResponse, TopicName,
        metadata_response::{MetadataResponsePartition, MetadataResponseTopic},
    },
    protocol::StrBytes,
};
use tokio::time::sleep_until;

use super::{
    backoff,
    bootstrap::{self, Among, any_connection},
    brokers,
    cluster::Core,
    connection::Connection,
    fetch,
    inquiry::{Failure, inquire},
    janitor,
    pace::Pace,
    topics::{Entry, Partition, Teller, Topic, TopicId, TopicState},
    turn::{Turn, Worth},
};
use crate::kafka::{
    Acks,
    error::{ErrorCode, Retry},
};

/// How long a broker that has just answered may take to list all topics.
const LISTED_WITHIN: Duration = Duration::from_secs(5);
/// How often a missing topic is asked for while somebody wants it.
pub(crate) const ASK_MISSING_AGAIN: Duration = Duration::from_secs(2);
/// A topic that nobody wanted for so many times the age of metadata is forgotten.
const AGES_UNUSED: u32 = 5;
/// Answers in a row that make a new name missing. A broker may learn of a new topic later than the one who made it.
const CONFIRM_MISSING: u32 = 2;
/// Answers in a row that make a topic missing that was there.
const CONFIRM_VANISHED: u32 = 5;

/// The longest pause, less jitter, while no broker can be reached: devices wait for Kafka's return, and nobody else looks out for it.
const MOST_PAUSE: Duration = Duration::from_millis(800);

/// What a round leaves to do.
struct Round {
    /// Something is still to be found out soon (a leader, a confirmation).
    unsettled: bool,
    /// Topics are missing that may appear.
    missing: bool,
    /// What the answers were worth.
    worth: Worth,
}

/// Runs until the client stops.
pub(crate) async fn run(core: Arc<Core>) {
    let mut link: Option<Connection> = None;
    let mut failures = 0;
    let mut unsettled = 0;
    let mut turn = Turn::default();
    let mut among = turn.among();
    let mut pace = Pace::new(Instant::now());
    let most_age = core.settings.metadata_max_age;
    let mut doubted = true;
    let mut full = pace.begin(&core.doubts, true);
    loop {
        match round(&core, &mut link, full, among, failures).await {
            Ok(round) => {
                failures = 0;
                unsettled = if round.unsettled { unsettled + 1 } else { 0 };
                core.standing.away(None);
                let passes = turn.answered(round.worth, doubted || round.unsettled, Instant::now());
                let pause = match (round.unsettled, round.missing) {
                    (true, _) => backoff::wait(unsettled - 1, Duration::from_millis(50), Duration::from_secs(1)),
                    (false, true) => ASK_MISSING_AGAIN,
                    (false, false) => most_age.saturating_sub(pace.last.elapsed()),
                };
                news(&core, link.as_ref(), &mut pace, Instant::now() + pause).await;
                let too_old = pace.last.elapsed() >= most_age;
                if too_old {
                    // What nobody doubts may be wrong, too: that a topic has not grown, for one.
                    turn.pass();
                }
                if passes || too_old {
                    leave(&core, &mut link, &mut turn);
                }
                among = turn.among();
                let doubts = core.doubts.failures().is_some();
                full = pace.begin(&core.doubts, too_old);
                doubted = full && doubts;
            }
            Err(failure) => {
                failures += 1;
                turn.pass();
                among = match failure {
                    Failure::Rebootstrap => {
                        tracing::info!("the cluster wants its clients to begin again with their bootstrap servers");
                        Among::Bootstrap
                    }
                    Failure::Why(why) => {
                        core.standing.away(Some(why));
                        turn.among()
                    }
                };
                tokio::time::sleep(backoff::wait(failures - 1, Duration::from_millis(100), MOST_PAUSE)).await;
                doubted = true;
                full = pace.begin(&core.doubts, true);
            }
        }
    }
}

/// Gives the connection up for one to the broker whose turn it is; to the one behind that, if it is that one. There may be no other.
fn leave(core: &Core, link: &mut Option<Connection>, turn: &mut Turn) {
    let Some(old) = link.take() else { return };
    let comes_first = |turn: &Turn| bootstrap::first(core, turn.among()).as_deref() == Some(&*old.address);
    if comes_first(turn) {
        turn.pass();
    }
    *link = comes_first(turn).then_some(old);
}

/// Waits until somebody wants to know of a new name, those who doubt what is known have waited long enough, or it is `until`. A broker that
/// does not believe us any more, or has gone, is such a doubt: where nothing is published nobody else may notice that for long.
async fn news(core: &Core, link: Option<&Connection>, pace: &mut Pace, until: Instant) {
    loop {
        let doubts = core.doubts.failures();
        let until = doubts.map_or(until, |failures| pace.due(failures).min(until));
        tokio::select! {
            () = core.refresh.notified() => return,
            () = sleep_until(until.into()) => return,
            () = core.doubts.grown() => {}
            () = core.security.withdrawn.notified() => core.refresh_all(0),
            () = ended(link), if doubts != Some(0) => core.refresh_all(0),
        }
    }
}

/// Looks every second whether the connection is still there; for ever, if there is none.
async fn ended(link: Option<&Connection>) {
    let Some(link) = link else { return pending().await };
    while link.is_open() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Asks for what is due, after so many failures in a row. A connection that was there before gets no more patience for those: a broker that is paused
/// must not hold up the news of who leads instead of it.
async fn round(core: &Arc<Core>, link: &mut Option<Connection>, full: bool, among: Among, failures: u32) -> Result<Round, Failure> {
    let names = due(core, full);
    let listing = core.listings.due(core.settings.metadata_max_age);
    if names.is_empty() && !full && listing.is_none() {
        return Ok(outlook(core, Worth::default()));
    }
    let old = link.take_if(|l| l.is_open());
    let learn = |answer: &MetadataResponse, by: &str| learn(core, answer, by);
    // A broker may have closed it for idleness a moment ago: that is no sign of trouble, so a fresh one is tried before anybody is told.
    let known = match &old {
        Some(connection) => inquire(connection, &names, backoff::patience(0, core.settings.request_timeout), learn).await,
        None => Err(Failure::Why(String::new())),
    };
    let (used, worth) = match (old, known) {
        (Some(old), Ok(worth)) => (old, worth),
        (_, Err(Failure::Rebootstrap)) => return Err(Failure::Rebootstrap),
        _ => {
            let fresh = any_connection(core, among).await.map_err(Failure::Why)?;
            let worth = inquire(&fresh, &names, backoff::patience(failures, core.settings.request_timeout), learn).await?;
            (fresh, worth)
        }
    };
    let listed = match listing {
        Some(question) => {
            core.listings
                .list(&used, question, LISTED_WITHIN.min(core.settings.request_timeout))
                .await
        }
        None => true,
    };
    *link = Some(used);
    // Whoever waits for a topic says so only now and then.
    let unused = (core.settings.metadata_max_age * AGES_UNUSED).max(ASK_MISSING_AGAIN * 3);
    core.topics.forget_unwanted(unused, &core.identities);
    let mut outlook = outlook(core, worth);
    if !listed {
        (outlook.unsettled, outlook.worth.late) = (true, true);
    }
    Ok(outlook)
}

/// The names to ask for: all, or those that are new, unsettled, or missing for a while.
fn due(core: &Core, full: bool) -> Vec<Arc<str>> {
    let now = Instant::now();
    let mut names = Vec::new();
    for (name, entry) in core.topics.lock().iter_mut() {
        let due = match &entry.state {
            TopicState::Unknown => true,
            TopicState::Missing => full || entry.is_contested() || entry.asked.is_none_or(|at| now - at >= ASK_MISSING_AGAIN),
            TopicState::Ready(topic) => full || entry.missing > 0 || entry.is_contested() || leaderless(topic),
        };
        if due {
            entry.asked = Some(now);
            names.push(Arc::clone(name));
        }
    }
    names
}

fn leaderless(topic: &Topic) -> bool {
    topic.partitions.iter().any(|p| p.leader().is_none())
}

fn outlook(core: &Core, worth: Worth) -> Round {
    let topics = core.topics.lock();
    Round {
        unsettled: topics.values().any(|e| match &e.state {
            TopicState::Unknown => true,
            TopicState::Ready(topic) => e.missing > 0 || e.is_contested() || leaderless(topic),
            TopicState::Missing => e.is_contested(),
        }),
        missing: topics.values().any(|e| matches!(e.state, TopicState::Missing)),
        worth,
    }
}

/// A topic's name as requests want it.
pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn learn(core: &Arc<Core>, answer: &MetadataResponse, address: &str) -> Worth {
    let mut worth = Worth::default();
    core.all_brokers().iter().for_each(|b| b.list_as_known(false));
    for told in &answer.brokers {
        let address = if told.host.contains(':') {
            format!("[{}]:{}", &*told.host, told.port)
        } else {
            format!("{}:{}", &*told.host, told.port)
        };
        match core.broker(told.node_id.0) {
            Some(broker) => {
                worth.news |= broker.moved_to(address);
                broker.list_as_known(true);
            }
            None => {
                worth.news = true;
                brokers::begin(core, told.node_id.0, address);
            }
        }
    }
    let brokers = core.all_brokers();
    let by = Teller {
        broker: brokers.iter().find(|b| b.address() == address).map(|b| b.id),
        only: brokers.len() == 1,
    };
    for told in &answer.topics {
        worth = worth.with(learn_topic(core, told, by));
    }
    core.changed.send_modify(|n| *n += 1);
    core.orphans.place();
    for broker in brokers {
        // Leaders may have moved: both look at what they hold.
        Acks::EACH.iter().for_each(|acks| broker.line(*acks).kick.notify_one());
        let _ = broker.fetcher.send(fetch::Command::Look);
    }
    worth
}

fn learn_topic(core: &Core, told: &MetadataResponseTopic, by: Teller) -> Worth {
    let Some(name) = told.name.as_ref() else {
        return Worth::default();
    };
    let code = ErrorCode::from(told.error_code);
    let mut topics = core.topics.lock();
    let Found::Occupied(mut found) = topics.entry(Arc::from(&*name.0)) else {
        return Worth::default();
    };
    let name = Arc::clone(found.key());
    let entry = found.get_mut();
    match code.retry() {
        Retry::None => {
            let id = TopicId(told.topic_id);
            if !entry.believes(id, by) {
                return Worth::LATE;
            }
            if let Some(old) = entry.topic.clone().filter(|old| !old.id.may_be(id)) {
                tracing::warn!(topic = &*name, "the topic was deleted and made anew");
                // First, so that its heirs know under which stamps it may have sent.
                core.topics.bury(&old);
                janitor::clear(core, &old);
                entry.is_over(old.id);
            }
            let topic = renew(&name, entry, told);
            let news = !matches!(&entry.state, TopicState::Ready(known) if Arc::ptr_eq(known, &topic));
            let worth = lead(core, &topic, &told.partitions);
            entry.missing = 0;
            entry.topic = Some(Arc::clone(&topic));
            if matches!(entry.state, TopicState::Missing) {
                tracing::info!(topic = &*name, "the topic can be used");
            }
            entry.state = TopicState::Ready(topic);
            return worth.with(Worth { news, late: false });
        }
        // Not there, as far as this broker knows.
        Retry::AfterMetadata if code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => miss(&name, entry, code, false),
        // INVALID_TOPIC, TOPIC_AUTHORIZATION_FAILED: no need to ask twice about a new name.
        Retry::Never | Retry::AfterJoin | Retry::Fatal => miss(&name, entry, code, true),
        // LEADER_NOT_AVAILABLE and its like: soon again.
        Retry::Again | Retry::AfterMetadata | Retry::AfterCoordinator => core.counters.error(code.name()),
    }
    Worth::default()
}

/// An answer said that the topic cannot be used. One that was there is not taken away at one broker's word, whatever it says: it may not
/// have loaded its topics, or its rights, since it started.
fn miss(name: &Arc<str>, entry: &mut Entry, code: ErrorCode, definite: bool) {
    entry.missing += 1;
    entry.hidden = definite;
    let needed = match entry.state {
        TopicState::Ready(_) => CONFIRM_VANISHED,
        _ if definite => 1,
        _ => CONFIRM_MISSING,
    };
    if entry.missing >= needed && !matches!(entry.state, TopicState::Missing) {
        tracing::warn!(topic = &**name, error = code.name(), "the topic cannot be used");
        entry.state = TopicState::Missing;
        // Senders and fetchers rest; if it comes back with the same id, its leaders come with it.
        entry.topic.iter().flat_map(|t| &t.partitions).for_each(|p| p.lead_by(None));
    }
}

/// The topic as told: the old one if nothing but leaders changed, else one that shares its partitions as far as it is the same topic.
/// Those of another topic that had the name, which is buried, have heirs.
fn renew(name: &Arc<str>, entry: &Entry, told: &MetadataResponseTopic) -> Arc<Topic> {
    let told_id = TopicId(told.topic_id);
    let (known, appeared) = (entry.topic.as_ref(), entry.appears(told_id));
    let old = known.filter(|t| t.id.may_be(told_id));
    let id = old.map_or(told_id, |t| t.id);
    let count = told
        .partitions
        .iter()
        .filter_map(|p| usize::try_from(p.partition_index).ok())
        .map(|i| i + 1)
        .max()
        .unwrap_or(0);
    // An index far beyond the number of partitions told would only cost memory.
    let count = count.min(told.partitions.len());
    let former = known.filter(|_| old.is_none());
    match old {
        Some(topic) if topic.partitions.len() >= count && topic.appeared == appeared => Arc::clone(topic),
        _ => {
            let mut partitions: Vec<_> = old.map(|t| t.partitions.clone()).unwrap_or_default();
            for index in partitions.len()..count {
                partitions.push(match former.and_then(|t| t.partitions.get(index)) {
                    Some(former) => former.heir(id.0),
                    None => Partition::new(Arc::clone(name), id.0, index as i32),
                });
            }
            Arc::new(Topic {
                name: Arc::clone(name),
                id,
                partitions,
                appeared,
            })
        }
    }
}

fn lead(core: &Core, topic: &Topic, told: &[MetadataResponsePartition]) -> Worth {
    let mut worth = Worth::default();
    for partition in told {
        let Some(ours) = usize::try_from(partition.partition_index)
            .ok()
            .and_then(|i| topic.partitions.get(i))
        else {
            continue;
        };
        let broker = core.broker(partition.leader_id.0);
        worth = worth.with(ours.told_leader(broker.as_ref(), partition.leader_epoch));
    }
    worth
}
