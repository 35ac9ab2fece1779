//! Nanoseconds of the mapping, both ways, with 1 to 10,000 rules, of programs, and how long files of 10,000 rules take to load: tables with
//! their goals. Best of several loops.
//!
//! Records are read from a real batch, as a feed reads them. A goal of a program, of a route or of a load that is missed is an error once all
//! has run; those of the way back are printed.

#[path = "mapping/loads.rs"]
mod loads;
#[path = "mapping/shapes.rs"]
mod shapes;

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use mqtt_kafka_proxy::kafka::batch::{BatchBuilder, Producer};
use mqtt_kafka_proxy::kafka::fetched::{Limits, batches};
use mqtt_kafka_proxy::kafka::{Compression, Header, RecordFields};
use mqtt_kafka_proxy::mapping::{
    Draft, Format, Inbound, KafkaSpec, LocateScratch, RuleId, RuleSet, RuleSpec, Stored, Table, TopicRows, TopicTable, Unmapped, Written,
};
use mqtt_kafka_proxy::mqtt::publish::SharedProperties;
use mqtt_kafka_proxy::mqtt::{Publish, PublishProperties, QoS};

/// Many short loops: the best of them was not interrupted, however busy the machine.
const LOOPS: usize = 1_000;
const OPS: u32 = 500;
const SIZES: [usize; 3] = [1, 1_000, 10_000];
/// Nanoseconds of a PUBLISH that finds its rule, or that it has none, however many there are.
const ROUTE: f64 = 300.0;
/// Nanoseconds of a program that selects and reshapes 200 bytes of JSON.
const PROGRAM: f64 = 5_000.0;

/// A rule of one of a hundred Kafka topics; its filter has the captures `vin` and `sensor`.
fn rule_of(i: usize, filter: String) -> RuleSpec {
    RuleSpec {
        name: format!("r{i}"),
        mqtt: filter,
        kafka: KafkaSpec {
            topic: format!("telemetry-{}", i % 100),
            key: Some("{vin}".into()),
            headers: vec![("sensor".into(), "{sensor}".into())],
            ..KafkaSpec::default()
        },
        ..RuleSpec::default()
    }
}

fn compiled(rules: impl Iterator<Item = RuleSpec>) -> RuleSet {
    RuleSet::compile(rules.collect(), Unmapped::Reject).expect("the rules are right")
}

fn rules_of(count: usize, filter: impl Fn(usize) -> String) -> RuleSet {
    compiled((0..count).map(|i| rule_of(i, filter(i))))
}

/// Rules of fleets.
fn rules(count: usize) -> RuleSet {
    rules_of(count, |i| format!("fleet{i}/{{vin}}/telemetry/{{sensor}}"))
}

/// Rules with expressions. `apart`: each begins with a level of its own, so that the others need not be run; else all but the last
/// are run in vain.
fn expressions(count: usize, apart: bool) -> RuleSet {
    let rule = |i: usize| RuleSpec {
        name: format!("r{i}"),
        mqtt_regex: Some(match apart {
            true => format!("fleet{i}/(?<vin>[A-Z0-9]+)/telemetry/(?<sensor>[a-z]+)"),
            false => format!("fleet[x{i}]+/(?<vin>[A-Z0-9]+)/telemetry/(?<sensor>[a-z]+)"),
        }),
        kafka: KafkaSpec {
            topic: "telemetry".into(),
            key: Some("{vin}".into()),
            headers: vec![("sensor".into(), "{sensor}".into())],
            ..KafkaSpec::default()
        },
        ..RuleSpec::default()
    };
    compiled((0..count).map(rule))
}

fn best(mut op: impl FnMut()) -> f64 {
    let once = |op: &mut dyn FnMut()| {
        let start = Instant::now();
        (0..OPS).for_each(|_| op());
        start.elapsed().as_secs_f64() * 1e9 / f64::from(OPS)
    };
    (0..LOOPS).map(|_| once(&mut op)).fold(f64::INFINITY, f64::min)
}

/// What is done with a PUBLISH to a topic.
fn published(topic: &str, op: impl Fn(&Inbound<'_>, &mut Draft)) -> f64 {
    let packet = Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic,
        packet_id: None,
        properties: PublishProperties::default(),
        payload: &[7; 100],
    };
    let inbound = Inbound {
        publish: &packet,
        topic,
        client: "device-1",
        identity: None,
        now_ms: 1,
    };
    let mut draft = Draft::new();
    best(|| op(black_box(&inbound), &mut draft))
}

