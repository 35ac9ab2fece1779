//! docs/metrics.md names what a scrape has: no metric without its line, no line without its metric.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use mqtt_kafka_proxy::{
    metrics::{ConnectionRefusal, Metrics},
    mqtt::ReasonCode,
    upstream::Counters,
};

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

/// The reasons in the first column of the table that begins behind these words.
fn table(behind: &str) -> BTreeSet<String> {
    let (_, text) = DOCUMENT.split_once(behind).unwrap();
    let rows = text.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let cells = rows
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.split('|').nth(1).unwrap());
    cells.flat_map(reasons_in).collect()
}

/// Reasons are snake case between marks.
fn reasons_in(text: &str) -> Vec<String> {
    let marked = text.split('`').skip(1).step_by(2);
    marked.filter(|word| is_reason(word)).map(str::to_owned).collect()
}

fn is_reason(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// The sources below a folder, each without its tests.
fn sources(folder: &str) -> Vec<String> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    let mut texts = Vec::new();
    let is_test = |path: &PathBuf| path.file_stem().is_some_and(|name| name.to_str().unwrap().ends_with("tests"));
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        for path in entries.filter(|path| !is_test(path)) {
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = std::fs::read_to_string(path).unwrap();
                texts.push(text.split("#[cfg(test)]").next().unwrap().to_owned());
            }
        }
    }
    texts
}

/// Literals that follow one of these in a source.
fn literals(text: &str, openers: &[&str]) -> BTreeSet<String> {
    let rests = openers.iter().flat_map(|opener| text.split(opener).skip(1));
    let words = rests.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next());
    words.filter(|word| is_reason(word)).map(str::to_owned).collect()
}

/// The reasons that the code gives, where it gives them: as it refuses, as the word of a verdict, or as a constant for that.
fn refusals() -> BTreeSet<String> {
    let openers = [
        "refused(",
        "Look::No(",
        "Look::Unable(",
        "Err(",
        "ok_or(",
        "map_err(|_| ",
        "why: ",
        ": &str = ",
    ];
    let mut given = BTreeSet::new();
    for text in sources("src/auth").iter().chain(&sources("src/relay")) {
        given.extend(literals(text, &openers));
        // A reason code, and the word behind it.
        let behind = text.split("ReasonCode::").skip(1);
        given.extend(behind.filter_map(|rest| {
            let (code, rest) = rest.split_once(',')?;
            let is_name = code.chars().all(char::is_alphanumeric);
            let word = rest.trim_start().strip_prefix('"')?.split('"').next()?;
            (is_name && is_reason(word)).then(|| word.to_owned())
        }));
    }
    let route = include_str!("../src/mapping/route.rs");
    let (_, words) = route.split_once("fn as_str(self)").unwrap();
    given.extend(literals(words.split("\n    }\n").next().unwrap(), &["=> "]));
    given
}

#[test]
fn every_reason_of_a_refusal_is_told() {
    let (given, told) = (refusals(), table("\n## Refusals\n"));
    assert!(
        given.len() > 50 && given.contains("too_many_logins"),
        "the sources are not read right: {given:?}"
    );
    let missing: Vec<_> = given.difference(&told).collect();
    let gone: Vec<_> = told.difference(&given).collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "not told: {missing:#?}\nnowhere given: {gone:#?}"
    );
    let connections = ConnectionRefusal::ALL.map(|reason| reason.as_str().to_owned());
    assert_eq!(
        table("\nConnections that ended before their first packet"),
        BTreeSet::from(connections)
    );
}

/// An alarm on a reason that is never counted would never ring.
#[test]
fn alarms_name_reasons_that_are_counted() {
    let codes: Vec<_> = (0x80..=u8::MAX).filter_map(ReasonCode::from_u8).map(ReasonCode::name).collect();
    let (_, alarms) = DOCUMENT.split_once("## What to be woken for").unwrap();
    let (alarms, _) = alarms.split_once("\n## ").unwrap();
    let given = refusals();
    let mut asked = 0;
    for by in alarms.split("refusals_total{reason=").skip(1) {
        let wanted = by.trim_start_matches('~').split('"').nth(1).unwrap();
        for reason in wanted.split("\\|") {
            let is_given = match reason.strip_suffix(".*") {
                Some(begin) => given.iter().any(|word| word.starts_with(begin)),
                None => given.contains(reason) || codes.contains(&reason),
            };
            assert!(is_given, "{reason} is never counted");
            asked += 1;
        }
    }
    assert!(asked >= 9);
}
