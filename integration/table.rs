//! A compacted topic of a real Kafka as a table.

use crate::shared_kafka;
use crate::stage::{DEADLINE, eventually};
use crate::wire::transaction;
use mqtt_kafka_proxy::kafka::fetched::{Limits, batches};
use mqtt_kafka_proxy::upstream::{Cluster, Settings, Table, TableEvent, TopicState};
use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use tokio::time::timeout;

/// Keys to values, as a table's user would keep them.
type Rows = BTreeMap<String, String>;

fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap()
}

/// Takes events until all has been told; the number of records.
async fn read(table: &mut Table, rows: &mut Rows, until: impl Fn(&Rows, &Table) -> bool) -> usize {
    let mut records = 0;
    while !until(rows, table) {
        let event = timeout(DEADLINE, table.next()).await.expect("an event in time").expect("not over");
        let TableEvent::Records(chunk) = event else { continue };
        assert!(!chunk.reset);
        let limits = Limits {
            max_decompressed: 16 * 1024 * 1024,
        };
        for batch in batches(chunk.bytes.clone(), limits).starting_at(chunk.offset) {
            let batch = batch.unwrap();
            if batch.is_control
                || chunk
                    .aborted
                    .iter()
                    .any(|(producer, _)| batch.is_transactional && *producer == batch.producer_id)
            {
                continue;
            }
            for record in batch.records() {
                let record = record.unwrap();
                if record.offset < chunk.offset {
                    continue;
                }
                records += 1;
                match record.value {
                    Some(_) => drop(rows.insert(text(record.key), text(record.value))),
                    None => drop(rows.remove(&text(record.key))),
                }
            }
        }
    }
    records
}

fn write(bootstrap: &str, topic: &str, lines: &str) {
    let mut kcat = Command::new("kcat")
        .args(["-P", "-b", bootstrap, "-t", topic, "-K:", "-Z"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    kcat.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(kcat.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_rows_are_there_when_a_table_is_complete_and_changes_follow() {
    let kafka = shared_kafka();
    kafka.command(&["topic", "table", "6", "1", "cleanup.policy=compact", "segment.bytes=1048576"]);
    // Each key several times; every seventh is deleted in the end.
    let mut lines = String::new();
    let mut expected = Rows::new();
    for round in 0..4 {
        for key in 0..3_000 {
            let deleted = round == 3 && key % 7 == 0;
            let value = if deleted {
                String::new()
            } else {
                format!("{round} {}", "x".repeat(key % 200))
            };
            lines.push_str(&format!("key-{key}:{value}\n"));
            match deleted {
                true => drop(expected.remove(&format!("key-{key}"))),
                false => drop(expected.insert(format!("key-{key}"), value)),
            }
        }
    }
    write(&kafka.bootstrap, "table", &lines);
    // The log ends with what is not a record, and with records that do not count.
    transaction(&kafka.bootstrap, "table", "in-transaction", &["committed"], true);
    transaction(&kafka.bootstrap, "table", "in-transaction", &["aborted"], false);
    expected.insert("in-transaction".to_owned(), "committed".to_owned());
    // Kafka writes the end of a transaction after it has answered.
    eventually("the transaction is committed in the log", || {
        let committed = kafka.consume("table", "%s").iter().any(|value| value == "committed");
        committed.then_some(())
    });

    let cluster = Cluster::start(Settings {
        bootstrap_servers: vec![kafka.bootstrap.clone()],
        ..Settings::default()
    });
    let TopicState::Ready(topic) = timeout(DEADLINE, cluster.topic_known("table")).await.unwrap() else {
        panic!("it was just made")
    };
    let mut table = timeout(DEADLINE, cluster.table(&topic)).await.unwrap().unwrap();
    let mut rows = Rows::new();
    let records = read(&mut table, &mut rows, |_, table| table.is_complete()).await;
    assert!(
        (expected.len()..=12_001).contains(&records),
        "{records}, of which the cleaner may have removed some"
    );
    assert!(rows == expected, "{} rows of {}", rows.len(), expected.len());

    write(&kafka.bootstrap, "table", "key-1:changed\nkey-2:\nfresh:row\n");
    let changed = |rows: &Rows, _: &Table| {
        rows.get("key-1").is_some_and(|value| value == "changed") && !rows.contains_key("key-2") && rows.contains_key("fresh")
    };
    assert_eq!(read(&mut table, &mut rows, changed).await, 3);
}
