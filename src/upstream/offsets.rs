//! ListOffsets: one task per broker joins the questions of a moment into one request.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use kafka_protocol::messages::{
    ApiKey, BrokerId, ListOffsetsRequest, ListOffsetsResponse,
    list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until},
};

use super::{
    backoff,
    broker::Broker,
    cluster::Core,
    connection::{Connection, ORDINARY_FRAME},
    metadata::topic_name,
    topics::Partition,
};
use crate::kafka::error::{ErrorCode, Retry};

/// The timestamp that stands for the end of the log.
pub(crate) const LATEST: i64 = -1;
/// The timestamp that stands for its beginning.
pub(crate) const EARLIEST: i64 = -2;
/// The timestamp that stands for the beginning of what the leader has on its own disks (KIP-405). A broker that is too old for it takes it for a
/// time before all records, and has nothing elsewhere.
pub(crate) const EARLIEST_LOCAL: i64 = -4;
/// The answer to a question for a time, if all records are older.
const NO_SUCH_RECORD: i64 = -1;
/// An answer that is late by so long makes us ask whether another broker leads by now.
const OVERDUE: Duration = Duration::from_secs(1);
/// Questions that are held at once. More wait in the channel.
const MOST_AT_ONCE: usize = 10_000;
const NETWORK_EXCEPTION: i16 = 13;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;

/// One question for a broker.
pub(crate) struct Question {
    partition: Arc<Partition>,
    timestamp: i64,
    reply: oneshot::Sender<Result<i64, ErrorCode>>,
}

/// A question without an answer.
struct Waiting {
    answer: oneshot::Receiver<Result<i64, ErrorCode>>,
    /// The broker that was asked.
    of: i32,
}

/// Offsets of several partitions at once; `None` is a partition that does not exist.
pub(crate) async fn list(core: &Core, of: Vec<Option<&Arc<Partition>>>, timestamp: i64) -> Vec<Result<i64, ErrorCode>> {
    let deadline = Instant::now() + core.settings.request_timeout;
    // All are asked before the first answer is awaited.
    let asked: Vec<_> = of.into_iter().map(|p| p.map(|p| (p, ask(p, timestamp)))).collect();
    let mut answers = Vec::with_capacity(asked.len());
    for question in asked {
        answers.push(match question {
            Some((partition, waiting)) => persist(core, partition, timestamp, waiting, deadline).await,
            None => Err(ErrorCode::from(UNKNOWN_TOPIC_OR_PARTITION)),
        });
    }
    answers
}

/// The offset of the first record whose timestamp is `time` (milliseconds since 1970) or later; the end if there is none.
///
/// The end is asked for first. The other way round, a record of that time that is written between both questions would be left out.
pub(crate) async fn since(core: &Core, of: Vec<Option<&Arc<Partition>>>, time: i64) -> Vec<Result<i64, ErrorCode>> {
    let ends = list(core, of.clone(), LATEST).await;
    // Below 0 are times with a meaning of their own.
    let found = list(core, of, time.max(0)).await;
    let both = ends.into_iter().zip(found);
    both.map(|(end, found)| match found {
        Ok(NO_SUCH_RECORD) => end,
        found => found,
    })
    .collect()
}

fn ask(partition: &Arc<Partition>, timestamp: i64) -> Option<Waiting> {
    let broker = partition.lock().broker.clone()?;
    let (reply, answer) = oneshot::channel();
    let question = Question {
        partition: Arc::clone(partition),
        timestamp,
        reply,
    };
    broker.questions.send(question).ok().map(|()| Waiting { answer, of: broker.id })
}

/// Waits for the answer and asks again after what may pass.
async fn persist(
    core: &Core,
    partition: &Arc<Partition>,
    timestamp: i64,
    first: Option<Waiting>,
    deadline: Instant,
) -> Result<i64, ErrorCode> {
    let mut waiting = first;
    let mut attempt = 0;
    loop {
        let mut changed = core.changed.subscribe();
        if let Some(Waiting { answer, of }) = waiting {
            // A broker that is gone may keep us waiting; newer metadata that name another end that, also if they came before our turn.
            let moved = async { while partition.leader() == Some(of) && changed.changed().await.is_ok() {} };
            tokio::select! {
                biased;
                answer = answer => match answer {
                    Ok(Ok(offset)) => return Ok(offset),
                    Ok(Err(code)) if matches!(code.retry(), Retry::Never | Retry::AfterJoin | Retry::Fatal) => return Err(code),
                    _ => {}
                },
                () = moved => {}
                () = doubt(core) => {}
                () = sleep_until(deadline) => return Err(ErrorCode::REQUEST_TIMED_OUT),
            }
        }
        core.refresh_all(attempt);
        let pause = backoff::wait(attempt, Duration::from_millis(20), Duration::from_millis(500));
        attempt += 1;
        // Newer metadata end the pause.
        tokio::select! {
            _ = changed.changed() => sleep(Duration::from_millis(2)).await,
            () = sleep(pause) => {}
        }
        if Instant::now() >= deadline {
            return Err(ErrorCode::REQUEST_TIMED_OUT);
        }
        if core.topics.is_away(partition) {
            return Err(ErrorCode::from(UNKNOWN_TOPIC_OR_PARTITION));
        }
        waiting = ask(partition, timestamp);
    }
}

/// Has the metadata asked for, again and again: another may lead instead of a broker that lets us wait, and where nobody reads or produces
/// nobody else would notice. Never ends.
async fn doubt(core: &Core) {
    let mut doubts = 0;
    loop {
        sleep(OVERDUE).await;
        core.refresh_all(doubts);
        doubts += 1;
    }
}

