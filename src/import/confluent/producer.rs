//! `producer.*`.

use std::fmt::Write;

use super::{Import, Property};

/// A number with its unit, within the bounds that `proxy.yaml` has.
struct Scale {
    from: &'static str,
    to: &'static str,
    unit: &'static str,
    least: u64,
    most: u64,
}

const SCALES: [Scale; 4] = [
    Scale {
        from: "linger.ms",
        to: "linger",
        unit: "ms",
        least: 0,
        most: 1_000,
    },
    Scale {
        from: "batch.size",
        to: "batch_size",
        unit: "B",
        least: 1 << 10,
        most: 16 << 20,
    },
    Scale {
        from: "buffer.memory",
        to: "memory",
        unit: "B",
        least: 1 << 20,
        most: 64 << 30,
    },
    Scale {
        from: "delivery.timeout.ms",
        to: "delivery_timeout",
        unit: "ms",
        least: 1_000,
        most: 3_600_000,
    },
];

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// `kafka.producer`, or nothing.
pub(super) fn producer(import: &mut Import) -> String {
    let mut settings = Vec::new();
    let (mut batch, mut memory) = (0, u64::MAX);
    for scale in SCALES {
        let written = import.take(&format!("producer.{}", scale.from));
        let Some((number, property)) = import.number(written) else {
            continue;
        };
        let within = number.clamp(scale.least, scale.most);
        if within != number {
            note_bound(import, &property, scale.to, &format!("{within}{}", scale.unit));
        }
        match scale.to {
            "batch_size" => batch = within,
            "memory" => memory = within,
            _ => {}
        }
        settings.push(format!("{}: {within}{}", scale.to, scale.unit));
    }
    if memory < batch.max(256 << 10) {
        import
            .open
            .push("`producer.buffer.memory` is smaller than a batch: give it memory for many".to_owned());
    }
    if let Some(property) = import.take("producer.compression.type") {
        if CODECS.contains(&property.value.as_str()) {
            settings.push(format!("compression: {}", property.value));
        } else {
            let why = format!("`{}` is no compression", property.value);
            import.properties.leave(property, why);
        }
    }
    if settings.is_empty() {
        return String::new();
    }
    let mut out = String::new();
    writeln!(out, "  producer: {{{}}}", settings.join(", ")).expect("a String takes all");
    out
}

fn note_bound(import: &mut Import, property: &Property, to: &str, within: &str) {
    import.notes.push(format!(
        "{}: {} = {}: `{to}` is {within}, its bound",
        property.place(),
        property.key,
        property.value
    ));
}

/// The partition of a record, as rules have it; nothing: by its key.
pub(super) fn partition(import: &mut Import) -> Option<&'static str> {
    let ignores_keys = import.take_of_kafka("partitioner.ignore.keys");
    let ignores_keys = ignores_keys.is_some_and(|property| property.value.eq_ignore_ascii_case("true"));
    let Some(property) = import.take_of_kafka("partitioner.class") else {
        return ignores_keys.then_some("sticky");
    };
    match property.value.rsplit('.').next().unwrap_or_default() {
        "RoundRobinPartitioner" => Some("round-robin"),
        "UniformStickyPartitioner" => Some("sticky"),
        "DefaultPartitioner" => {
            import
                .properties
                .leave(property, "the partition is murmur2 of the key, as by default there");
            None
        }
        _ => {
            import.open.push(format!(
                "{}: {} = {}: the class is not known; the partition is murmur2 of the key here, unless rules have another `partition`: see proxy.yaml",
                property.place(),
                property.key,
                property.value
            ));
            None
        }
    }
}

/// How many replicas acknowledge, as rules have it; nothing: all.
pub(super) fn acks(import: &mut Import) -> Option<&'static str> {
    let property = import.take("producer.acks")?;
    match property.value.as_str() {
        "all" | "-1" => None,
        "1" => Some("leader"),
        "0" => Some("none"),
        _ => {
            import
                .open
                .push(format!("{}: producer.acks = {} is no choice", property.place(), property.value));
            None
        }
    }
}
