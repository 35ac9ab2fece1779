//! What memory a program may take at most, as docs/transforms.md says it: programs that make as much as they can are cut off before.

use mqtt_kafka_proxy::mapping::{Draft, Inbound, KafkaSpec, RuleSet, RuleSpec, Unmapped};
use mqtt_kafka_proxy::mqtt::{Publish, PublishProperties, QoS};

/// Bytes whatever the payload is, and for each of its bytes.
const MOST: u64 = 20 << 20;
const MOST_PER_BYTE: u64 = 100;

/// The most that a run had at a time, in bytes.
fn peak(program: &str, payload: &[u8]) -> u64 {
    let rule = RuleSpec {
        name: "r".into(),
        mqtt: "a/b".into(),
        transform: Some(program.into()),
        kafka: KafkaSpec {
            topic: "t".into(),
            ..KafkaSpec::default()
        },
        ..RuleSpec::default()
    };
    let set = RuleSet::compile(vec![rule], Unmapped::Reject).expect(program);
    let publish = Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: "a/b",
        packet_id: None,
        properties: PublishProperties::default(),
        payload,
    };
    let inbound = Inbound {
        publish: &publish,
        topic: "a/b",
        client: "c",
        identity: None,
        now_ms: 7,
    };
    let mut draft = Draft::new();
    let took = allocation_counter::measure(|| {
        let _ = set.route(&inbound, &mut draft);
    });
    assert!(draft.ran()[0].steps > 1_000, "{program}: it does something");
    took.bytes_max
}

/// Each makes something else, over and over, and keeps it.
const GREEDY: &[&str] = &[
    "[range(1000000)]",
    "[range(1000000) | [.]]",
    "[range(1000000) | {a: .}]",
    "[range(1000000) | tostring]",
    "[range(1000000) | {(tostring): .}]",
    "reduce range(1000000) as $n ({}; .[$n | tostring] = $n)",
    "reduce range(1000000) as $n ([]; . + [$n])",
    r#"reduce range(1000000) as $n (""; . + "x")"#,
    r#""x" * 10000000"#,
    r#"[range(1000) | "x" * 100000]"#,
    r#"[range(100) | ("a," * 1000) | split(",")]"#,
    r#"[range(100) | ("a" * 1000) | split("")]"#,
    r#"[range(100) | ("a" * 1000) | explode]"#,
    r#"[range(100) | ("a" * 1000) | [match("a"; "g")]]"#,
    r#"[range(100) | ("ab" * 1000) | [match("(a)(?<n>b)"; "g")]]"#,
    r#"[range(100) | ("ab" * 1000) | [capture("(?<x>a)(?<y>b)"; "g")]]"#,
    r#"[range(100) | ("ab" * 1000) | [scan("a")]]"#,
    r#"[range(100) | ("ab" * 1000) | [splits("b")]]"#,
    r#"[range(100) | ("ab" * 1000) | gsub("a"; "xxxxxxxx")]"#,
    r#"[range(100) | ("a" * 1000) | indices("a")]"#,
    r#"[range(100) | ("[" + ("1," * 1000) + "1]") | fromjson]"#,
    r#"[range(100) | ("[" + ("[]," * 1000) + "1]") | fromjson]"#,
    r#"[range(100) | ("[" + ("{}," * 1000) + "1]") | fromjson]"#,
    r#"[range(1000) | [range(200)] | tojson]"#,
    r#"[range(1000) | "a" * 1000 | @base64]"#,
    r#"[range(1000) | "\u0001" * 1000 | @uri]"#,
    r#"[range(1000) | "\u0001" * 1000 | tojson]"#,
    "[range(1000000) | {a: 1, b: 2, c: 3}] | map(to_entries)",
    "[[range(300)] | combinations(2)]",
    "[range(1000) | [range(300)] | sort]",
    "[range(1000) | [range(300)] | group_by(.)]",
    "[range(1000) | [range(300)] | [.[2:], .[3:]]]",
    "[range(300)] as $a | [range(1000) | $a | .[0] = 7]",
    "[range(300)] as $a | [range(1000) | $a | map(. + 1)]",
    "({} | .[range(300) | tostring] = 7) as $o | [range(1000) | $o | .x = 7]",
    "[range(300)] as $a | [range(1000) | $a + $a]",
    "[range(100) | [range(1000)] | implode]",
    "[range(1000) | [range(300)] | transpose?]",
    "[range(1000) | [range(300)] | to_entries]",
    "def f: [., .] | if true then f else . end; 1 | f",
    "[limit(100000; repeat(1))]",
    "[recurse([., .])]",
];

#[test]
fn a_run_has_no_more_memory_than_is_said() {
    for program in GREEDY {
        let took = peak(program, b"{}");
        println!("{:>6} KiB  {program}", took >> 10);
        assert!(took <= MOST, "{program}: {took} bytes");
    }
}

#[test]
fn a_long_payload_adds_no_more_than_is_said() {
    let texts = format!(r#"{{"t":"{}"}}"#, "ab".repeat(100_000));
    let empties = format!("[{}1]", "[],".repeat(60_000));
    let objects = format!("[{}1]", r#"{"a":1},"#.repeat(25_000));
    for (program, payload) in [
        (r#".t | split("")"#, &texts),
        (r#".t | explode"#, &texts),
        (r#".t | [match("a"; "g")]"#, &texts),
        (r#".t | [range(100) as $n | . + ($n | tostring)]"#, &texts),
        (".", &empties),
        ("map([.])", &empties),
        ("[., tojson, map(.)]", &empties),
        (".", &objects),
        ("map(if type == \"object\" then .b = 2 else . end)", &objects),
        ("[range(1000) as $n | map($n)]", &objects),
    ] {
        let took = peak(program, payload.as_bytes());
        let most = MOST + MOST_PER_BYTE * payload.len() as u64;
        println!("{:>6} KiB of {}  {program}", took >> 10, most >> 10);
        assert!(took <= most, "{program}: {took} bytes, more than {most}");
    }
}