/// Answers the questions for one broker, until the client stops. What came meanwhile is looked at before each request.
pub(crate) async fn run(core: Arc<Core>, broker: Arc<Broker>, mut questions: mpsc::UnboundedReceiver<Question>) {
    let mut link: Option<Connection> = None;
    let mut batch = Vec::new();
    loop {
        if batch.is_empty() && questions.recv_many(&mut batch, MOST_AT_ONCE).await == 0 {
            return;
        }
        while batch.len() < MOST_AT_ONCE
            && let Ok(question) = questions.try_recv()
        {
            batch.push(question);
        }
        let questions = joined(&mut batch);
        if questions.is_empty() {
            continue;
        }
        match round(&core, &broker, &mut link, &questions).await {
            Ok(answer) => reply(&core, questions, &answer),
            Err(why) => {
                link = None;
                tracing::debug!(broker = broker.id, why, "no offsets");
                for question in questions {
                    let _ = question.reply.send(Err(ErrorCode::from(NETWORK_EXCEPTION)));
                }
            }
        }
    }
}

/// Takes the questions that one request can ask: a partition must not be named twice, so it asks for one time of each. The ends and beginnings
/// come first: claims, SUBSCRIBE and CONNECT wait for those, and sessions that return all at once may ask for as many times as they are. Nobody
/// waits any more for some of the answers.
fn joined(batch: &mut Vec<Question>) -> Vec<Question> {
    batch.retain(|question| !question.reply.is_closed());
    let mut times = HashMap::new();
    for question in batch.iter().filter(|question| question.timestamp < 0) {
        times.entry(Arc::as_ptr(&question.partition)).or_insert(question.timestamp);
    }
    let (now, later) = std::mem::take(batch)
        .into_iter()
        .partition(|q| *times.entry(Arc::as_ptr(&q.partition)).or_insert(q.timestamp) == q.timestamp);
    *batch = later;
    now
}

async fn round(core: &Core, broker: &Broker, link: &mut Option<Connection>, asked: &[Question]) -> Result<ListOffsetsResponse, String> {
    if link.as_ref().is_none_or(|l| !l.is_open()) {
        let opened = Connection::open(&broker.address(), core, ORDINARY_FRAME).await;
        *link = Some(opened.map_err(|e| e.to_string()).inspect_err(|why| broker.tell_unreachable(why))?);
        broker.reached();
    }
    let connection = link.as_ref().expect("opened above");
    let version = connection
        .version(ApiKey::ListOffsets, 10)
        .ok_or("the broker shares no version of ListOffsets")?;
    let mut topics: HashMap<Arc<str>, BTreeMap<i32, ListOffsetsPartition>> = HashMap::new();
    for question in asked {
        let partition = ListOffsetsPartition::default()
            .with_partition_index(question.partition.index)
            .with_current_leader_epoch(question.partition.leader_epoch())
            .with_timestamp(question.timestamp);
        topics
            .entry(Arc::clone(&question.partition.topic))
            .or_default()
            .insert(question.partition.index, partition);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        ListOffsetsTopic::default()
            .with_name(topic_name(&name))
            .with_partitions(partitions.into_values().collect())
    });
    let timeout = core.settings.request_timeout;
    let request = ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_isolation_level(core.settings.consumer.isolation.level())
        .with_topics(topics.collect())
        .with_timeout_ms(i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX));
    let mut call = connection
        .send(ApiKey::ListOffsets, version, &request, timeout)
        .map_err(|e| e.to_string())?;
    call.answer().await.map_err(|e| e.to_string())
}

fn reply(core: &Core, asked: Vec<Question>, answer: &ListOffsetsResponse) {
    let mut offsets: HashMap<(&str, i32), (i16, i64, i32)> = HashMap::new();
    for topic in &answer.topics {
        for p in &topic.partitions {
            offsets.insert((&topic.name.0, p.partition_index), (p.error_code, p.offset, p.leader_epoch));
        }
    }
    for question in asked {
        let told = offsets.get(&(&*question.partition.topic, question.partition.index));
        let result = match told {
            Some((0, offset, epoch)) => {
                if question.timestamp == LATEST {
                    question.partition.told_end(*offset, *epoch);
                }
                Ok(*offset)
            }
            Some((code, ..)) => {
                let code = ErrorCode::from(*code);
                core.counters.error(code.name());
                Err(code)
            }
            None => Err(ErrorCode::from(NETWORK_EXCEPTION)),
        };
        let _ = question.reply.send(result);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn ends_come_before_times_and_who_has_gone_costs_nothing() {
        let partition = Partition::new("t".into(), Uuid::from_u128(1), 0);
        let other = Partition::new("t".into(), Uuid::from_u128(1), 1);
        let mut answers = Vec::new();
        let mut question = |partition: &Arc<Partition>, timestamp| {
            let (reply, answer) = oneshot::channel();
            answers.push(answer);
            let partition = Arc::clone(partition);
            Question {
                partition,
                timestamp,
                reply,
            }
        };
        let mut batch = vec![
            question(&partition, 1_000),
            question(&other, 1_000),
            question(&partition, 2_000),
            question(&partition, LATEST),
            question(&partition, 2_000),
        ];
        answers.remove(2);
        let times = |questions: &[Question]| questions.iter().map(|q| (q.partition.index, q.timestamp)).collect::<Vec<_>>();
        assert_eq!(times(&joined(&mut batch)), [(1, 1_000), (0, LATEST)]);
        answers.remove(0);
        assert_eq!(times(&joined(&mut batch)), [(0, 2_000)]);
        assert!(joined(&mut batch).is_empty());
    }
}
