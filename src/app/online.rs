//! `check --online`: whether the cluster, the key sets and the schemas are there and as the configuration needs them. Nothing is made or changed.
//!
//! What is right goes to stdout, each fault to stderr as one line with its remedy.

pub(super) mod topics;

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::timeout;

use crate::config::Config;
use crate::relay::SharedKind;
use crate::resources;
use crate::upstream::{Cluster, Operation, State, TopicState, Verdict};

use super::exit::{Exit, answer, tell};
use super::run::{instances, state_topics};

/// How long Kafka may take until a broker has answered, and then for each topic.
const PATIENCE: Duration = Duration::from_secs(15);

/// Asks the cluster; what is found is on stdout and stderr by then.
pub(super) fn check(config: &Config) -> Exit {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            tell(&format_args!("the system refuses a runtime: {e}; raise the limits of the process"));
            return Exit::System;
        }
    };
    let exit = runtime.block_on(Box::pin(look(config)));
    runtime.shutdown_background();
    exit
}

async fn look(config: &Config) -> Exit {
    let cluster = Cluster::start(config.kafka.clone());
    let mut state = cluster.state();
    let reached = timeout(PATIENCE, state.wait_for(|state| *state == State::Ready))
        .await
        .is_ok_and(|seen| seen.is_ok());
    if !reached {
        let why = match &*state.borrow() {
            State::Connecting { why } | State::Unfit { why } => why.clone(),
            State::Ready => "it came too late".to_owned(),
        };
        tell(&format_args!("Kafka is not reached: {why}"));
        return Exit::Unavailable;
    }
    let mut report = Report::default();
    report.right(&format!("Kafka is reached, {}", count(cluster.brokers().len(), "broker")));
    topics::look(config, &cluster, &mut report).await;
    table_topics(config, &cluster, &mut report).await;
    own_topics(config, &cluster, &mut report).await;
    shared_groups(config, &cluster).await;
    if config.shared == SharedKind::ShareGroup {
        share_groups(&cluster, &mut report).await;
    }
    key_sets(config, &mut report).await;
    subjects(config, &mut report).await;
    report.exit
}

/// What was said, and the code that follows from it.
struct Report {
    exit: Exit,
}

impl Default for Report {
    fn default() -> Self {
        Self { exit: Exit::Done }
    }
}

impl Report {
    fn right(&mut self, words: &str) {
        let told = answer(words);
        if self.exit == Exit::Done {
            self.exit = told;
        }
    }

    fn wrong(&mut self, words: &str) {
        tell(&words);
        self.exit = Exit::Unavailable;
    }
}

/// `1 broker`, `2 brokers`.
fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// The topics that programs look into: each must be there and be read; one that is not compacted may forget rows, which is no fault.
async fn table_topics(config: &Config, cluster: &Cluster, report: &mut Report) {
    let tables = config.rules.tables();
    let topics: BTreeSet<&str> = tables.iter().filter_map(|table| Some(table.topic()?.topic.as_str())).collect();
    for name in topics {
        let topic = match timeout(PATIENCE, cluster.topic_known(name)).await {
            Ok(TopicState::Ready(topic)) => topic,
            Ok(TopicState::Missing) => {
                report.wrong(&format!(
                    "{name} (lookup) does not exist, or the proxy's principal may not see it: make it, or grant DESCRIBE"
                ));
                continue;
            }
            Ok(TopicState::Unknown) | Err(_) => {
                report.wrong(&format!("{name} (lookup): no broker tells of it"));
                continue;
            }
        };
        let first = async {
            match cluster.table(&topic).await {
                Ok(mut table) => table.next().await.is_some(),
                Err(_) => false,
            }
        };
        match timeout(PATIENCE, first).await {
            Ok(true) => report.right(&format!(
                "{name}: {}, readable (lookup)",
                count(topic.partitions.len(), "partition")
            )),
            Ok(false) | Err(_) => report.wrong(&format!("{name} (lookup) cannot be read: grant READ to the proxy's principal")),
        }
        let warning = match cluster.cleanup_policy(name).await {
            Ok(Ok(policy)) if policy.split(',').any(|policy| policy.trim() == "compact") => continue,
            Ok(Ok(policy)) => format!("cleanup.policy is `{policy}`: rows of records that are deleted by age are lost; set it to compact"),
            Ok(Err(code)) => format!(
                "whether it is compacted is not told ({}): grant DESCRIBE_CONFIGS to have it looked at",
                code.name()
            ),
            Err(why) => format!("whether it is compacted is not told: {why}"),
        };
        tell(&format_args!("warning: {name} (lookup): {warning}"));
    }
}

