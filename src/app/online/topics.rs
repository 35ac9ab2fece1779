//! The Kafka topics of rules: whether they are there, have the partitions that rules name, and let us do what rules do with them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tokio::time::timeout;

use crate::config::Config;
use crate::mapping::{KafkaTopics, PartitionSpec, Rule};
use crate::upstream::{Cluster, Operation, Rights, TopicState};

use super::{PATIENCE, Report, count};
use crate::app::exit::tell;

/// Names that one line tells.
const MOST_TOLD: usize = 5;

/// What rules do with a topic, or with topics of one form.
#[derive(Default)]
pub(in crate::app) struct Use {
    /// Their names, and what for if it is not their messages.
    rules: Vec<String>,
    reads: bool,
    writes: bool,
    /// Rules that write to one partition.
    partitions: Vec<(String, u32)>,
}

impl Use {
    fn by(&mut self, rule: &Rule, what: &str, reads: bool, writes: bool) {
        self.rules.push(format!("{what}{}", rule.name));
        self.reads |= reads;
        self.writes |= writes;
    }

    fn main(&mut self, rule: &Rule) {
        self.by(rule, "", rule.delivers(), rule.publishes());
        if let (PartitionSpec::Number(number), true) = (&rule.partition, rule.publishes()) {
            self.partitions.push((rule.name.clone(), *number));
        }
    }

    fn needs(&self) -> impl Iterator<Item = Operation> {
        let needs = [(self.reads, Operation::Read), (self.writes, Operation::Write)];
        needs
            .into_iter()
            .filter_map(|(is_needed, operation)| is_needed.then_some(operation))
    }

    /// `rules: a, b`.
    fn words(&self) -> String {
        format!("rules: {}", self.rules.join(", "))
    }
}

/// The topics that rules name, each with what for; rules whose topics have captures name none.
pub(in crate::app) fn named(config: &Config) -> BTreeMap<String, Use> {
    let mut topics = BTreeMap::<String, Use>::new();
    for (_, rule) in config.rules.iter() {
        if let Some(topic) = rule.kafka_topic() {
            topics.entry(topic.to_owned()).or_default().main(rule);
        }
        for topic in rule.topics() {
            topics.entry(topic.clone()).or_default().by(rule, "", false, true);
        }
        if let Some(topic) = &rule.dead_letter {
            topics.entry(topic.clone()).or_default().by(rule, "dead letters of ", false, true);
        }
    }
    topics
}

/// The same of the forms of names that the others have.
fn formed(config: &Config) -> BTreeMap<KafkaTopics, Use> {
    let mut topics = BTreeMap::<KafkaTopics, Use>::new();
    for (_, rule) in config.rules.iter().filter(|(_, rule)| rule.kafka_topic().is_none()) {
        topics.entry(rule.kafka_topics()).or_default().main(rule);
    }
    topics
}

/// Looks at all of them.
pub(super) async fn look(config: &Config, cluster: &Cluster, report: &mut Report) {
    let named = named(config);
    let rights = rights(cluster, named.keys().map(String::as_str), report).await;
    for (topic, of) in &named {
        one(topic, of, rights.get(topic), cluster, report).await;
    }
    for (form, of) in &formed(config) {
        many(config, form, of, cluster, report).await;
    }
}

async fn rights<'a>(cluster: &Cluster, topics: impl Iterator<Item = &'a str>, report: &mut Report) -> HashMap<String, Rights> {
    let topics: Vec<&str> = topics.collect();
    cluster.rights(&topics).await.unwrap_or_else(|why| {
        report.wrong(&format!("what the proxy's principal may do with the topics is not told: {why}"));
        HashMap::new()
    })
}

