//! What a state topic must be, and what is wrong with one: no socket, values in and words out.
//!
//! Each fault is one line: the topic, what is, what must be, and what an operator types.

use std::collections::HashMap;

use crate::{kafka::error::ErrorCode, upstream::settings::StateTopic};

/// The least age, in milliseconds, at which a record may be compacted, and for which a tombstone stays. An instance that sleeps for less
/// must still find each record of another in its place, or it would take a state for current that is not.
pub(super) const LEAST_AGE: i64 = 600_000;

/// The least `max.message.bytes`: the largest state of a session is 512 KiB, beside it stand its key and headers. Kafka's default is 1 MiB.
const LEAST_LARGEST: i64 = 640 << 10;

pub(super) const POLICY: &str = "cleanup.policy";
const TIMESTAMPS: &str = "message.timestamp.type";
const LAG: &str = "min.compaction.lag.ms";
const TOMBSTONES: &str = "delete.retention.ms";
const IN_SYNC: &str = "min.insync.replicas";
const LARGEST: &str = "max.message.bytes";

/// The settings that are looked at.
pub(super) const CHECKED: [&str; 6] = [POLICY, TIMESTAMPS, LAG, TOMBSTONES, IN_SYNC, LARGEST];

/// What there is.
pub(super) struct Found {
    pub(super) partitions: usize,
    /// Of the partition that has the fewest.
    pub(super) replicas: usize,
    pub(super) settings: HashMap<String, String>,
}

/// Replicas that must have a record before it counts: what is acknowledged survives one broker, where there are two.
fn in_sync(topic: &StateTopic) -> i16 {
    topic.replication.min(2)
}

/// The settings that a new topic gets.
pub(super) fn settings_of(topic: &StateTopic) -> Vec<(&'static str, String)> {
    vec![
        (POLICY, "compact".to_owned()),
        // Age is the broker's to say: devices and instances have clocks of their own.
        (TIMESTAMPS, "LogAppendTime".to_owned()),
        (LAG, LEAST_AGE.to_string()),
        (TOMBSTONES, LEAST_AGE.to_string()),
        (IN_SYNC, in_sync(topic).to_string()),
        // Whatever the broker's default is.
        (LARGEST, "1048588".to_owned()),
        // Only closed segments are compacted, and each reconnect retires a key.
        ("segment.bytes", "67108864".to_owned()),
        ("segment.ms", "600000".to_owned()),
        ("min.cleanable.dirty.ratio", "0.2".to_owned()),
    ]
}

/// All that is wrong.
pub(super) fn faults(topic: &StateTopic, found: &Found) -> Vec<String> {
    let name = &topic.name;
    let mut faults = Vec::new();
    if i32::try_from(found.partitions) != Ok(topic.partitions) {
        let Found { partitions, .. } = found;
        faults.push(format!(
            "{name} has {partitions} partitions, kafka.topics.partitions says {}: if it was made so, say so there; if it has gained partitions, \
             keys lie in two places: delete it, and it is made anew",
            topic.partitions
        ));
    }
    if found.replicas < usize::try_from(topic.replication).unwrap_or(0) {
        faults.push(format!(
            "{name} has {} replicas, kafka.topics.replication says {}: give it more (kafka-reassign-partitions), or say so there",
            found.replicas, topic.replication
        ));
    }
    let setting = |key: &str| found.settings.get(key).map_or("", String::as_str);
    let mut must = |key: &str, be: &str, why: &str| {
        let is = if setting(key).is_empty() { "not told" } else { setting(key) };
        let value = be.rsplit(' ').next().unwrap_or(be);
        faults.push(format!(
            "{name}: {key} is {is} and must be {be}, {why} (kafka-configs --alter --topic {name} --add-config {key}={value})"
        ));
    };
    if setting(POLICY) != "compact" {
        must(POLICY, "compact", "or state is deleted by its age");
    }
    if setting(TIMESTAMPS) != "LogAppendTime" {
        must(TIMESTAMPS, "LogAppendTime", "or ages follow the clocks of many machines");
    }
    let least = format!("at least {LEAST_AGE}");
    for (key, why) in [
        (LAG, "or an instance that slept may take an old state for the current one"),
        (TOMBSTONES, "or an instance that slept may miss that something ended"),
    ] {
        if !setting(key).parse().is_ok_and(|age: i64| age >= LEAST_AGE) {
            must(key, &least, why);
        }
    }
    if !setting(LARGEST).parse().is_ok_and(|bytes: i64| bytes >= LEAST_LARGEST) {
        let least = format!("at least {LEAST_LARGEST}");
        must(
            LARGEST,
            &least,
            "or a large session cannot be written, and all of its partition are disconnected",
        );
    }
    let needed = usize::try_from(in_sync(topic)).unwrap_or(1);
    match setting(IN_SYNC).parse::<usize>() {
        Ok(is) if is > found.replicas => must(IN_SYNC, &needed.to_string(), "or nothing can be written to so few replicas"),
        Ok(is) if is >= needed => {}
        _ => must(
            IN_SYNC,
            &format!("at least {needed}"),
            "or what is acknowledged may be lost with one broker",
        ),
    }
    faults
}

