//! One file with more than fifty faults, of every section and kind: each is told where it stands, and nothing else is.

// clippy.toml allows it in test functions; the functions they share are not seen as such.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use mqtt_kafka_proxy::config;

/// In front of each fault stands, in `⟦ ⟧`, a word of what is told of it.
const FAULTY: &str = r#"
listeners:
  - {name: tcp, address: ⟦is no IP address⟧nowhere, protocol: ⟦did you mean `mqtt`?⟧mqttt, path: ⟦is no path⟧mqtt}
  - {name: ⟦is taken in line⟧tcp, address: "0.0.0.0:1884", protocol: mqtt, limits: {connections: ⟦out of range⟧0}}
  - ⟦`protocol: mqtts` without `tls`⟧{name: tls, address: "0.0.0.0:8883", protocol: mqtts}
  - {name: ws, address: ⟦the address is taken⟧"0.0.0.0:8883", protocol: ws, proxy_from: [⟦no range of addresses⟧"10.0.0.0/33"], proxy_protocol: ⟦write `true` or `false`⟧yes}
limits:
  packet_size: ⟦write 1MiB⟧1MB
  connect_rate: ⟦no unit⟧5000
  ⟦did you mean `connections`?⟧conections: 5
kafka:
  bootstrap_servers: [⟦has no port⟧"kafka"]
  security: {protocol: sasl_ssl, sasl: {mechanism: PLAIN, username: proxy, password: ⟦stands in the file itself⟧hunter2}}
  producer: {linger: ⟦out of range⟧1h, compression: {codec: lz4, level: ⟦this codec has no levels⟧3}}
  consumer: {isolation: ⟦did you mean `read_committed`?⟧read_comitted}
  topics: {sessions: state, partitions: ⟦out of range⟧0}