async fn one(topic: &str, of: &Use, rights: Option<&Rights>, cluster: &Cluster, report: &mut Report) {
    let words = of.words();
    let partitions = match timeout(PATIENCE, cluster.topic_known(topic)).await {
        Ok(TopicState::Ready(topic)) => topic.partitions.len(),
        Ok(TopicState::Missing) => {
            return report.wrong(&format!(
                "{topic} ({words}) does not exist, or the proxy's principal may not see it: make it, or grant DESCRIBE"
            ));
        }
        Ok(TopicState::Unknown) | Err(_) => return report.wrong(&format!("{topic} ({words}): no broker tells of it")),
    };
    report.right(&format!("{topic}: {} ({words})", count(partitions, "partition")));
    for (rule, number) in &of.partitions {
        if usize::try_from(*number).is_ok_and(|number| number >= partitions) {
            report.wrong(&format!(
                "{topic}: rule {rule} writes to partition {number}, there are {partitions}: name one below that, or give the topic more"
            ));
        }
    }
    tell_lacking(topic, &words, rights, of.needs(), report);
}

/// Tells of each operation that Kafka would refuse.
pub(super) fn tell_lacking(topic: &str, words: &str, rights: Option<&Rights>, needs: impl Iterator<Item = Operation>, report: &mut Report) {
    for operation in needs.filter(|operation| rights.is_some_and(|rights| !rights.may(*operation))) {
        let name = operation.name();
        report.wrong(&format!(
            "{topic} ({words}): Kafka refuses {name}: grant it to the proxy's principal"
        ));
    }
}

/// Topics that are known by the form of their names. That there is none yet is no fault, and which of them are meant to be used only devices
/// tell: what is not right with one is a warning.
async fn many(config: &Config, form: &KafkaTopics, of: &Use, cluster: &Cluster, report: &mut Report) {
    let KafkaTopics::Like(pattern) = form else { return };
    let words = of.words();
    let own = [&config.state_topics.sessions.name, &config.state_topics.retained.name];
    let mut lookout = cluster.look_out(vec![pattern.clone()]);
    let Ok(Some(mut found)) = timeout(PATIENCE, lookout.now()).await else {
        return report.wrong(&format!("{form} ({words}): no broker lists the topics of such names"));
    };
    found.retain(|name| own.iter().all(|own| **own != **name));
    match found.len() {
        0 => report.right(&format!("{form}: no topic has such a name yet ({words})")),
        number => report.right(&format!(
            "{form}: {} of such names: {} ({words})",
            count(number, "topic"),
            some_of(&found)
        )),
    }
    for (rule, number) in &of.partitions {
        let mut smaller = Vec::new();
        for name in &found {
            if let Ok(TopicState::Ready(topic)) = timeout(PATIENCE, cluster.topic_known(name)).await
                && usize::try_from(*number).is_ok_and(|number| number >= topic.partitions.len())
            {
                smaller.push(name.clone());
            }
        }
        warn(
            form,
            &smaller,
            &format!("rule {rule} writes to partition {number}, which is not there"),
        );
    }
    let rights = rights(cluster, found.iter().map(AsRef::as_ref), report).await;
    for operation in of.needs() {
        let lacks = |name: &&Arc<str>| rights.get(&***name).is_some_and(|rights| !rights.may(operation));
        let lacking: Vec<Arc<str>> = found.iter().filter(lacks).cloned().collect();
        let name = operation.name();
        let what = format!("Kafka refuses {name} ({words}): grant it to the proxy's principal where it is needed");
        warn(form, &lacking, &what);
    }
}

fn warn(form: &KafkaTopics, topics: &[Arc<str>], what: &str) {
    if !topics.is_empty() {
        tell(&format_args!("warning: {form}: {}: {what}", some_of(topics)));
    }
}

/// The first of them, and how many more there are.
fn some_of(names: &[Arc<str>]) -> String {
    let names: BTreeSet<&str> = names.iter().map(AsRef::as_ref).collect();
    let told: Vec<&str> = names.iter().copied().take(MOST_TOLD).collect();
    match names.len().checked_sub(MOST_TOLD) {
        None | Some(0) => told.join(", "),
        Some(more) => format!("{} and {more} more", told.join(", ")),
    }
}
