//! Runs the bodies of the fuzz targets over their corpora: what a fuzzer has found once stays found.

#[path = "../fuzz/bodies/config.rs"]
mod config;
#[path = "../fuzz/bodies/connection.rs"]
mod connection;
#[path = "../fuzz/bodies/jwt.rs"]
mod jwt;
#[path = "../fuzz/bodies/kafka_batch.rs"]
mod kafka_batch;
#[path = "../fuzz/bodies/kafka_response.rs"]
mod kafka_response;
#[path = "../fuzz/bodies/mqtt_decode.rs"]
mod mqtt_decode;
#[path = "../fuzz/bodies/ownership_record.rs"]
mod ownership_record;
#[path = "../fuzz/bodies/proxy_header.rs"]
mod proxy_header;
#[path = "../fuzz/bodies/schema.rs"]
mod schema;
#[path = "../fuzz/bodies/scram.rs"]
mod scram;
#[path = "../fuzz/bodies/transform.rs"]
mod transform;
#[path = "../fuzz/bodies/websocket.rs"]
mod websocket;

use std::fs;
use std::path::Path;

use mqtt_kafka_proxy::mqtt::Version;
use mqtt_kafka_proxy::mqtt::codec::Role;

/// The seeds of a target. A corpus that is not there fails the test.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let seed = |path: &Path| (path.display().to_string(), fs::read(path).expect("a seed can be read"));
    let seeds: Vec<_> = files.map(|file| seed(&file.expect("a folder can be listed").path())).collect();
    assert!(seeds.len() >= 10, "{target}: the corpus has only {} seeds", seeds.len());
    seeds
}

#[test]
fn mqtt_decode_holds_for_its_corpus() {
    let mut accepted = 0;
    for (name, bytes) in corpus("mqtt_decode") {
        println!("{name}");
        mqtt_decode::check(&bytes);
        accepted += usize::from(mqtt_decode::check_as(Some(Version::V5), Role::Server, &bytes));
        accepted += usize::from(mqtt_decode::check_as(Some(Version::V5), Role::Client, &bytes));
    }
    assert!(accepted >= 10, "the corpus reaches behind the first refusal");
}

#[test]
fn kafka_batch_holds_for_its_corpus() {
    for (name, bytes) in corpus("kafka_batch") {
        println!("{name}");
        kafka_batch::check(&bytes);
    }
}

#[test]
fn kafka_response_holds_for_its_corpus() {
    let mut answers = 0;
    for (name, bytes) in corpus("kafka_response") {
        println!("{name}");
        answers += usize::from(kafka_response::check(&bytes));
    }
    assert!(answers >= 30, "the corpus holds an answer of each API, old and new: {answers}");
}

#[test]
fn ownership_record_holds_for_its_corpus() {
    let mut accepted = 0;
    for (name, bytes) in corpus("ownership_record") {
        println!("{name}");
        accepted += usize::from(ownership_record::check(&bytes));
    }
    assert!(accepted >= 5, "the corpus reaches behind the first refusal");
}

#[test]
fn websocket_holds_for_its_corpus() {
    let mut carried = 0;
    for (name, bytes) in corpus("websocket") {
        println!("{name}");
        carried += usize::from(websocket::check(&bytes));
    }
    assert!(carried >= 6, "the corpus reaches behind the first refusal: {carried}");
}

#[test]
fn proxy_header_holds_for_its_corpus() {
    let mut whole = 0;
    for (name, bytes) in corpus("proxy_header") {
        println!("{name}");
        whole += usize::from(proxy_header::check(&bytes));
    }
    assert!(whole >= 8, "the corpus reaches behind the first refusal: {whole}");
}

#[test]
fn jwt_holds_for_its_corpus() {
    let mut taken = 0;
    for (name, bytes) in corpus("jwt") {
        println!("{name}");
        taken += usize::from(jwt::check(&bytes));
    }
    assert!(taken >= 6, "the corpus reaches behind the first refusal: {taken}");
}

#[test]
fn scram_holds_for_its_corpus() {
    let mut let_in = 0;
    for (name, bytes) in corpus("scram") {
        println!("{name}");
        let_in += usize::from(scram::check(&bytes));
    }
    assert!(let_in >= 3, "the corpus reaches behind the first refusal: {let_in}");
}

#[test]
fn config_holds_for_its_corpus() {
    let mut taken = 0;
    for (name, bytes) in corpus("config") {
        println!("{name}");
        taken += usize::from(config::check(&bytes));
    }
    assert!(taken >= 6, "the corpus reaches behind the first refusal: {taken}");
}

#[test]
fn connection_holds_for_its_corpus() {
    let mut sent = 0;
    for (name, bytes) in corpus("connection") {
        println!("{name}");
        sent += connection::check(&bytes);
    }
    assert!(sent >= 60, "the corpus reaches behind CONNACK: {sent}");
}

#[test]
fn transform_holds_for_its_corpus() {
    let mut made = 0;
    for (name, bytes) in corpus("transform") {
        println!("{name}");
        made += usize::from(transform::check(&bytes));
    }
    assert!(made >= 8, "the corpus reaches behind the first refusal: {made}");
}

#[test]
fn schema_holds_for_its_corpus() {
    let mut values = 0;
    for (name, bytes) in corpus("schema") {
        println!("{name}");
        values += usize::from(schema::check(&bytes));
    }
    assert!(values >= 12, "the corpus reaches behind the first refusal: {values}");
}
