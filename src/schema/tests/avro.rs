//! Avro, beside the vectors of its specification and its own crate.

use apache_avro::{reader::datum::GenericDatumReader, types::Value as AvroValue};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn avro(text: &str) -> Schema {
    compile(Format::Avro, text)
}

const PLANT: &str = r#"{"type": "record", "name": "Reading", "namespace": "plant", "fields": [
    {"name": "site", "type": "string"},
    {"name": "celsius", "type": "double"},
    {"name": "level", "type": ["null", "int"], "default": null},
    {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["OFF", "ON"]}, "default": "OFF"},
    {"name": "tags", "type": {"type": "map", "values": "string"}, "default": {}},
    {"name": "samples", "type": {"type": "array", "items": "long"}, "default": []},
    {"name": "next", "type": ["null", "Reading"], "default": null}
]}"#;

#[test]
fn values_have_the_bytes_that_the_specification_shows() {
    let record = r#"{"type": "record", "name": "test", "fields": [{"name": "a", "type": "long"}, {"name": "b", "type": "string"}]}"#;
    for (schema, value, bytes) in [
        (record, json!({"a": 27, "b": "foo"}), &b"\x36\x06foo"[..]),
        (r#"{"type": "array", "items": "long"}"#, json!([3, 27]), b"\x04\x06\x36\x00"),
        (r#"["null", "string"]"#, json!(null), b"\x00"),
        (r#"["null", "string"]"#, json!("a"), b"\x02\x02a"),
        (r#"{"type": "map", "values": "int"}"#, json!({"k": -64}), b"\x02\x02k\x7f\x00"),
        (r#"{"type": "array", "items": "long"}"#, json!([]), b"\x00"),
        (r#""boolean""#, json!(true), b"\x01"),
        (r#""float""#, json!(0.1), b"\xcd\xcc\xcc\x3d"),
        (r#""double""#, json!(-2.0), b"\0\0\0\0\0\0\0\xc0"),
        (r#""long""#, json!(i64::MIN), b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        (r#"{"type": "fixed", "name": "f", "size": 2}"#, json!("\u{0}\u{ff}"), b"\x00\xff"),
    ] {
        let schema = avro(schema);
        assert_eq!(encoded(&schema, &value), bytes, "{value}");
        assert_eq!(schema.decode(bytes).unwrap(), value);
    }
}

#[test]
fn bytes_alone_have_no_length_as_with_the_java_serializer() {
    let schema = avro(r#""bytes""#);
    assert_eq!(encoded(&schema, &json!("\u{1}\u{ff}")), b"\x01\xff");
    assert_eq!(schema.decode(b"\x01\xff").unwrap(), json!("\u{1}\u{ff}"));
    let within = avro(r#"{"type": "array", "items": "bytes"}"#);
    assert_eq!(encoded(&within, &json!(["\u{1}"])), b"\x02\x02\x01\x00");
}

#[test]
fn blocks_may_tell_their_bytes() {
    let schema = avro(r#"{"type": "array", "items": "long"}"#);
    // Two blocks: one of two items in two bytes, one of one.
    assert_eq!(schema.decode(b"\x03\x04\x06\x36\x02\x02\x00").unwrap(), json!([3, 27, 1]));
}

#[test]
fn what_is_not_given_has_its_default() {
    let schema = avro(PLANT);
    let bytes = encoded(&schema, &json!({"site": "berlin", "celsius": 21}));
    let all = json!({"site": "berlin", "celsius": 21.0, "level": null, "state": "OFF", "tags": {}, "samples": [], "next": null});
    assert_eq!(schema.decode(&bytes).unwrap(), all);
}

#[test]
fn what_does_not_fit_is_told_with_its_place() {
    let schema = avro(PLANT);
    for (value, told) in [
        (json!({"celsius": 1}), "/site: is missing"),
        (json!({"site": "a", "celsius": "warm"}), "/celsius: should be a number"),
        (json!({"site": 1, "celsius": 1}), "/site: should be text"),
        (json!({"site": "a", "celsius": 1, "level": 1.5}), "/level: should be an integer"),
        (
            json!({"site": "a", "celsius": 1, "level": 2_147_483_648_u64}),
            "/level: has no place in 32 bits",
        ),
        (
            json!({"site": "a", "celsius": 1, "state": "BROKEN"}),
            "/state: is none of the symbols",
        ),
        (
            json!({"site": "a", "celsius": 1, "celsuis": 2}),
            "/celsuis: is no field of the schema",
        ),
        (
            json!({"site": "a", "celsius": 1, "samples": [1, "x"]}),
            "/samples/1: should be an integer",
        ),
        (json!({"site": "a", "celsius": 1, "tags": {"k": null}}), "/tags/k: should be text"),
        (
            json!({"site": "a", "celsius": 1, "next": {"site": "b"}}),
            "/next/celsius: is missing",
        ),
        (json!([]), "should be an object"),
        (json!(null), "should be an object"),
    ] {
        assert_eq!(refused(&schema, &value), told, "{value}");
    }
}

#[test]
fn values_of_unions_are_plain_or_wrapped() {
    let schema =
        avro(r#"["null", "int", "string", {"type": "record", "name": "a.R", "fields": [{"name": "x", "type": "long"}]}, "double"]"#);
    for (value, plain, bytes) in [
        (json!(5), json!(5), &b"\x02\x0a"[..]),
        (json!({"int": 5}), json!(5), b"\x02\x0a"),
        (json!("5"), json!("5"), b"\x04\x025"),
        (json!({"string": "5"}), json!("5"), b"\x04\x025"),
        (json!({"x": 1}), json!({"x": 1}), b"\x06\x02"),
        (json!({"a.R": {"x": 1}}), json!({"x": 1}), b"\x06\x02"),
        (json!({"double": 5}), json!(5.0), b"\x08\0\0\0\0\0\0\x14\x40"),
        (json!(0.5), json!(0.5), b"\x08\0\0\0\0\0\0\xe0\x3f"),
    ] {
        assert_eq!(encoded(&schema, &value), bytes, "{value}");
        assert_eq!(schema.decode(bytes).unwrap(), plain);
    }
    assert_eq!(refused(&schema, &json!(true)), "is none of the union");
    assert_eq!(refused(&schema, &json!({"int": "x"})), "/int: should be an integer");
}

#[test]
fn logical_types_are_what_people_write() {
    let logical = |base: &str, name: &str| format!(r#"{{"type": "{base}", "logicalType": "{name}"}}"#);
    for (schema, value, back) in [
        (logical("int", "date"), json!("2026-11-26"), json!(20_783)),
        (
            logical("long", "timestamp-millis"),
            json!("2026-11-26T12:00:00.5Z"),
            json!(1_795_694_400_500_i64),
        ),
        (
            logical("long", "timestamp-micros"),
            json!(1_795_694_400_500_001_i64),
            json!(1_795_694_400_500_001_i64),
        ),
        (logical("int", "time-millis"), json!(1), json!(1)),
        (
            logical("string", "uuid"),
            json!("0190a6b0-7a9c-7c4f-8f4e-5d2b1a3c4d5e"),
            json!("0190a6b0-7a9c-7c4f-8f4e-5d2b1a3c4d5e"),
        ),
    ] {
        let schema = avro(&schema);
        assert_eq!(schema.decode(&encoded(&schema, &value)).unwrap(), back);
    }
    assert!(refused(&avro(&logical("string", "uuid")), &json!("0190")).contains("UUID"));
    assert!(refused(&avro(&logical("int", "date")), &json!("26.11.2026")).contains("day"));
}

#[test]
fn decimals_keep_all_their_digits() {
    let inner = r#"{"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}"#;
    let schema = avro(&format!(r#"{{"type": "array", "items": {inner}}}"#));
    for (value, bytes, back) in [
        (json!("12.34"), &b"\x02\x04\x04\xd2\x00"[..], "12.34"),
        (json!(12.34), b"\x02\x04\x04\xd2\x00", "12.34"),
        (json!(-12.34), b"\x02\x04\xfb\x2e\x00", "-12.34"),
        (json!("1e2"), b"\x02\x04\x27\x10\x00", "100.00"),
        (json!("0.5000"), b"\x02\x02\x32\x00", "0.50"),
        (json!(0), b"\x02\x02\x00\x00", "0.00"),
        (json!("-0.01"), b"\x02\x02\xff\x00", "-0.01"),
    ] {
        assert_eq!(encoded(&schema, &json!([value])), bytes, "{value}");
        assert_eq!(schema.decode(bytes).unwrap(), json!([back]));
    }
    for wrong in [
        json!("12.345"),
        json!("12345.00"),
        json!("1e9"),
        json!(""),
        json!("."),
        json!("1.2.3"),
        json!("+1"),
        json!("0x1"),
        json!(null),
    ] {
        refused(&schema, &json!([wrong]));
    }
    let fixed = avro(r#"{"type": "fixed", "name": "d", "size": 4, "logicalType": "decimal", "precision": 9, "scale": 1}"#);
    assert_eq!(encoded(&fixed, &json!(-0.1)), b"\xff\xff\xff\xff");
    assert_eq!(fixed.decode(b"\xff\xff\xff\xff").unwrap(), json!("-0.1"));
}

/// Not each library looks at the digits of what it writes; a record that lies in Kafka is delivered.
#[test]
fn decimals_of_too_many_digits_are_read_and_not_written() {
    let inner = r#"{"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}"#;
    let schema = avro(&format!(r#"{{"type": "array", "items": {inner}}}"#));
    let value = schema.decode(b"\x02\x0a\x01\x00\x00\x00\x00\x00").unwrap();
    assert_eq!(value, json!(["42949672.96"]));
    assert!(refused(&schema, &value).contains("more than 6 digits"));
    // The largest of six digits, and the smallest of seven.
    assert_eq!(encoded(&schema, &json!(["9999.99"])), b"\x02\x06\x0f\x42\x3f\x00");
    refused(&schema, &json!(["10000.00"]));
}

/// No text has room for them, and what is cut off would be another number.
#[test]
fn decimals_whose_point_lies_too_far_left_are_no_schema() {
    let of = |scale: usize| format!(r#"{{"type": "bytes", "logicalType": "decimal", "precision": {scale}, "scale": {scale}}}"#);
    let compiled = |scale| Schema::compile(Format::Avro, &SchemaText::alone(of(scale)), None);
    let least = compiled(600).unwrap().decode(b"\x01").unwrap();
    assert_eq!(least, json!(format!("0.{}1", "0".repeat(599))));
    let refused = compiled(601).unwrap_err();
    assert_eq!(refused, "has a decimal with 601 digits behind the point, more than 600");
}

#[test]
fn numbers_that_json_has_no_digits_for_have_names() {
    for (schema, bytes, value) in [
        (r#""double""#, f64::NAN.to_le_bytes().to_vec(), "NaN"),
        (r#""double""#, f64::INFINITY.to_le_bytes().to_vec(), "Infinity"),
        (r#""float""#, f32::NEG_INFINITY.to_le_bytes().to_vec(), "-Infinity"),
    ] {
        let schema = avro(schema);
        assert_eq!(schema.decode(&bytes).unwrap(), json!(value));
        assert_eq!(encoded(&schema, &json!(value)), bytes);
    }
    assert!(refused(&avro(r#""float""#), &json!(1e300)).contains("too large"));
}

#[test]
fn references_are_found_by_their_names() {
    let text = SchemaText {
        text: r#"{"type": "record", "name": "a.Outer", "fields": [{"name": "in", "type": "b.Inner"}, {"name": "too", "type": "b.Inner"}]}"#
            .to_owned(),
        references: vec![(
            "b.Inner".to_owned(),
            r#"{"type": "record", "name": "b.Inner", "fields": [{"name": "x", "type": "int"}]}"#.to_owned(),
        )],
    };
    let schema = Schema::compile(Format::Avro, &text, None).unwrap();
    let value = json!({"in": {"x": 1}, "too": {"x": 2}});
    assert_eq!(encoded(&schema, &value), b"\x02\x04");
    assert_eq!(schema.decode(b"\x02\x04").unwrap(), value);
    let missing = SchemaText::alone(text.text);
    assert!(Schema::compile(Format::Avro, &missing, None).is_err());
}

/// Values that fit `PLANT`.
fn readings() -> impl Strategy<Value = serde_json::Value> {
    let leaf = (".*", any::<f64>(), any::<Option<i32>>(), any::<bool>()).prop_map(|(site, celsius, level, on)| {
        json!({"site": site, "celsius": if celsius.is_finite() { celsius } else { 0.0 }, "level": level,
            "state": if on { "ON" } else { "OFF" }, "tags": {}, "samples": [], "next": null})
    });
    leaf.prop_recursive(4, 8, 1, |inner| {
        let tags = proptest::collection::btree_map(".*", ".*", 0..3);
        (inner.clone(), inner, tags, any::<Vec<i64>>()).prop_map(|(mut reading, next, tags, samples)| {
            (reading["tags"], reading["samples"], reading["next"]) = (json!(tags), json!(samples), next);
            reading
        })
    })
}

/// The crate's value as the JSON that we make of it.
fn plain(value: AvroValue) -> serde_json::Value {
    match value {
        AvroValue::Union(_, inner) => plain(*inner),
        AvroValue::Record(fields) => fields.into_iter().map(|(name, value)| (name, plain(value))).collect(),
        AvroValue::Map(entries) => entries.into_iter().map(|(name, value)| (name, plain(value))).collect(),
        AvroValue::Array(items) => items.into_iter().map(plain).collect(),
        AvroValue::Enum(_, symbol) => symbol.into(),
        other => other.try_into().unwrap(),
    }
}

proptest! {
    /// Whatever fits comes back as it was, and its bytes mean the same to Avro's own crate.
    #[test]
    fn what_is_written_is_read(value in readings()) {
        let schema = avro(PLANT);
        let bytes = encoded(&schema, &value);
        prop_assert_eq!(schema.decode(&bytes).unwrap(), value.clone());
        let theirs = apache_avro::Schema::parse_str(PLANT).unwrap();
        let reader = GenericDatumReader::builder(&theirs).build().unwrap();
        let read = reader.read_value(&mut bytes.as_slice()).unwrap();
        prop_assert_eq!(plain(read), value);
    }
}