rules:
  - {name: good, mqtt: "z/{z}", kafka: {topic: z, key: "{z}"}}
  - name: broken-filter
    mqtt: "vehicles/⟦is only a part of its level⟧{vin}x/+"
    kafka: {topic: "⟦a character that no Kafka topic name has⟧ä", key: "⟦a `{` without its `}`⟧{vin"}
  - name: captures
    mqtt: "a/{b}/⟦no template uses the capture⟧{c}"
    kafka: {topic: a, key: "{b}-⟦is not a capture⟧{d}", headers: {⟦names with `mqtt.`⟧mqtt.x: "{b}"}}
  - name: ⟦is taken in line⟧captures
    mqtt: "b/{b}"
    kafka: {topic: b, key: "{b}", partition: ⟦is no way to choose a partition⟧everywhere, acks: ⟦`all` here⟧-1}
  - name: expression
    mqtt_regex: "⟦unclosed group⟧(?<x>.*"
    kafka: {topic: c, key: "{x}"}
  - name: program
    mqtt: "d/{d}"
    transform: "{a: ⟦there is no variable `$vin`⟧$vin, b: ⟦there is no function `nothing`⟧nothing}"
    kafka: {topic: d, key: "{d}"}
  - name: misspelt
    ⟦did you mean `direction`?⟧direcion: publish
    mqtt: "e/⟦a `{` without its `}`⟧{f"
    kafka: {topic: ⟦names the state topic⟧state, ⟦did you mean `key`?⟧kye: "{e}", timestamp: ⟦is no timestamp⟧now}
  - name: tables
    mqtt: "f/{f}"
    lookup: {sites: ⟦cannot be read⟧gone.csv}
    transform: 'lookup("sites"; 1) | {a: ⟦there is no variable `$vin`⟧$vin}'
    kafka: {topic: f, key: "{f}-⟦is not a capture⟧{g}"}
  - name: schema
    mqtt: "g/{g}"
    value: {format: avro, registry: ⟦does not begin with http://⟧"r:8081", payload: ⟦did you mean `json`?⟧jsn}
    kafka: {topic: g, key: "{g}"}
  - name: ⟦is no name⟧"reads only"
    direction: subscribe
    mqtt: "h/{key}/⟦is not a placeholder here⟧{kye}"
    kafka: {topic: h, acks: ⟦this rule only reads⟧all}
  - name: never
    mqtt: "⟦never reached⟧z/x"
    kafka: {topic: i}
    examples: [{topic: ⟦a list or a table⟧[b], ⟦unknown key⟧headers: {}, becomes: nothing}]
sessions: {expiry: {default: ⟦no unit⟧5, max: ⟦out of range⟧1000000d}, damaged: ⟦did you mean `fresh`?⟧fesh}
retained: {memory: ⟦out of range⟧1KiB}
authentication:
  - {method: http, url: ⟦does not begin with http://⟧"x", timeout: ⟦no unit⟧5, cache: ⟦no unit⟧7, client_id: ⟦did you mean `identity`?⟧identty}
  - {method: ⟦did you mean `jwt`?⟧jtw}
authorization:
  - {allow: [⟦did you mean `publish`?⟧publsh], who: ⟦not a table⟧all, topics: [⟦no pattern⟧"a/#/b"], qos: ⟦write `0`, `1` or `2`⟧3}
unauthorized: ⟦did you mean `drop`?⟧dorp
unmapped: ⟦a list or a table⟧[drop]
⟦stands here a second time⟧retained: {}
payload_format_check: ⟦write `true` or `false`⟧no
admin: {address: ⟦write "0.0.0.0:9090"⟧":9090", hosts: [⟦is no name of a host⟧"http://proxy"]}
⟦the keys here are⟧frobnicate: 1
"#;

/// The file without the marks, and line, column and words of each.
fn marked() -> (String, Vec<(u32, u32, &'static str)>) {
    let (mut text, mut places) = (String::new(), vec![]);
    let mut pieces = FAULTY.split('⟦');
    text.push_str(pieces.next().unwrap());
    for piece in pieces {
        let (words, after) = piece.split_once('⟧').unwrap();
        let line = text.matches('\n').count() + 1;
        let column = text.rsplit('\n').next().unwrap().chars().count() + 1;
        places.push((u32::try_from(line).unwrap(), u32::try_from(column).unwrap(), words));
        text.push_str(after);
    }
    (text, places)
}

#[test]
fn each_fault_of_a_file_is_told_and_nothing_else_is() {
    let (text, places) = marked();
    let found = config::parse(&text, Path::new("/nowhere"), &|_| None).unwrap_err();
    let told: Vec<String> = found.iter().map(ToString::to_string).collect();
    let missing: Vec<_> = places
        .iter()
        .filter(|(line, column, words)| {
            let tells = |told: &&String| told.starts_with(&format!("{line}:{column}: ")) && told.contains(words);
            told.iter().find(tells).is_none()
        })
        .collect();
    let more: Vec<_> = found
        .iter()
        .filter(|fault| {
            !places
                .iter()
                .any(|(line, column, _)| (*line, *column) == (fault.line, fault.column))
        })
        .collect();
    assert!(
        missing.is_empty() && more.is_empty(),
        "not told: {missing:#?}\ntold beside: {more:#?}"
    );
    assert_eq!(found.len(), places.len(), "{found:#?}");
    assert!(found.len() >= 50, "{}", found.len());
    assert!(found.iter().all(|fault| !fault.message.is_empty() && !fault.remedy.is_empty()));
}

/// None hides another, nor what else is wrong.
#[test]
fn each_variable_that_is_not_set_is_told_beside_the_other_faults() {
    let text = r#"
listeners: [{name: tcp, address: "0.0.0.0:1883", protocol: mqtt, authentication: none}]
kafka:
  bootstrap_servers: ["${A}:${B}"]
  security: {protocol: sasl_ssl, sasl: {mechanism: "${C}", username: "${D}", password: "${E}"}}
rules:
  - {name: first, mqtt: "a/{a}", transform: '$nothing', kafka: {topic: "${F}", key: "{a}-${SET}-${F}"}}
  - {name: second, mqtt: "b/{b}", kafka: {topic: b, key: "{c}"}}
"#;
    let set = |name: &str| (name == "SET").then(|| "hunter2".to_owned());
    let found = config::parse(text, Path::new("/nowhere"), &set).unwrap_err();
    let told: Vec<String> = found.iter().map(ToString::to_string).collect();
    let expected = [
        ("4:24: ", "no `A`"),
        ("4:29: ", "no `B`"),
        ("5:53: ", "no `C`"),
        ("5:71: ", "no `D`"),
        ("5:89: ", "no `E`"),
        ("7:46: ", "there is no variable `$nothing`"),
        ("7:73: ", "no `F`"),
        ("7:97: ", "no `F`"),
        ("8:29: ", "no template uses the capture"),
        ("8:59: ", "is not a capture"),
    ];
    for (told, (place, words)) in told.iter().zip(expected) {
        assert!(told.starts_with(place) && told.contains(words), "{told}\nnot {place}{words}");
    }
    assert_eq!(told.len(), expected.len(), "{told:#?}");
}

/// As many as a file may have.
#[test]
fn ten_thousand_rules_are_one_file() {
    let start = "listeners: [{name: tcp, address: \"0.0.0.0:1883\", protocol: mqtt, authentication: none}]\nkafka: {bootstrap_servers: [\"k:9092\"]}\nrules:\n";
    let rule = |i| {
        let filter = format!("fleet{i}/{{vin}}/telemetry/{{sensor}}");
        let kafka = format!(
            "{{topic: t-{}, key: \"{{vin}}\", acks: all, partition: hash, headers: {{sensor: \"{{sensor}}\", fleet: \"{i}\"}}}}",
            i % 100
        );
        format!("  - name: r{i}\n    mqtt: \"{filter}\"\n    qos: 1\n    retain: deny\n    on_error: skip\n    kafka: {kafka}\n")
    };
    let text = start.to_owned() + &(0..10_000).map(rule).collect::<String>();
    let loaded = config::parse(&text, Path::new("/nowhere"), &|_| None).unwrap();
    assert_eq!(loaded.rules.iter().count(), 10_000);
}
