//! docs/metrics.md names what a scrape has: no metric without its line, no line without its metric.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

use std::collections::BTreeSet;

use mqtt_kafka_proxy::{metrics::Metrics, upstream::Counters};

const DOCUMENT: &str = include_str!("../docs/metrics.md");

/// Families of a scrape, as Prometheus names their samples: counters end in `_total`.
fn scraped() -> BTreeSet<String> {
    let mut metrics = Metrics::new();
    let counters = Counters::default();
    counters.register(metrics.registry());
    // Families without a sample are left out of a scrape.
    let _ = counters.requests.get_or_create(&[("api", "a")]);
    let _ = counters.errors.get_or_create(&[("error", "a")]);
    metrics.listener("a");
    metrics.table("a");
    let rule = metrics.rule("b");
    rule.skipped("c");
    rule.dropped("c");
    rule.dead_letter("c");
    rule.transform_failed("c");
    metrics.refused("c");
    metrics.closed("c");
    metrics.malformed("c");
    let text = metrics.encode();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names = types.map(|line| {
        let (name, kind) = line.split_once(' ').unwrap();
        match kind {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        }
    });
    names.collect()
}

#[test]
fn every_metric_has_a_line_and_every_line_a_metric() {
    let rows = DOCUMENT.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let is_kind = |cell: &str| ["counter", "gauge", "histogram", "info"].iter().any(|kind| cell.starts_with(kind));
    let told = rows.filter(|(_, rest)| is_kind(rest)).map(|(name, _)| {
        if name.starts_with("process_") {
            name.to_owned()
        } else {
            format!("mqtt_kafka_proxy_{name}")
        }
    });
    let told: BTreeSet<String> = told.collect();
    let scraped = scraped();
    let missing: Vec<_> = scraped.difference(&told).collect();
    let gone: Vec<_> = told.difference(&scraped).collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "without a line: {missing:#?}\nwithout a metric: {gone:#?}"
    );
}
