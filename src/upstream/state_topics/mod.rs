//! The compacted topics in which the proxy keeps its own state: made where they are missing and may be made, checked before anything
//! rests on them, and looked at again from time to time.
//!
//! One task does it (`run`); `verdict` says what is wrong with a topic, `requests` asks. An operator reads each fault once, as one line
//! with what mends it, and readiness is not given before all are mended.

mod requests;
mod verdict;

use std::{collections::HashSet, sync::Arc, time::Duration};

use super::{
    backoff,
    bootstrap::{Among, any_connection},
    cluster::Core,
    connection::Connection,
    settings::StateTopic,
    standing::Fitness,
};
use crate::kafka::error::ErrorCode;
use requests::Mode;

/// How often faults that an operator must mend are looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Attempts after which it is said that the topics cannot be looked at.
const SAY_AFTER: u32 = 3;

/// What was found out about a state topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is as it must be.
    Right {
        /// How many partitions it has.
        partitions: usize,
        /// Replicas of the partition that has the fewest.
        replicas: usize,
    },
    /// It is not there, and Kafka would make it for us.
    Creatable,
    /// What is wrong, each with its remedy, as one line.
    Wrong(Vec<String>),
}

/// Runs until the client stops.
pub(crate) async fn run(core: Arc<Core>) {
    let (mut link, mut told, mut failures) = (None, HashSet::new(), 0);
    loop {
        // Not beside the first who asks: a password that is refused would be tried twice.
        core.standing.reached().await;
        let pause = match round(&core, &mut link, failures).await {
            Ok(faults) => {
                failures = 0;
                for fault in &faults {
                    if told.insert(fault.clone()) {
                        tracing::error!("{fault}");
                    }
                }
                // What comes back is told again.
                told.retain(|fault| faults.contains(fault));
                let wrong = !faults.is_empty();
                let fitness = if wrong { Fitness::Wrong(faults.join("; ")) } else { Fitness::Right };
                core.standing.judged(fitness);
                if wrong { LOOK_AGAIN } else { core.settings.metadata_max_age }
            }
            Err(why) => {
                failures += 1;
                tracing::debug!(why, "the state topics cannot be looked at");
                // What was right stays so: that no broker answers is told by others.
                if failures >= SAY_AFTER {
                    core.standing.not_judged(&why);
                }
                backoff::wait(failures - 1, Duration::from_millis(50), Duration::from_secs(2))
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Looks at all of them, by way of another broker after each failure. An error is one that may pass.
async fn round(core: &Core, link: &mut Option<Connection>, failures: u32) -> Result<Vec<String>, String> {
    let mut faults = Vec::new();
    for topic in &core.settings.state_topics {
        match look_at(core, link, topic, Mode::Make, failures).await? {
            Verdict::Right { .. } => {}
            Verdict::Creatable => return Err(format!("{} is being made", topic.name)),
            Verdict::Wrong(wrong) => faults.extend(wrong),
        }
    }
    Ok(faults)
}

async fn look_at(core: &Core, link: &mut Option<Connection>, topic: &StateTopic, mode: Mode, failures: u32) -> Result<Verdict, String> {
    let connection = match link.take().filter(Connection::is_open) {
        Some(connection) => connection,
        None => any_connection(core, Among::All(failures as usize)).await?,
    };
    let verdict = requests::look_at(core, &connection, topic, mode).await?;
    *link = Some(connection);
    Ok(verdict)
}

/// What is to be said of each of `topics`, without making one. Asks a bounded number of times for what may pass.
///
/// # Errors
/// Why no broker tells.
pub(crate) async fn examine(core: &Core, topics: &[StateTopic]) -> Result<Vec<Verdict>, String> {
    let mut verdicts = Vec::with_capacity(topics.len());
    let (mut link, mut failures) = (None, 0);
    while let Some(topic) = topics.get(verdicts.len()) {
        match look_at(core, &mut link, topic, Mode::Ask, failures).await {
            Ok(verdict) => verdicts.push(verdict),
            Err(why) if failures >= SAY_AFTER => return Err(why),
            Err(_) => {
                failures += 1;
                tokio::time::sleep(backoff::wait(failures, Duration::from_millis(50), Duration::from_secs(1))).await;
            }
        }
    }
    Ok(verdicts)
}

/// The `cleanup.policy` of any topic, or why Kafka does not tell it to us.
///
/// # Errors
/// Why no broker tells, after a few attempts.
pub(crate) async fn cleanup_policy(core: &Core, topic: &str) -> Result<Result<String, ErrorCode>, String> {
    let mut failures = 0;
    loop {
        let asked = match any_connection(core, Among::All(failures as usize)).await {
            Ok(connection) => requests::policy(core, &connection, topic).await,
            Err(why) => Err(why),
        };
        match asked {
            Err(_) if failures < SAY_AFTER => failures += 1,
            asked => return asked,
        }
        tokio::time::sleep(backoff::wait(failures, Duration::from_millis(50), Duration::from_secs(1))).await;
    }
}
