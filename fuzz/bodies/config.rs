//! Any bytes as a configuration: nothing panics, each fault has a place in the text and is one line, and none tells a secret.

use std::path::Path;

use mqtt_kafka_proxy::config::parse;

/// What each `${NAME}` stands for.
const SECRET: &str = "hunter2hunter2";

/// Whether it is taken.
pub fn check(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    // It names files, and those that are there may be endless: only names that are nowhere are tried.
    if text.contains('/') && ["/dev", "/proc", "/sys", ".."].iter().any(|there| text.contains(there)) {
        return false;
    }
    match parse(text, Path::new("/no/such/folder"), &|_| Some(SECRET.to_owned())) {
        Ok(config) => {
            assert!(!config.listeners.is_empty() && !config.rules.is_empty());
            if !text.contains(SECRET) {
                let told = format!("{config:?}");
                assert!(!told.contains(SECRET), "it tells a secret: {told}");
            }
            true
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "it is refused for nothing");
            // The parser's lines end as YAML's do: also at a lone carriage return.
            let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
            for problem in &problems {
                let told = problem.to_string();
                assert!(!told.contains(['\n', '\r']), "{told:?} is no line");
                assert!(problem.line >= 1 && problem.line as usize <= lines + 1, "{told} of {lines} lines");
                assert!(text.contains(SECRET) || !told.contains(SECRET), "{told}");
            }
            false
        }
    }
}
