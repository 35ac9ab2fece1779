//! The mappings of docs/cookbook: each is a configuration without a fault or a warning, whose examples come out as they say.

// clippy.toml allows it in test functions; the functions they share are not seen as such.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use mqtt_kafka_proxy::config;

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
}

fn files() -> BTreeSet<String> {
    let folder = std::fs::read_dir(docs().join("cookbook")).unwrap();
    folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn each_mapping_is_whole_and_its_examples_hold() {
    assert_eq!(files().len(), 10);
    for file in files() {
        let path = docs().join("cookbook").join(&file);
        let loaded = config::load(&path).unwrap_or_else(|faults| panic!("{faults}"));
        assert!(loaded.warnings.is_empty(), "{file}: {:?}", loaded.warnings);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("    examples:\n"), "{file} shows nothing");
    }
}

/// A client id is what its client says: who is to be kept apart from others needs credentials.
#[test]
fn who_has_rights_is_known_by_credentials() {
    let mut separated = 0;
    for file in files() {
        let text = std::fs::read_to_string(docs().join("cookbook").join(&file)).unwrap();
        if text.contains("\nauthorization:") {
            assert!(!text.contains("anonymous") && !text.contains("who: {client"), "{file}");
            assert!(text.contains("{identity}"), "{file}");
            separated += 1;
        }
    }
    assert!(separated > 0);
}

/// An example that says something else than what becomes of its message is found.
#[test]
fn an_example_that_does_not_hold_is_a_fault() {
    let text = std::fs::read_to_string(docs().join("cookbook/telemetry.yaml")).unwrap();
    let wrong = text.replace("key: \"42\", headers: {sensor: rpm}, value: \"1850\"}}", "key: \"43\"}}");
    assert_ne!(text, wrong);
    assert!(config::parse(&wrong, &docs(), &|_| None).is_err());
}

#[test]
fn the_cookbook_names_each_of_its_files() {
    let text = std::fs::read_to_string(docs().join("cookbook.md")).unwrap();
    let named: BTreeSet<String> = text
        .split("](cookbook/")
        .skip(1)
        .map(|rest| rest.split(')').next().unwrap().to_owned())
        .collect();
    assert_eq!(named, files());
}
