//! Rules of every kind between real devices and a real Kafka: what `proxy.yaml` says is what is stored and delivered.

use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use serde_json::json;
use tokio::runtime::Runtime;

use crate::compression::fed;
use crate::deliver::Subscriber;
use crate::load::client::{Client, Event, Version};
use crate::shared_kafka;
use crate::stage::{DEADLINE, Kafka, Proxy, eventually, output, root};

/// Publishes by mosquitto at QoS 1; returns once that is acknowledged.
fn publish(proxy: &Proxy, id: &str, topic: &str, payload: &str, more: &[&str]) {
    let port = proxy.mqtt.port().to_string();
    let arguments = [
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-i",
        id,
        "-V",
        "mqttv5",
        "-q",
        "1",
        "-t",
        topic,
        "-m",
        payload,
    ];
    output("mosquitto_pub", &[&arguments[..], more].concat());
}

#[test]
fn an_expression_takes_what_a_filter_cannot_and_gives_it_back() {
    let kafka = shared_kafka();
    ["regex-nord", "regex-rest"].into_iter().for_each(|topic| kafka.topic(topic, 1));
    let rules =
        "  - {name: lines, mqtt_regex: \"plants/(?<site>[a-z]+)-(?<hall>[0-9]+)/.*\", kafka: {topic: \"regex-{site}\", key: \"{hall}\"}}
  - {name: rest, mqtt: \"plants/#\", kafka: {topic: regex-rest}}";
    let proxy = Proxy::start(&kafka.bootstrap, rules, "");
    let one = Subscriber::mosquitto(&proxy, "mqttv5", "plants/nord-7/temperature");
    let all = Subscriber::mosquitto(&proxy, "mqttv311", "plants/nord/#");
    publish(&proxy, "device", "plants/nord-7/temperature", "21.5", &[]);
    publish(&proxy, "device", "plants/nord/temperature", "22.5", &[]);
    assert_eq!(one.message(), "message plants/nord-7/temperature|1|21.5");
    assert_eq!(all.message(), "message plants/nord/temperature|1|22.5");
    assert_eq!(kafka.consume("regex-nord", "%k|%s"), ["7|21.5"]);
    assert_eq!(kafka.consume("regex-rest", "%k|%s"), ["plants/nord/temperature|22.5"]);
    // Records of others belong to a topic only if they say to which.
    kafka.produce("regex-nord", "7", &[], "nowhere");
    kafka.produce("regex-nord", "8", &["mqtt.topic=plants/nord-7/temperature"], "not its key");
    kafka.produce("regex-nord", "7", &["mqtt.topic=plants/nord-7/temperature"], "23.5");
    assert_eq!(one.message(), "message plants/nord-7/temperature|2|23.5");
    assert!(proxy.metric(&["records_skipped_total", "lines", "no_inverse"]) >= 2.0);
}

/// A subscription by a wildcard where the rule has the plant in the Kafka topic's name: it reads those that there are, and one that is made later from
/// its first record on.
#[test]
fn kafka_topics_are_read_by_the_form_of_their_names_also_those_that_come_later() {
    let kafka = shared_kafka();
    ["form-nord", "form-sued", "formless"]
        .into_iter()
        .for_each(|topic| kafka.topic(topic, 1));
    let rules = "  - {name: forms, direction: subscribe, mqtt: \"forms/{site}/{key}\", qos: 1, kafka: {topic: \"form-{site}\"}}
  - {name: halls, mqtt: \"form-halls/{hall}/{x}\", qos: 1, kafka: {topic: \"form-hall-{hall}\", key: \"{x}\"}}";
    let proxy = Proxy::start(&kafka.bootstrap, rules, "");
    let all = Subscriber::mosquitto(&proxy, "mqttv5", "forms/+/k");
    let one = Subscriber::mosquitto(&proxy, "mqttv311", "forms/sued/#");
    // The version, in another word, is the client id.
    let halls = Subscriber::mosquitto(&proxy, "5", "form-halls/#");
    kafka.produce("form-nord", "k", &[], "1");
    assert_eq!(all.message(), "message forms/nord/k|1|1");
    kafka.produce("form-sued", "k", &[], "2");
    assert_eq!(all.message(), "message forms/sued/k|1|2");
    assert_eq!(one.message(), "message forms/sued/k|1|2");
    ["form-west", "form-hall-7"].into_iter().for_each(|topic| kafka.topic(topic, 1));
    kafka.produce("form-west", "k", &[], "3");
    publish(&proxy, "device", "form-halls/7/x", "4", &[]);
    // Whoever subscribes has the topics listed for all.
    let _another = Subscriber::mosquitto(&proxy, "311", "forms/+/other");
    assert_eq!(all.message(), "message forms/west/k|1|3");
    assert_eq!(halls.message(), "message form-halls/7/x|1|4");
    kafka.produce("form-west", "k", &[], "5");
    assert_eq!(all.message(), "message forms/west/k|1|5");
}

/// A proxy that asks for the password of `vin42`, lets others in by further methods, has such rules, and keeps its state in topics of its
/// own.
fn asking(kafka: &Kafka, name: &str, rules: &str, others: &str) -> Proxy {
    let folder = tempfile::tempdir().expect("a folder for files").keep();
    let users = mqtt_kafka_proxy::auth::passwords::entry("vin42", b"s3cret").expect("a legal name");
    std::fs::write(folder.join("users.txt"), users).expect("the folder was just made");
    let access = format!(
        "authentication: [{{method: password_file, file: \"{}/users.txt\"}}{others}]",
        folder.display()
    );
    let topics = format!(", topics: {{sessions: {name}-sessions, retained: {name}-retained, partitions: 1, replication: 1}}");
    let sessions = "sessions: {expiry: {}, instance_timeout: 2s}";
    Proxy::start(&kafka.bootstrap, &format!("{rules}\n{access}\n{sessions}"), &topics)
}

const LOGIN: [&str; 4] = ["-u", "vin42", "-P", "s3cret"];

#[test]
fn templates_are_filled_with_what_the_message_says() {
    let kafka = shared_kafka();
    // Its records are as old as their payloads say, and Kafka would remove them in its own time.
    kafka.command(&["topic", "said", "3", "1", "retention.ms=-1"]);
    let rules = "  - {name: said, mqtt: \"said/#\", kafka: {topic: said, key: \"{identity}:{user.unit}\", \
                 partition: \"{payload.lane}\", timestamp: \"{payload.at.time}\", headers: {day: \"{now.date}\", where: \"{payload.at.line}\"}}}";
    let proxy = asking(&kafka, "said", rules, "");
    let unit = ["-D", "publish", "user-property", "unit", "rpm"];
    let said = |payload: &str, more: &[&str]| publish(&proxy, "device", "said/x", payload, &[&LOGIN[..], more].concat());
    let good = r#"{"at": {"line": "L 7", "time": "2026-01-02T03:04:05.006Z"}, "lane": 2}"#;
    let day = output("date", &["-u", "+%F"]);
    said(good, &unit);
    let records = kafka.consume("said", "%p|%k|%T|%s|%h");
    assert_eq!(records.len(), 1);
    assert!(records[0].starts_with(&format!("2|vin42:rpm|1767323045006|{good}|")), "{records:?}");
    assert!(records[0].contains("where=L 7"), "{records:?}");
    // Midnight may have come in between.
    let days = [day, output("date", &["-u", "+%F"])];
    assert!(
        days.iter().any(|day| records[0].contains(&format!("day={}", day.trim()))),
        "{records:?}"
    );
    for (payload, properties, why) in [
        ("lane 2", &unit[..], "not_json"),
        (r#"{"lane": 2}"#, &unit, "no_payload_field"),
        (r#"{"at": {"line": 1, "time": 1}, "lane": "x"}"#, &unit, "not_a_partition"),
        (r#"{"at": {"line": 1, "time": 1}, "lane": 3}"#, &unit, "no_such_partition"),
        (r#"{"at": {"line": 1, "time": "today"}, "lane": 2}"#, &unit, "not_a_timestamp"),
        (good, &[], "no_user_property"),
    ] {
        said(payload, properties);
        assert_eq!(proxy.metric(&["refusals_total", why]), 1.0, "{why}");
    }
    assert_eq!(kafka.consume("said", "%s").len(), 1, "what was refused is not there");
}

/// Of mosquitto and of paho, and of who has none. So a device can be kept to a topic of its own.
#[test]
fn programs_know_the_identity_of_who_publishes() {
    let kafka = shared_kafka();
    kafka.topic("whose", 1);
    let rules = r#"  - name: whose
    mqtt: "whose/{vin}"
    kafka: {topic: whose, key: "{vin}"}
    transform: 'select($identity == null or $identity == $vin) | {who: $identity, v: .}'"#;
    let proxy = asking(&kafka, "whose", rules, ", {method: anonymous}");
    let subscriber = Subscriber::mosquitto(&proxy, "mqttv5", "whose/#");
    publish(&proxy, "device", "whose/vin42", "1", &LOGIN);
    publish(&proxy, "device", "whose/vin43", "2", &LOGIN);
    let mut login = json!({"port": proxy.mqtt.port(), "version": 4, "client_id": "paho", "topic": "whose/vin42", "value": "3"});
    (login["user"], login["password"]) = (json!("vin42"), json!("s3cret"));
    let mut paho = Command::new(root().join(".run/python/bin/python"));
    let told = fed(paho.arg(root().join("integration/paho_login.py")), &format!("{login}\n"));
    assert_eq!(told, "in\n");
    publish(&proxy, "nobody", "whose/vin43", "4", &[]);
    let values = [
        ("vin42", r#"{"who":"vin42","v":1}"#),
        ("vin42", r#"{"who":"vin42","v":3}"#),
        ("vin43", r#"{"who":null,"v":4}"#),
    ];
    assert_eq!(kafka.consume("whose", "%k|%s"), values.map(|(vin, value)| format!("{vin}|{value}")));
    for (vin, value) in values {
        assert_eq!(subscriber.message(), format!("message whose/{vin}|1|{value}"));
    }
    assert_eq!(proxy.metric(&["messages_dropped_total", "whose", "not_selected"]), 1.0);
}

/// All that a record says of the time is one moment: that of the receipt.
#[test]
fn the_time_of_receipt_is_in_key_timestamp_headers_and_program() {
    let kafka = shared_kafka();
    kafka.topic("clocks", 1);
    let rules = r#"  - name: clocks
    mqtt: "clocks/{x}"
    kafka: {topic: clocks, key: "{x}-{now}", timestamp: "{now}", headers: {iso: "{now.iso}", day: "{now.date}"}}
    transform: '{now: $now, v: .}'"#;
    let proxy = Proxy::start(&kafka.bootstrap, rules, "");
    let subscriber = Subscriber::mosquitto(&proxy, "mqttv5", "clocks/#");
    let clock = || SystemTime::UNIX_EPOCH.elapsed().expect("the clock runs").as_millis();
    let before = clock();
    publish(&proxy, "device", "clocks/hall", "7", &[]);
    let after = clock();
    let records = kafka.consume("clocks", "%k|%T|%s|%h");
    assert_eq!(records.len(), 1, "{records:?}");
    let key = records[0].split('|').next().expect("it has a key");
    let now: u128 = key.strip_prefix("hall-").expect("its capture").parse().expect("milliseconds");
    assert!((before..=after).contains(&now), "{before} {now} {after}");
    let value = format!("{{\"now\":{now},\"v\":7}}");
    let headers = records[0].strip_prefix(&format!("{key}|{now}|{value}|"));
    let headers: Vec<&str> = headers.unwrap_or_else(|| panic!("{records:?}")).split(',').collect();
    // As somebody else writes that moment.
    let moment = format!("@{}.{:03}", now / 1_000, now % 1_000);
    let iso = output("date", &["-u", "-d", &moment, "+iso=%FT%T.%3NZ"]);
    let day = output("date", &["-u", "-d", &moment, "+day=%F"]);
    assert!(headers.contains(&iso.trim()) && headers.contains(&day.trim()), "{headers:?} {iso}");
    // No subscriber can know such a key, and yet the message comes back.
    assert_eq!(subscriber.message(), format!("message clocks/hall|1|{value}"));
}

const LIMITS: &str = r#"[{"model": "a", "celsius": 90.5}, {"model": "b", "celsius": 70}]"#;

/// A proxy with a rule and a Kafka topic of this name, and with these tables in a folder: rows by their keys, and rows that are found by a field.
fn looking(kafka: &Kafka, name: &str, folder: &Path, sites: &str) -> Proxy {
    kafka.topic(name, 1);
    std::fs::write(folder.join("sites.json"), sites).expect("the folder was just made");
    std::fs::write(folder.join("limits.json"), LIMITS).expect("the folder was just made");
    let rule = r#"  - name: NAME
    mqtt: "NAME/{vin}"
    kafka: {topic: NAME, key: "{vin}"}
    lookup: {sites: "FOLDER/sites.json", limits: {file: "FOLDER/limits.json", key: model}}
    transform: '{site: lookup("sites"; $vin), hot: (.celsius > lookup("limits"; .model).celsius)}'
    transform_back: '{hot, line: lookup("sites"; $vin).line}'"#;
    let rule = rule.replace("NAME", name).replace("FOLDER", &folder.display().to_string());
    Proxy::start(&kafka.bootstrap, &rule, "")
}

/// Unlike those of CSV, rows of JSON hold more than texts.
#[test]
fn programs_look_into_tables_of_json_both_ways() {
    let kafka = shared_kafka();
    let folder = tempfile::tempdir().unwrap();
    let sites = r#"{"7": {"site": "nord", "line": 7}, "8": {"site": "süd", "line": [8, "x"]}}"#;
    let proxy = looking(&kafka, "rows", folder.path(), sites);
    let subscriber = Subscriber::mosquitto(&proxy, "mqttv5", "rows/#");
    for (vin, payload) in [
        ("7", r#"{"model":"a","celsius":91}"#),
        ("8", r#"{"model":"b","celsius":70}"#),
        ("9", r#"{"model":"b","celsius":70.5}"#),
    ] {
        publish(&proxy, "device", &format!("rows/{vin}"), payload, &[]);
    }
    let values = [
        r#"7|{"site":{"site":"nord","line":7},"hot":true}"#,
        r#"8|{"site":{"site":"süd","line":[8,"x"]},"hot":false}"#,
        r#"9|{"site":null,"hot":true}"#,
    ];
    assert_eq!(kafka.consume("rows", "%k|%s"), values);
    assert_eq!(subscriber.message(), r#"message rows/7|1|{"hot":true,"line":7}"#);
    assert_eq!(subscriber.message(), r#"message rows/8|1|{"hot":false,"line":[8,"x"]}"#);
    assert_eq!(subscriber.message(), r#"message rows/9|1|{"hot":true,"line":null}"#);
}

#[test]
fn a_table_of_json_that_is_exchanged_is_read_again_and_one_that_is_wrong_leaves_its_rows() {
    let kafka = shared_kafka();
    let folder = tempfile::tempdir().unwrap();
    let proxy = looking(&kafka, "rows-anew", folder.path(), r#"{"7": {"site": "nord"}}"#);
    let value = |vin: &str| {
        let topic = format!("rows-anew/{vin}");
        publish(&proxy, "device", &topic, r#"{"model":"a","celsius":90}"#, &[]);
        kafka.consume("rows-anew", "%s").pop().unwrap()
    };
    assert_eq!(value("7"), r#"{"site":{"site":"nord"},"hot":false}"#);
    let [next, sites] = ["next.json", "sites.json"].map(|name| folder.path().join(name));
    std::fs::write(&next, r#"{"9": {"site": "west"}}"#).unwrap();
    std::fs::rename(&next, &sites).unwrap();
    let west = r#"{"site":{"site":"west"},"hot":false}"#;
    eventually("the new rows are in force", || (value("9") == west).then_some(()));
    std::fs::write(&sites, "no JSON").unwrap();
    let words = "a lookup table cannot be read again";
    eventually(words, || proxy.log().contains(words).then_some(()));
    assert_eq!(value("9"), west);
    assert_eq!(value("7"), r#"{"site":null,"hot":false}"#);
}

#[test]
fn the_will_of_a_stored_session_has_the_identity_that_it_came_with() {
    let kafka = shared_kafka();
    kafka.topic("said-wills", 1);
    let proxy = asking(
        &kafka,
        "said-wills",
        "  - {name: wills, mqtt: \"said-wills/{x}\", kafka: {topic: said-wills, key: \"{identity}.{x}\"}}",
        "",
    );
    let port = proxy.mqtt.port().to_string();
    let mut client = Command::new("stdbuf");
    client.args([
        "-oL",
        "mosquitto_sub",
        "-d",
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-V",
        "mqttv5",
        "-i",
        "will",
        "-c",
        "-x",
        "60",
    ]);
    client.args([
        "-t",
        "said-wills/none",
        "--will-topic",
        "said-wills/1",
        "--will-payload",
        "gone",
        "--will-qos",
        "1",
    ]);
    // It is killed, so it says no goodbye.
    drop(Subscriber::start(client.args(LOGIN), "Subscribed"));
    let wills = || {
        kafka
            .consume("said-wills", "%k|%s")
            .into_iter()
            .find(|record| record.ends_with("gone"))
    };
    assert_eq!(eventually("the will is sent", wills), "vin42.1|gone");
}

/// The first batch is in flight while the others gather behind it, so the times that the topic does not take are in batches with good ones.
#[test]
fn of_a_batch_with_times_that_kafka_refuses_only_those_are_refused() {
    const COUNT: u16 = 60;
    let kafka = shared_kafka();
    kafka.command(&["topic", "punctual", "1", "1", "message.timestamp.after.max.ms=60000"]);
    let rules = "  - {name: punctual, mqtt: \"punctual/{at}\", kafka: {topic: punctual, key: k, timestamp: \"{at}\"}}";
    let proxy = Proxy::start(&kafka.bootstrap, rules, "");
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("the clock runs").as_millis();
    let answers = Runtime::new().unwrap().block_on(async {
        let mut client = Client::connect_taking(proxy.mqtt, Version::V5, "clock", None).await.unwrap();
        for id in 1..=COUNT {
            // Half an hour ahead: within the bound of the proxy, beyond that of the topic.
            let at = if id % 10 == 0 { now + 1_800_000 } else { now - u128::from(id) };
            client.publish(&format!("punctual/{at}"), 1, id, id.to_string().as_bytes()).unwrap();
        }
        client.flush().await.unwrap();
        let mut answers = vec![];
        while answers.len() < usize::from(COUNT) {
            match client.next_within(DEADLINE).await.unwrap() {
                Event::PubAck(id, reason) => answers.push((id, reason)),
                other => panic!("{other:?}"),
            }
        }
        answers
    });
    for (id, reason) in answers {
        assert_eq!(reason >= 0x80, id % 10 == 0, "{id}: {reason:#x}");
    }
    let good: Vec<String> = (1..=COUNT).filter(|id| id % 10 != 0).map(|id| id.to_string()).collect();
    assert_eq!(kafka.consume("punctual", "%s"), good);
    assert!(proxy.metric(&["kafka_produce_split_total"]) > 0.0, "a batch was split");
}