/// All headers of a record are walked.
fn walk(draft: &Draft, record: usize, set: &RuleSet, inbound: &Inbound<'_>) -> usize {
    let headers = draft.fields(record, set, inbound).headers;
    headers.map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len)).sum()
}

/// A PUBLISH found its rule, and all headers of its record were walked.
fn route(set: &RuleSet, topic: &str) -> f64 {
    published(topic, |inbound, draft| {
        set.route(inbound, draft).expect("a rule matches");
        black_box(walk(draft, 0, set, inbound));
    })
}

/// A record was found its topic, and, if it is `wanted`, made into a message.
fn deliver(set: &RuleSet, kafka_topic: &str, headers: &[Header<'_>], rule: RuleId, wanted: bool) -> f64 {
    let mut batch = BatchBuilder::new();
    let fields = RecordFields {
        timestamp: 1,
        key: Some(b"WVW12345678901234"),
        value: Some(&[7; 100]),
        headers: headers.iter().copied(),
    };
    batch.append(&fields).expect("it fits");
    let max_decompressed = 1 << 20;
    let bytes = batch.seal(&Producer::NONE, Compression::None).bytes;
    let read = batches(bytes, Limits { max_decompressed })
        .next()
        .expect("one batch")
        .expect("it is whole");
    let record = read.records().next().expect("one record").expect("it is whole");
    let reader = set.reader(kafka_topic);
    let (mut scratch, mut properties) = (LocateScratch::default(), SharedProperties::new());
    best(|| {
        let record = black_box(&record);
        let stored = Stored {
            timestamp: record.timestamp,
            key: record.key,
            value: record.value,
            headers: record.headers(),
        };
        let located = set.locate(&reader, 0, &stored, &mut scratch).expect("it has a topic");
        assert_eq!(located.rule, rule);
        if wanted {
            black_box(set.message(&located, &stored, &mut properties).left_out);
        }
    })
}

/// What a rule with a program makes of a payload of 200 bytes.
fn transform(program: &str) -> (f64, u64) {
    let table = Arc::new(Table::of_topic(TopicTable {
        topic: "vins".into(),
        key: None,
        format: Format::Json,
        memory: usize::MAX,
        sample: None,
    }));
    let mut rows = TopicRows::new(&table, 1).expect("it is of a topic");
    let written = Written {
        timestamp: 0,
        partition: 0,
    };
    for number in 0..10_000 {
        rows.put(
            Some(format!("WVW{number:014}").as_bytes()),
            Some(br#"{"site":"north","line":7}"#),
            written,
        );
    }
    rows.publish();
    // A table that no program looks into is a fault.
    let mut lookup = vec![("vins".into(), table)];
    lookup.retain(|_| program.contains("lookup"));
    let rule = RuleSpec {
        lookup,
        name: "r".into(),
        mqtt: "vehicles/{vin}/telemetry".into(),
        transform: Some(program.into()),
        kafka: KafkaSpec {
            topic: "telemetry".into(),
            key: Some("{vin}".into()),
            ..KafkaSpec::default()
        },
        ..RuleSpec::default()
    };
    let set = RuleSet::compile(vec![rule], Unmapped::Reject).expect("the rule is right");
    let payload = br#"{"celsius":91.5,"rpm":1850,"position":{"lat":52.5163,"lon":13.3777},"seats":[true,false,true,true],"status":"driving","odometer":123456,"fuel":0.62,"model":"electric hatchback","software":"4.12.1-b77"}"#;
    let packet = Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: "vehicles/WVW12345678901234/telemetry",
        packet_id: None,
        properties: PublishProperties::default(),
        payload,
    };
    let inbound = Inbound {
        publish: &packet,
        topic: packet.topic,
        client: "device-1",
        identity: None,
        now_ms: 1,
    };
    let mut draft = Draft::new();
    let time = best(|| {
        set.route(black_box(&inbound), &mut draft).expect("a rule matches");
        black_box(draft.fields(0, &set, &inbound).value.map(<[u8]>::len));
    });
    (time, draft.ran()[0].steps)
}

/// A text with the number of its rule for each `@`.
fn numbered(text: &str, rule: usize) -> String {
    text.replace('@', &rule.to_string())
}

/// Notes a figure that is above its goal.
fn judge(missed: &mut Vec<String>, what: &str, figure: f64, goal: f64) {
    if figure.is_nan() || figure > goal {
        missed.push(format!("{what}: {figure:.3}, the goal is {goal}"));
    }
}

fn main() -> ExitCode {
    let mut missed = Vec::new();
    transforms(&mut missed);
    messages(&mut missed);
    loads::judge_all(&mut missed);
    missed.iter().for_each(|missed| eprintln!("missed: {missed}"));
    if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn transforms(missed: &mut Vec<String>) {
    let programs = [
        ("pass on", "."),
        ("select and reshape", "select(.celsius > 90) | {vin: $vin, celsius, at: $now}"),
        (
            "select and reshape more",
            "select(.celsius > 90 and .status == \"driving\") | {vin: $vin, celsius, rpm, at: $now, lat: .position.lat, lon: .position.lon, taken: ([.seats[] | select(.)] | length)}",
        ),
        (
            "look into a table of 10,000 rows of a topic",
            "{vin: $vin, site: lookup(\"vins\"; \"WVW00000000001234\").site}",
        ),
        (
            "match a regular expression",
            "select(.model | test(\"^(electric|hybrid) [a-z]+$\")) | {vin: $vin}",
        ),
    ];
    for (name, program) in programs {
        let (time, steps) = transform(program);
        println!("transform of 200 bytes, {name}: {time:.0} ns, {steps} steps   (goal of the second: {PROGRAM})");
        if name == "select and reshape" {
            judge(missed, "ns of a program that selects and reshapes", time, PROGRAM);
        }
    }
}

/// Prints the figures with few and many rules.
fn row(name: &str, figures: &[f64], goal: &str) {
    let growth = figures[2] / figures[0];
    println!(
        "{name:<30} {:>8.1} {:>8.1} {:>8.1} {growth:>6.2}x   {goal}",
        figures[0], figures[1], figures[2]
    );
}

fn messages(missed: &mut Vec<String>) {
    let mut rows: [(&str, &str, Vec<f64>); 5] = [
        ("route + fields", "300 at 10,000 rules", vec![]),
        ("locate, mqtt.topic, unwanted", "100; growth 1.5", vec![]),
        ("locate, foreign, unwanted", "100; growth 1.5", vec![]),
        ("deliver, mqtt.topic, wanted", "growth 1.5", vec![]),
        ("deliver, foreign, wanted", "growth 1.5", vec![]),
    ];
    for count in SIZES {
        let set = rules(count);
        // The last rule of its Kafka topic but a few.
        let place = count / 2 + count / 4;
        let topic = format!("fleet{place}/WVW12345678901234/telemetry/rpm");
        let kafka_topic = format!("telemetry-{}", place % 100);
        let own: [Header<'_>; 4] = [
            ("mqtt.topic", Some(topic.as_bytes())),
            ("mqtt.client", Some(b"device-1")),
            ("mqtt.qos", Some(b"1")),
            ("sensor", Some(b"rpm")),
        ];
        let foreign: [Header<'_>; 2] = [("sensor", Some(b"rpm")), ("trace", Some(b"0123456789abcdef"))];
        let (writer, first) = (RuleId(place as u32), RuleId((place % 100) as u32));
        rows[0].2.push(route(&set, &topic));
        rows[1].2.push(deliver(&set, &kafka_topic, &own, writer, false));
        rows[2].2.push(deliver(&set, &kafka_topic, &foreign, first, false));
        rows[3].2.push(deliver(&set, &kafka_topic, &own, writer, true));
        rows[4].2.push(deliver(&set, &kafka_topic, &foreign, first, true));
    }
    println!(
        "{:<30} {:>8} {:>8} {:>8} {:>7}   goal (ns)",
        "ns, by number of rules", 1, 1_000, 10_000, "growth"
    );
    judge(missed, "ns of a route among 10,000 rules", rows[0].2[2], ROUTE);
    for (name, goal, figures) in rows {
        row(name, &figures, goal);
    }
    shapes::judge_all(missed);
    let topic = |place: usize| format!("fleet{place}/WVW12345678901234/telemetry/rpm");
    let apart = [1, 1_000].map(|count| route(&expressions(count, true), &topic(count - 1)));
    println!(
        "route by mqtt_regex: {:.1} with one rule, {:.1} with 1,000 of a level each",
        apart[0], apart[1]
    );
    judge(
        missed,
        "ns of a route by mqtt_regex among 1,000 rules of a level each",
        apart[1],
        ROUTE,
    );
    println!(
        "route by the last of ten expressions that all may match: {:.1}",
        route(&expressions(10, false), &topic(9))
    );
}
