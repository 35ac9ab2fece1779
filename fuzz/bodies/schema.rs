//! Any bytes as a schema, one that it refers to, and a record or a value in JSON: nothing panics or goes on for ever, and what is written can be read.
//!
//! The first byte chooses the format; the texts end at zero bytes.

use mqtt_kafka_proxy::schema::{Format, Schema, SchemaText};

const FORMATS: [Format; 3] = [Format::Avro, Format::JsonSchema, Format::Protobuf];
/// What the schema may refer to the other text by.
const NAME: &str = "other";

/// Whether there was a schema, and a value of it.
pub fn check(bytes: &[u8]) -> bool {
    let Some((&first, rest)) = bytes.split_first() else { return false };
    let mut parts = rest.splitn(3, |byte| *byte == 0);
    let mut text = || std::str::from_utf8(parts.next().unwrap_or(b"")).map(str::to_owned);
    let (Ok(text), Ok(other)) = (text(), text()) else { return false };
    let payload = parts.next().unwrap_or(b"");
    let references = if other.is_empty() { vec![] } else { vec![(NAME.to_owned(), other)] };
    let format = FORMATS[usize::from(first) % FORMATS.len()];
    let Ok(schema) = Schema::compile(format, &SchemaText { text, references }, None) else {
        return false;
    };
    let read = schema.decode(payload);
    let said = serde_json::from_slice(payload).ok();
    let mut values = 0;
    for value in read.iter().chain(&said) {
        let mut written = Vec::new();
        if schema.encode(value, &mut written).is_ok() {
            values += 1;
            assert!(schema.decode(&written).is_ok(), "{value} is written as {written:?}, which is none");
        }
    }
    read.is_ok() || values > 0
}
