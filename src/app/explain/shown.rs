//! An answer in lines, for people.

use std::fmt::Write;

use serde_json::{Value, json};

use super::Told;

/// The same as the JSON object, in lines: lists as sections, names before values; and what codes mean.
pub(super) fn table(told: &Told) -> String {
    let (mut out, mut of_rules) = (String::new(), told.of_rules.iter());
    let (told, of_why) = (&told.answer, told.of_why.as_deref());
    for list in ["rules", "records", "sources"] {
        for item in told[list].as_array().into_iter().flatten() {
            match (list, &item["verdict"]) {
                ("rules", verdict) => {
                    let words = of_rules.next().and_then(Option::as_deref);
                    line(&mut out, &format!("rule {}", shown(&item["rule"])), &with_meaning(verdict, words));
                }
                _ if item["dead_letter"] == true => section(&mut out, "dead letter", item),
                _ => section(&mut out, list.trim_end_matches('s'), item),
            }
        }
    }
    if told["retained"].is_object() {
        line(&mut out, "retained", &told["retained"]["then"]);
    }
    if told["note"].is_string() {
        line(&mut out, "note", &told["note"]);
    }
    if told["message"].is_object() {
        section(&mut out, "message", &told["message"]);
    }
    if told["why"].is_string() {
        line(&mut out, "nothing", &with_meaning(&told["why"], of_why));
    }
    out
}

/// Words that end with a code, and what that means.
fn with_meaning(told: &Value, meaning: Option<&str>) -> Value {
    match (told.as_str(), meaning) {
        (Some(words), Some(meaning)) => json!(format!("{words}: {meaning}")),
        _ => told.clone(),
    }
}

fn section(out: &mut String, title: &str, item: &Value) {
    line(out, title, &json!(format!("by rule {}", shown(&item["rule"]))));
    for name in [
        "topic",
        "partition",
        "partitions",
        "own_partition",
        "qos",
        "key",
        "timestamp",
        "headers",
        "user",
        "value",
        "tombstone",
        "payload",
        "schema",
    ] {
        match &item[name] {
            Value::Null => {}
            Value::Array(pairs) => {
                for pair in pairs {
                    let words = format!("{}={}", shown(&pair["name"]), shown(&pair["value"]));
                    line(out, &format!("  {}", name.trim_end_matches('s')), &json!(words));
                }
            }
            value => line(out, &format!("  {name}"), value),
        }
    }
}

fn line(out: &mut String, name: &str, value: &Value) {
    writeln!(out, "{name:<20}  {}", shown(value)).expect("a String takes all");
}

/// On one line, and nothing that a terminal would obey.
fn shown(value: &Value) -> String {
    let words = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let escape = |c: char| {
        if c.is_control() {
            c.escape_default().to_string()
        } else {
            c.to_string()
        }
    };
    words.chars().map(escape).collect()
}