async fn own_topics(config: &Config, cluster: &Cluster, report: &mut Report) {
    let topics = state_topics(config);
    let verdicts = match cluster.examine(&topics).await {
        Ok(verdicts) => verdicts,
        Err(why) => return report.wrong(&format!("the state topics cannot be looked at: {why}")),
    };
    let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
    let rights = match cluster.rights(&names).await {
        Ok(rights) => rights,
        Err(why) => {
            return report.wrong(&format!(
                "what the proxy's principal may do with the state topics is not told: {why}"
            ));
        }
    };
    for (name, verdict) in names.iter().zip(verdicts) {
        match verdict {
            Verdict::Right { partitions, replicas } => {
                let (partitions, replicas) = (count(partitions, "partition"), count(replicas, "replica"));
                report.right(&format!("{name}: {partitions}, {replicas} (state)"));
            }
            Verdict::Creatable => report.right(&format!("{name}: not there; `run` makes it (state)")),
            Verdict::Wrong(faults) => faults.iter().for_each(|fault| report.wrong(fault)),
        }
        let needs = [Operation::Read, Operation::Write].into_iter();
        topics::tell_lacking(name, "state", rights.get(*name), needs, report);
    }
    if !topics.is_empty() {
        group(&instances(config), cluster, report).await;
    }
}

/// The group of instances, which is made by the first that joins it.
async fn group(group: &str, cluster: &Cluster, report: &mut Report) {
    match cluster.may_join(group).await {
        Ok(true) => report.right(&format!("{group}: may be joined (the group of instances)")),
        Ok(false) => report.wrong(&format!(
            "{group} (the group of instances): Kafka refuses READ: grant it to the proxy's principal"
        )),
        Err(why) => report.wrong(&format!("{group} (the group of instances): no broker tells of it: {why}")),
    }
}

/// Groups of shared subscriptions have the names that clients give them. No fault: who has no such subscriptions needs no right to them.
async fn shared_groups(config: &Config, cluster: &Cluster) {
    let prefix = &config.group_prefix;
    let lacks = match cluster.may_join(&format!("{prefix}shared")).await {
        Ok(true) => return,
        Ok(false) => "is not granted: each shared subscription is turned away".to_owned(),
        Err(why) => format!("is not told by any broker: {why}"),
    };
    tell(&format_args!(
        "warning: READ on groups whose names begin with `{prefix}` ($share/…) {lacks}; grant it to the proxy's principal where clients share"
    ));
}

/// What shared subscriptions need of the brokers.
async fn share_groups(cluster: &Cluster, report: &mut Report) {
    match cluster.lacks_share_groups().await {
        Ok(None) => report.right("share groups: the brokers have them"),
        Ok(Some(lacks)) => report.wrong(&format!(
            "share groups: the brokers lack {lacks} (Apache Kafka 4.2 or newer has them): every shared subscription would be refused; write \
             `consumer-group` for sessions.shared"
        )),
        Err(why) => report.wrong(&format!("share groups: no broker tells of them: {why}")),
    }
}

async fn subjects(config: &Config, report: &mut Report) {
    for registry in &config.registries {
        let url = &registry.http.url;
        for (subject, newest) in resources::examine(registry).await {
            match newest {
                Ok(id) => report.right(&format!("{url}: {subject} is written with the schema {id}")),
                Err(why) => report.wrong(&format!("{url}: {subject}: {why}")),
            }
        }
    }
}

async fn key_sets(config: &Config, report: &mut Report) {
    for set in &config.access.key_sets {
        let url = &set.http.url;
        match resources::fetch(set).await {
            Ok(keys) => report.right(&format!("{url}: {} for tokens", count(keys, "key"))),
            Err(why) => report.wrong(&format!("{url}: {why}")),
        }
    }
}
