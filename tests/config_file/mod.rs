//! A configuration without a fault, to which tests add what they are about, and the one fault that it then has.
#![allow(dead_code)] // Each test binary uses its part.

use mqtt_kafka_proxy::config::Problem;

/// A file without a fault.
pub const GOOD: &str = "\
listeners:
  - {name: tcp, address: \"0.0.0.0:1883\", protocol: mqtt, authentication: none}
kafka:
  bootstrap_servers: [\"localhost:9092\"]
rules:
  - name: all
    mqtt: \"{topic#}\"
    kafka: {topic: mqtt, key: \"{topic}\"}
";

/// The table of a listener that lets everybody in.
pub fn open_to_all(listener: &str) -> String {
    format!("{}, authentication: none}}", listener.strip_suffix('}').unwrap())
}

/// `GOOD` with this as line 9. What it says of who is let in counts for the listener.
pub fn with(line: &str) -> String {
    match line.starts_with("authentication:") {
        true => format!("{}{line}\n", GOOD.replace(", authentication: none", "")),
        false => format!("{GOOD}{line}\n"),
    }
}

/// The one fault of a file.
#[track_caller]
pub fn only(found: &[Problem], text: &str) -> Problem {
    let [one] = found else {
        panic!("one fault expected: {found:#?}\n{text}")
    };
    one.clone()
}

/// The one fault of a file stands there and has these words, and a remedy.
#[track_caller]
pub fn assert_fault(found: &[Problem], text: &str, (line, column): (u32, u32), words: &str) {
    let fault = only(found, text);
    assert_eq!((fault.line, fault.column), (line, column), "{fault}\n{text}");
    assert!(fault.to_string().contains(words), "{fault}\nhas no: {words}\n{text}");
    assert!(!fault.message.is_empty() && !fault.remedy.is_empty(), "{fault}");
}
