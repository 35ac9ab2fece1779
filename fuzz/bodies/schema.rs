//! Any bytes as a schema, one that it refers to, and a record or a value in JSON: nothing panics or goes on for ever, and what is written can be read.
//!
//! The first byte chooses the format; the texts end at zero bytes.

use mqtt_kafka_proxy::schema::{Format, Json, Schema, SchemaText};

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
    let mut read = Vec::new();
    let is_read = schema.decode_text(payload, &mut read).is_ok();
    let mut values = 0;
    for text in [read.as_slice(), payload] {
        let mut written = Vec::new();
        if Json::read(text).is_ok_and(|json| schema.encode(&json, &mut written).is_ok()) {
            values += 1;
            let text = String::from_utf8_lossy(text);
            assert!(schema.decode(&written).is_ok(), "{text} is written as {written:?}, which is none");
        }
    }
    is_read || values > 0
}
