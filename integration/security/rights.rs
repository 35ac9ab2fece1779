//! A Kafka that allows nothing that was not granted.

use super::listeners::{PASSWORD, USER, mechanisms};
use super::{both_ways, warnings};
use crate::deliver::COMMANDS;
use crate::publish::rule;
use crate::stage::{Kafka, Proxy, eventually, free_address, free_base, output, root};

const UP: &str = "granted-up";
const DOWN: &str = "granted-down";
/// It may be seen, and no more.
const SEEN: &str = "seen-only";

/// What the table of the documentation grants, as `Client.java` wants it.
fn documented() -> Vec<String> {
    let text = include_str!("../../docs/kafka.md");
    let (_, section) = text.split_once("## The rights that it needs\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    let mut grants = Vec::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let resources: &[(&str, &str)] = match cells[1] {
            "topics of rules that devices publish by" => &[("topic", UP)],
            "topics of rules that devices subscribe by" => &[("topic", DOWN)],
            "`mqtt-sessions`, `mqtt-retained`" => &[("topic", "mqtt-sessions"), ("topic", "mqtt-retained")],
            "the group `mqtt-sessions-instances`" => &[("group", "mqtt-sessions-instances")],
            // No rule here has one.
            "dead letter topics" | "topics that programs look into (`lookup`)" => &[],
            other => panic!("who is {other:?}?"),
        };
        for (kind, name) in resources {
            let operations = cells[2].split(", ");
            grants.extend(operations.map(|operation| format!("{kind}:{name}:{operation}")));
        }
        // `topics.create: false` would spare it.
        assert_eq!(cells[2].contains("CREATE"), cells[1].contains("mqtt-retained"));
    }
    grants
}

#[test]
fn the_rights_in_the_documentation_are_enough_and_are_used_when_they_come() {
    let (base, sasl) = (free_base(1), free_address());
    let mut settings = vec![
        format!(
            "listeners=PLAINTEXT://127.0.0.1:{base},CONTROLLER://127.0.0.1:{},SASL://{sasl}",
            base + 10
        ),
        format!("advertised.listeners=PLAINTEXT://127.0.0.1:{base},SASL://{sasl}"),
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT".to_owned(),
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer".to_owned(),
        // The brokers among themselves, and the tests.
        "super.users=User:ANONYMOUS".to_owned(),
    ];
    settings.extend(mechanisms("sasl", &["SCRAM-SHA-512"]));
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let user = format!("SCRAM-SHA-512=[name=\"{USER}\",password=\"{PASSWORD}\"]");
    let kafka = Kafka::start_for(base, 1, &settings, &[&user]);
    kafka.topic(UP, 1);
    kafka.topic(DOWN, 1);
    kafka.topic(SEEN, 1);
    let rules = format!(
        "{}\n{}\nsessions: {{expiry: {{max: 1h}}}}",
        rule(UP),
        COMMANDS.replace("NAME", DOWN)
    );
    let security = format!(
        ", security: {{protocol: sasl_plaintext, sasl: {{mechanism: SCRAM-SHA-512, username: \"{USER}\", password: \"${{KAFKA_PASSWORD}}\"}}}}"
    );
    let proxy = Proxy::launch_in(&[("KAFKA_PASSWORD", PASSWORD)], &sasl.to_string(), &rules, &security);
    let told = eventually("it says what is missing", || {
        let (status, why) = proxy.get("/readyz").ok()?;
        (status == 503 && why.contains("mqtt-sessions")).then_some(why)
    });
    println!("{told}{}", warnings(&proxy).join("\n"));
    let said = |what: &str, topic: &str| proxy.log().lines().any(|line| line.contains(what) && line.contains(topic));
    let of_both = |what: &str| [UP, DOWN].iter().all(|topic| said(what, topic)).then_some(());
    eventually("the topics cannot be used", || of_both("the topic cannot be used"));
    let check = |rules: &str| Proxy::check_online_in(&[("KAFKA_PASSWORD", PASSWORD)], &sasl.to_string(), rules, &security);
    let lacks = |rules: &str, words: &[&str]| {
        let (code, said) = check(rules);
        assert_eq!(code, 69, "{said}");
        words.iter().for_each(|words| assert!(said.contains(words), "{words} in {said}"));
    };
    lacks(
        &rules,
        &[
            "granted-up (rules: granted-up) does not exist, or the proxy's principal may not see it",
            "mqtt-sessions-instances (the group of instances): Kafka refuses READ",
        ],
    );
    let grants = [documented(), vec![format!("topic:{SEEN}:DESCRIBE")]].concat();
    let client = root().join("integration/kafka/Client.java");
    let mut arguments = vec!["java", client.to_str().unwrap(), "grant", &kafka.bootstrap, USER];
    arguments.extend(grants.iter().map(String::as_str));
    kafka.command(&arguments);
    eventually("ready", || (proxy.get("/readyz").ok()?.0 == 200).then_some(()));
    // It looks for missing topics again now and then, also for those of the rules.
    eventually("the topics can be used", || of_both("the topic can be used"));
    both_ways(&kafka, &proxy, UP, DOWN);
    // Its rule goes both ways; nobody has subscribed by it.
    lacks(&rules, &["granted-up (rules: granted-up): Kafka refuses READ: grant it"]);
    let (code, said) = check(&rules.replacen("kafka:", "direction: publish, kafka:", 1));
    assert_eq!(code, 0, "{said}");
    assert!(
        !said.contains("refuses") && said.contains("mqtt-sessions-instances: may be joined"),
        "{said}"
    );
    let seen = "  - {name: named, mqtt: \"named/#\", on_error: {dead_letter: granted-down}, kafka: {topic: seen-only}}
  - {name: formed, mqtt: \"formed/{x}/#\", kafka: {topic: \"seen-{x}\"}}";
    lacks(
        seen,
        &[
            "seen-only (rules: named): Kafka refuses READ: grant it",
            "seen-only (rules: named): Kafka refuses WRITE: grant it",
            "granted-down (rules: dead letters of named): Kafka refuses WRITE",
            "warning: seen-*: seen-only: Kafka refuses WRITE (rules: formed)",
        ],
    );
    // A session that is stored, by an instance that looks after a part of them.
    let mqtt = proxy.mqtt.port().to_string();
    let stored = ["-h", "127.0.0.1", "-p", &mqtt, "-V", "mqttv5", "-i", "granted", "-c", "-x", "60"];
    output(
        "mosquitto_sub",
        &[&stored[..], &["-q", "1", "-t", &format!("{DOWN}/42/commands"), "-E"]].concat(),
    );
    eventually("the session is stored", || {
        kafka
            .consume("mqtt-sessions", "%k\n")
            .iter()
            .any(|key| key == "claim:granted")
            .then_some(())
    });
    let later: Vec<String> = warnings(&proxy)
        .into_iter()
        // The topics of the rules are asked for at the start, before anything is granted.
        .filter(|line| {
            !["state topics", "cannot be looked at", "the topic cannot be used"]
                .iter()
                .any(|known| line.contains(known))
        })
        .collect();
    assert_eq!(later, [""; 0]);
}
