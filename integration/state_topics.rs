//! State topics on a real Kafka: made by whoever comes first, with Kafka's own word for how they are set.

use crate::load::client::{Client, Version};
use crate::publish::rule;
use crate::shared_kafka;
use crate::stage::DEADLINE;
use crate::stage::{Proxy, eventually};
use mqtt_kafka_proxy::upstream::{Cluster, Settings, State, StateTopic, Verdict};
use tokio::time::timeout;

fn topic(name: &str) -> StateTopic {
    StateTopic {
        name: name.to_owned(),
        partitions: 5,
        replication: 1,
        create: true,
    }
}

fn start(bootstrap: &str, topics: &[&str]) -> Cluster {
    Cluster::start(Settings {
        bootstrap_servers: vec![bootstrap.to_owned()],
        state_topics: topics.iter().map(|name| topic(name)).collect(),
        ..Settings::default()
    })
}

/// One node holds one replica, so one is enough in sync; all instances ask for both topics at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_that_start_at_once_make_each_topic_once() {
    let kafka = shared_kafka();
    let names = ["state-one", "state-two"];
    let instances: Vec<_> = (0..6).map(|_| start(&kafka.bootstrap, &names)).collect();
    for instance in &instances {
        let mut state = instance.state();
        let seen = timeout(DEADLINE, state.wait_for(|s| *s == State::Ready)).await.is_ok();
        assert!(seen, "{:?}", instance.state().borrow());
    }
    let verdicts = instances[0].examine(&names.map(topic)).await.unwrap();
    let right = Verdict::Right {
        partitions: 5,
        replicas: 1,
    };
    assert_eq!(verdicts, [right.clone(), right]);
}

/// The rules, and sessions that are stored.
fn with_sessions(rules: &str) -> String {
    format!("{rules}\nsessions: {{expiry: {{default: 1h, max: 1d}}}}")
}

/// What Kafka says of a topic as an operator makes it who has not read the documentation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_made_by_hand_is_judged_by_what_kafka_says_of_it() {
    let kafka = shared_kafka();
    kafka.topic("state-by-hand", 4);
    let cluster = start(&kafka.bootstrap, &[]);
    let examined = cluster.examine(&[topic("state-by-hand"), topic("state-nowhere")]).await.unwrap();
    let Verdict::Wrong(faults) = &examined[0] else {
        panic!("{examined:?}")
    };
    for words in [
        "has 4 partitions, kafka.topics.partitions says 5",
        "cleanup.policy is delete",
        "message.timestamp.type is CreateTime",
        "min.compaction.lag.ms is 0",
        "delete.retention.ms is 86400000",
    ] {
        let found = faults.iter().any(|fault| fault.contains(words));
        assert_eq!(
            found,
            !words.starts_with("delete.retention"),
            "a day is long enough: {words} in {faults:?}"
        );
    }
    assert_eq!(faults.len(), 4, "{faults:?}");
    assert_eq!(examined[1], Verdict::Creatable);
    let many = StateTopic {
        replication: 3,
        ..topic("state-many")
    };
    let examined = cluster.examine(&[many]).await.unwrap();
    let Verdict::Wrong(faults) = &examined[0] else {
        panic!("{examined:?}")
    };
    assert!(faults.len() == 1 && faults[0].contains("INVALID_REPLICATION_FACTOR"), "{faults:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_refused_as_long_as_a_state_topic_is_wrong() {
    let kafka = shared_kafka();
    kafka.topic("state-unfit", 1);
    kafka.topic("fit", 1);
    let topics = ", topics: {sessions: state-fit, retained: state-unfit, partitions: 1, replication: 1}";
    let proxy = Proxy::launch(&kafka.bootstrap, &with_sessions(&rule("fit")), topics);
    let why = eventually("it says what is wrong", || {
        let (status, body) = proxy.get("/readyz").ok()?;
        assert_ne!(status, 200, "never ready");
        body.contains("cleanup.policy").then_some(body)
    });
    assert!(why.contains("state-unfit") && !why.contains("state-fit"), "{why}");
    let log = proxy.log();
    let told = |words: &str| log.lines().filter(|line| line.contains(words)).count();
    assert_eq!(
        (
            told("state-unfit: cleanup.policy is delete"),
            told("state-unfit: message.timestamp.type")
        ),
        (1, 1),
        "{log}"
    );
    assert_eq!(told("not ready"), 1, "{log}");
    // What needs nothing of it goes on.
    Client::connect(proxy.mqtt, Version::V5, "clean").await.unwrap();
    let (code, said) = Proxy::check_online(&kafka.bootstrap, &with_sessions(&rule("fit")), topics);
    assert_eq!(code, 69, "{said}");
    for words in [
        "Kafka is reached, 1 broker\n",
        "fit: 1 partition (rules: fit)",
        "state-unfit: cleanup.policy is delete and must be compact",
        "state-fit: 1 partition, 1 replica (state)",
    ] {
        assert!(said.contains(words), "{words} in {said}");
    }
}

#[test]
fn check_online_tells_of_the_whole_cluster() {
    let kafka = shared_kafka();
    kafka.topic("checked", 2);
    let rules = [
        rule("checked"),
        "  - {name: fixed, direction: publish, mqtt: fixed, kafka: {topic: checked, partition: 2}}".to_owned(),
        "  - {name: gone, mqtt: gone, kafka: {topic: checked-gone}}".to_owned(),
    ];
    let topics = ", topics: {sessions: checked-sessions, retained: checked-retained, partitions: 1, replication: 1}";
    let (code, said) = Proxy::check_online(&kafka.bootstrap, &with_sessions(&rules[0]), topics);
    assert_eq!(code, 0, "{said}");
    for words in [
        "checked: 2 partitions (rules: checked)",
        "checked-sessions: not there; `run` makes it",
        "checked-sessions-instances: may be joined",
    ] {
        assert!(said.contains(words), "{words} in {said}");
    }
    let (code, said) = Proxy::check_online(&kafka.bootstrap, &rules.join("\n"), topics);
    assert_eq!(code, 69, "{said}");
    for words in [
        "checked-gone (rules: gone) does not exist",
        "rule fixed writes to partition 2, there are 2",
    ] {
        assert!(said.contains(words), "{words} in {said}");
    }
    // Rules whose topics are known by the form of their names: those that are there, and none.
    ["checked-by-nord", "checked-by-west"]
        .iter()
        .for_each(|topic| kafka.topic(topic, 1));
    let forms = "  - {name: forms, mqtt: \"checked-by/{site}/#\", kafka: {topic: \"checked-by-{site}\", partition: 1}}
  - {name: none, mqtt: \"checked-for/{site}/#\", kafka: {topic: \"checked-for-{site}\"}}";
    let (code, said) = Proxy::check_online(&kafka.bootstrap, forms, topics);
    assert_eq!(code, 0, "{said}");
    for words in [
        "checked-by-*: 2 topics of such names: checked-by-nord, checked-by-west (rules: forms)",
        "warning: checked-by-*: checked-by-nord, checked-by-west: rule forms writes to partition 1, which is not there",
        "checked-for-*: no topic has such a name yet (rules: none)",
    ] {
        assert!(said.contains(words), "{words} in {said}");
    }
    let (code, said) = Proxy::check_online("127.0.0.1:1", &rules[0], topics);
    assert_eq!(code, 69, "{said}");
    assert!(said.contains("Kafka is not reached: ") && said.contains("127.0.0.1:1"), "{said}");
}
