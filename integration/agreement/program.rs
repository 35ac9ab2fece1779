//! `explain` as a program, of the file that a proxy runs with.

use std::process::Command;

use serde_json::Value;

use crate::stage::Proxy;

/// What it says, in JSON; its exit code tells whether anything comes of what was asked about.
pub(super) fn says(proxy: &Proxy, arguments: &[String]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_mqtt-kafka-proxy"))
        .args(["explain", "--json", "-c"])
        .arg(proxy.configuration())
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {said}"));
    let code = if told["why"].is_null() { 0 } else { 65 };
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
    told
}
