//! The own tail of one partition: its records in order, and the moments at which it was at the end.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    kafka::error::ErrorCode,
    ownership::Millis,
    relay::inbound::now_ms,
    upstream::{Chunk, Cluster, Reader, Start, Topic},
};

/// How often the end is asked for if nobody needs it sooner. The protocol gives up a tail that was not at the end for a minute.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// After a question that was not answered.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The end of the log, and when it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub end: i64,
    pub asked: Millis,
    /// Counts the questions.
    pub number: u64,
}

type Question = Pin<Box<dyn Future<Output = Result<i64, ErrorCode>> + Send>>;

/// See the head of the file.
pub struct Tail {
    cluster: Cluster,
    pub topic: Arc<Topic>,
    pub partition: i32,
    reader: Reader,
    /// Everything below it was read.
    pub position: i64,
    /// Where the last batch began that was asked for twice.
    doubted: i64,
    question: Option<Question>,
    /// When the question was asked, or the last one.
    asked: Millis,
    /// Of the last question.
    pub number: u64,
    ask_at: Instant,
    /// Somebody waits for an end that is asked for from now on.
    hurried: bool,
    /// The answer, until the tail has read so far.
    pub mark: Option<Mark>,
}

/// What the tail has met.
pub enum Met {
    /// Records, or nothing new.
    Records(Chunk),
    /// The end is known.
    End,
    /// The log is not what was read: the tail must begin anew.
    Broken(&'static str),
    /// The topic is gone, or the client was shut down.
    Gone,
}

impl Tail {
    /// From the first offset on.
    pub fn new(cluster: Cluster, topic: Arc<Topic>, partition: i32) -> Self {
        let reader = cluster.read(&topic, partition, Start::Offset(0));
        Self {
            cluster,
            topic,
            partition,
            reader,
            position: 0,
            doubted: -1,
            question: None,
            asked: 0,
            number: 0,
            ask_at: Instant::now(),
            hurried: false,
            mark: None,
        }
    }

    /// Begins again at the first offset, of this topic or one that was made anew.
    pub fn restart(&mut self, topic: Arc<Topic>) {
        let number = self.number;
        *self = Self::new(self.cluster.clone(), topic, self.partition);
        self.number = number;
    }

    /// A batch that begins at `base` cannot be read: it may be damaged on its way, so it is asked for once more. False: it was asked for before.
    ///
    /// What is left out here is not read back: a claim that is missed would have two owners act for one session.
    pub fn reads_again(&mut self, base: i64) -> bool {
        if base <= self.doubted {
            return false;
        }
        self.doubted = base;
        self.position = self.position.max(base);
        self.go_on(self.topic.clone());
        true
    }

    /// Goes on at its place: the topic is the same, and somebody else reads it for us now.
    pub fn go_on(&mut self, topic: Arc<Topic>) {
        self.reader = self.cluster.read(&topic, self.partition, Start::Offset(self.position));
        self.topic = topic;
    }

    /// Has the end asked for as soon as the question before is answered.
    pub fn hurry(&mut self) {
        self.hurried = true;
    }

    /// Waits for the next thing. Cancel-safe.
    pub async fn next(&mut self) -> Met {
        let Self {
            cluster,
            topic,
            partition,
            reader,
            position,
            doubted: _,
            question,
            asked,
            number,
            ask_at,
            hurried,
            mark,
        } = self;
        // The answer to an older question is read up to first, or a busy tail would never arrive.
        if question.is_none() && mark.is_none() && (*hurried || *ask_at <= Instant::now()) {
            *hurried = false;
            let (cluster, of) = (cluster.clone(), [(topic.clone(), *partition)]);
            *asked = u64::try_from(now_ms()).unwrap_or(0);
            *number += 1;
            *question = Some(Box::pin(async move {
                let end = cluster.end_offsets(&of).await.pop();
                end.unwrap_or(Err(ErrorCode::from(-1)))
            }));
        }
        let waits = question.is_none() && mark.is_none();
        let answer = async {
            match question {
                Some(question) => question.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            end = answer => {
                *question = None;
                *ask_at = Instant::now() + if end.is_ok() { ASK_EVERY } else { ASK_AGAIN };
                if let Ok(end) = end {
                    *mark = Some(Mark { end, asked: *asked, number: *number });
                }
                Met::End
            }
            chunk = reader.next() => match chunk {
                None => Met::Gone,
                // Compaction leaves the first offset alone, but records can be deleted by hand.
                Some(chunk) if chunk.reset && *position > 0 => Met::Broken("the log was cut off, or records were deleted before they were read"),
                Some(chunk) => Met::Records(chunk),
            },
            () = tokio::time::sleep_until(*ask_at), if waits => Met::End,
        }
    }

    /// The mark, if the tail has come to it.
    pub fn arrived(&mut self) -> Option<Mark> {
        self.mark.take_if(|mark| mark.end <= self.position)
    }
}
