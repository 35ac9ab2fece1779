//! Nanoseconds of a routed PUBLISH and of a delivered record, with 1 to 10,000 rules. Best of several loops.

use std::hint::black_box;
use std::time::Instant;

use mqtt_kafka_proxy::mapping::{Draft, Inbound, KafkaSpec, LocateScratch, RuleSet, RuleSpec, Stored, Unmapped};
use mqtt_kafka_proxy::mqtt::publish::SharedProperties;
use mqtt_kafka_proxy::mqtt::{Publish, PublishProperties, QoS};

const LOOPS: usize = 15;
const OPS: u32 = 100_000;

fn rules(count: usize) -> RuleSet {
    let rule = |i: usize| RuleSpec {
        name: format!("r{i}"),
        mqtt: format!("fleet{i}/{{vin}}/telemetry/{{sensor}}"),
        kafka: KafkaSpec {
            topic: format!("telemetry-{}", i % 100),
            key: Some("{vin}".into()),
            headers: vec![("sensor".into(), "{sensor}".into())],
            ..KafkaSpec::default()
        },
        ..RuleSpec::default()
    };
    RuleSet::compile((0..count).map(rule).collect(), Unmapped::Reject).expect("the rules are right")
}

fn best(mut op: impl FnMut()) -> f64 {
    let once = |op: &mut dyn FnMut()| {
        let start = Instant::now();
        (0..OPS).for_each(|_| op());
        start.elapsed().as_secs_f64() * 1e9 / f64::from(OPS)
    };
    (0..LOOPS).map(|_| once(&mut op)).fold(f64::INFINITY, f64::min)
}

fn main() {
    println!("{:>8} {:>18} {:>12} {:>12}", "rules", "route+fields ns", "locate ns", "deliver ns");
    for count in [1, 1_000, 10_000] {
        let set = rules(count);
        let topic = format!("fleet{}/WVW12345678901234/telemetry/rpm", count / 2);
        let packet = Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: &topic,
            packet_id: None,
            properties: PublishProperties::default(),
            payload: &[7; 100],
        };
        let inbound = Inbound {
            publish: &packet,
            topic: &topic,
            client: "device-1",
            now_ms: 1,
        };
        let mut draft = Draft::new();
        let route = best(|| {
            set.route(black_box(&inbound), &mut draft).expect("a rule matches");
            black_box(
                draft
                    .fields(0, &set, &inbound)
                    .headers
                    .map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len))
                    .sum::<usize>(),
            );
        });
        let fields = draft.fields(0, &set, &inbound);
        let record = Stored {
            timestamp: 1,
            key: fields.key,
            value: fields.value,
            headers: fields.headers.map(|(name, value)| (name.as_bytes(), value)),
        };
        let reader = set.reader(draft.kafka_topic(0, &set));
        let mut scratch = LocateScratch::default();
        let locate = best(|| {
            black_box(
                set.locate(&reader, 0, black_box(&record), &mut scratch)
                    .expect("it has a topic")
                    .rule,
            );
        });
        let mut properties = SharedProperties::new();
        let deliver = best(|| {
            let located = set.locate(&reader, 0, black_box(&record), &mut scratch).expect("it has a topic");
            black_box(set.message(&located, &record, &mut properties).left_out);
        });
        println!("{count:>8} {route:>18.1} {locate:>12.1} {deliver:>12.1}");
    }
}
