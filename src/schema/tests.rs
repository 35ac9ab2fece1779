//! What each format makes of values, and what it makes of bytes that are nobody's value.

mod avro;
mod avro_exact;
mod hostile;
mod hostile_json;
mod json_schema;
mod protobuf;

use std::sync::Arc;

use serde_json::Value;

use super::*;

fn compile(format: Format, text: &str) -> Schema {
    Schema::compile(format, &SchemaText::alone(text), None).unwrap()
}

/// Writes a value as the text that it is without spaces.
fn encode(schema: &Schema, value: &Value, out: &mut Vec<u8>) -> Result<(), Misfit> {
    schema.encode(&Json::read(value.to_string().as_bytes()).unwrap(), out)
}

fn encoded(schema: &Schema, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    encode(schema, value, &mut out).unwrap_or_else(|misfit| panic!("{value}: {misfit}"));
    out
}

fn refused(schema: &Schema, value: &Value) -> String {
    let misfit = encode(schema, value, &mut Vec::new()).expect_err(&value.to_string());
    assert_eq!(misfit.why, Why::Mismatch, "{misfit}");
    misfit.to_string()
}

#[test]
fn a_value_is_framed_with_its_id_and_found_by_it() {
    let catalog = Catalog::new(Format::Avro);
    let schema = Arc::new(compile(Format::Avro, r#""string""#));
    let written = Written {
        id: 0x0102_0304,
        schema: schema.clone(),
    };
    let mut value = b"before".to_vec();
    written.encode(&Json::read(br#""a""#).unwrap(), &mut value).unwrap();
    assert_eq!(value, b"before\x00\x01\x02\x03\x04\x02a");
    assert!(written.encode(&Json::read(b"7").unwrap(), &mut value).is_err());
    assert_eq!(value.len(), 13, "nothing is left of what does not fit");
    let value = &value[6..];
    let decode = |value: &[u8]| {
        let mut json = Vec::new();
        catalog.decode(value, &mut json).map(|()| json)
    };
    assert_eq!(catalog.wanted(value), Some(0x0102_0304));
    assert_eq!(decode(value), Err(Unread::Unknown(0x0102_0304)));
    catalog.put(0x0102_0304, Known::None);
    assert_eq!((decode(value), catalog.wanted(value)), (Err(Unread::NoSchema(0x0102_0304)), None));
    catalog.forget(0x0102_0304);
    assert_eq!(catalog.wanted(value), Some(0x0102_0304));
    catalog.put(0x0102_0304, Known::Schema(schema));
    catalog.forget(0x0102_0304);
    assert_eq!(decode(value), Ok(br#""a""#.to_vec()));
    for unframed in [&b""[..], b"\0\0\0\0", b"{\"a\":1}", b"\x01\0\0\0\x01a"] {
        assert_eq!(decode(unframed), Err(Unread::Unframed));
        assert_eq!(catalog.wanted(unframed), None);
    }
}

#[test]
fn no_more_schemas_are_kept_than_there_is_room_for() {
    let catalog = Catalog::new(Format::Avro);
    (0..5_000).for_each(|id| catalog.put(id, Known::None));
    let known = (0..5_000).filter(|id| catalog.knows(*id)).count();
    assert_eq!(known, 1_000);
    assert!(catalog.knows(4_999) && !catalog.knows(0));
}