/// It is not there, and we may not make it.
pub(super) fn missing(topic: &StateTopic) -> String {
    let settings = settings_of(topic)
        .into_iter()
        .map(|(name, value)| format!(" --config {name}={value}"));
    format!(
        "{0} does not exist: set kafka.topics.create: true, or make it (kafka-topics --create --topic {0} --partitions {1} --replication-factor {2}{3})",
        topic.name,
        topic.partitions,
        topic.replication,
        settings.collect::<String>()
    )
}

/// Kafka does not make it.
pub(super) fn not_created(topic: &StateTopic, code: ErrorCode, message: &str) -> String {
    let remedy = match code {
        ErrorCode::INVALID_REPLICATION_FACTOR => "set kafka.topics.replication to what the cluster has brokers for, or start more",
        ErrorCode::TOPIC_AUTHORIZATION_FAILED | ErrorCode::CLUSTER_AUTHORIZATION_FAILED => {
            "grant the proxy's principal CREATE on it, or make it and set kafka.topics.create: false"
        }
        _ => "make it yourself, or mend what Kafka complains of",
    };
    let message = message.trim_end_matches('.');
    let colon = if message.is_empty() { "" } else { ": " };
    format!(
        "{} cannot be made, Kafka says {}{colon}{message}: {remedy}",
        topic.name,
        code.name()
    )
}

/// Kafka does not let us look.
pub(super) fn not_described(topic: &StateTopic, right: &str, code: ErrorCode) -> String {
    let remedy = match code {
        ErrorCode::TOPIC_AUTHORIZATION_FAILED | ErrorCode::CLUSTER_AUTHORIZATION_FAILED => {
            format!("grant the proxy's principal {right} on it")
        }
        _ => "see the broker's log".to_owned(),
    };
    format!("{} cannot be looked at, Kafka says {}: {remedy}", topic.name, code.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(replication: i16) -> StateTopic {
        StateTopic {
            name: "state".to_owned(),
            partitions: 16,
            replication,
            create: true,
        }
    }

    fn as_made(topic: &StateTopic) -> Found {
        Found {
            partitions: 16,
            replicas: topic.replication as usize,
            settings: settings_of(topic).into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
        }
    }

    #[test]
    fn what_we_make_is_right() {
        for replication in [1, 2, 3, 5] {
            let topic = topic(replication);
            assert_eq!(faults(&topic, &as_made(&topic)), Vec::<String>::new(), "{replication}");
        }
    }

    /// One wrong thing at a time: one line, which names it, and what to type.
    #[test]
    fn each_fault_is_one_line_of_its_own() {
        for (key, value, words) in [
            (POLICY, "delete", "cleanup.policy=compact"),
            (POLICY, "compact,delete", "must be compact"),
            (TIMESTAMPS, "CreateTime", "message.timestamp.type=LogAppendTime"),
            (LAG, "0", "min.compaction.lag.ms=600000"),
            (LAG, "599999", "at least 600000"),
            (LAG, "soon", "at least 600000"),
            (LARGEST, "524288", "max.message.bytes=655360"),
            (TOMBSTONES, "60000", "delete.retention.ms=600000"),
            (IN_SYNC, "1", "min.insync.replicas=2"),
            (IN_SYNC, "4", "nothing can be written"),
        ] {
            let topic = topic(3);
            let mut found = as_made(&topic);
            found.settings.insert(key.to_owned(), value.to_owned());
            let faults = faults(&topic, &found);
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(
                faults[0].starts_with("state") && faults[0].contains(words) && faults[0].contains(value),
                "{faults:?}"
            );
            assert!(!faults[0].contains('\n'));
        }
        let topic = topic(3);
        let mut found = as_made(&topic);
        (found.partitions, found.replicas) = (17, 2);
        let both = faults(&topic, &found);
        assert_eq!(both.len(), 2, "{both:?}");
        assert!(both[0].contains("17 partitions") && both[1].contains("2 replicas"), "{both:?}");
        // Longer than needed is no fault.
        let mut found = as_made(&topic);
        found.settings.insert(LAG.to_owned(), i64::MAX.to_string());
        found.settings.insert(IN_SYNC.to_owned(), "3".to_owned());
        assert_eq!(faults(&topic, &found), Vec::<String>::new());
        found.settings.clear();
        assert_eq!(faults(&topic, &found).len(), 6, "what is not told is not right");
    }

    /// docs/kafka.md prints the command that makes both topics: it makes what we would.
    #[test]
    fn the_command_that_is_documented_makes_what_we_make() {
        let document = include_str!("../../../docs/kafka.md");
        let (_, command) = document.split_once("    $ for topic in ").unwrap();
        let (topics, command) = command.split_once("; do ").unwrap();
        let (command, _) = command.split_once("; done").unwrap();
        assert_eq!(topics, "mqtt-sessions mqtt-retained");
        let words: Vec<_> = command.split_whitespace().filter(|word| *word != "\\").collect();
        let after = |option: &str| {
            let given = words.windows(2).filter(|pair| pair[0] == option).map(|pair| pair[1]);
            given.collect::<Vec<_>>()
        };
        assert_eq!(after("--topic"), ["$topic"]);
        assert_eq!(after("--partitions"), ["16"]);
        let topic = topic(after("--replication-factor")[0].parse().unwrap());
        let made = settings_of(&topic).into_iter().map(|(key, value)| format!("{key}={value}"));
        assert_eq!(after("--config"), made.collect::<Vec<_>>());
        assert!(document.contains("655,360"), "LEAST_LARGEST");
        assert_eq!((CHECKED.len(), LEAST_LARGEST), (6, 655_360));
    }
}
