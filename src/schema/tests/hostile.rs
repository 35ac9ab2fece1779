//! Bytes and values that are made to cost much.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::json;

use super::*;

const LIST: &str = r#"{"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}"#;

/// Far more than any of them takes, and less than what they are made for.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn depth_has_an_end() {
    let avro = compile(Format::Avro, LIST);
    assert_eq!(avro.decode(&[2; 1 << 20]).unwrap_err().why, Why::TooMuch);
    let mut value = json!(null);
    (0..100).for_each(|_| value = json!({ "next": value.take() }));
    assert_eq!(encode(&avro, &value, &mut Vec::new()).unwrap_err().why, Why::TooMuch);
    let arrays = compile(Format::JsonSchema, "{}");
    let deep = [vec![b'['; 100], vec![b']'; 100]].concat();
    assert_eq!(arrays.decode(&deep).unwrap_err().why, Why::TooMuch);
    let proto = compile(Format::Protobuf, "message A { optional A a = 1; }");
    // Each level has its length in front.
    let mut bytes = vec![];
    for _ in 0..120 {
        let mut outer = vec![0x0a];
        crate::wire::write::varint(bytes.len(), &mut outer);
        outer.extend(bytes);
        bytes = outer;
    }
    bytes.insert(0, 0);
    assert_eq!(proto.decode(&bytes).unwrap_err().why, Why::Damaged);
}

/// Each of a hundred texts is as deep as JSON may be, and refers to the next at its deepest place: as deep as all of them.
#[test]
fn references_into_each_other_have_an_end() {
    let arrays = |items: &str| format!("{}{items}{}", r#"{"type":"array","items":"#.repeat(120), "}".repeat(120));
    let record = |at: usize, within: &str| format!(r#"{{"type":"record","name":"R{at}","fields":[{{"name":"f","type":{within}}}]}}"#);
    let mut references = vec![("R0".to_owned(), record(0, r#""int""#))];
    for at in 1..100 {
        references.push((format!("R{at}"), record(at, &arrays(&format!("\"R{}\"", at - 1)))));
    }
    let text = record(100, r#""R99""#);
    let refused = Schema::compile(Format::Avro, &SchemaText { text, references }, None).unwrap_err();
    assert_eq!(refused, "has parts more than 200 deep");
}

#[test]
fn values_of_no_bytes_are_counted() {
    let began = Instant::now();
    for items in [
        r#""null""#,
        r#"{"type": "record", "name": "E", "fields": []}"#,
        r#"{"type": "fixed", "name": "F", "size": 0}"#,
    ] {
        let schema = compile(Format::Avro, &format!(r#"{{"type": "array", "items": {items}}}"#));
        // Each says that it has 2^62 items.
        let bytes = b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01\x00";
        assert_eq!(schema.decode(bytes).unwrap_err().why, Why::TooMuch, "{items}");
    }
    assert!(began.elapsed() < SOON);
}

#[test]
fn lengths_are_not_believed() {
    for (schema, bytes) in [
        (r#"["null", "bytes"]"#, &b"\x02\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"[..]),
        (r#""string""#, b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        (r#""string""#, b"\x01"),
        (r#"{"type": "map", "values": "null"}"#, b"\x02\x7e"),
        (r#"["null", "int"]"#, b"\x04\x02"),
        (r#"["null", "int"]"#, b"\x01"),
        (r#"{"type": "enum", "name": "E", "symbols": ["A"]}"#, b"\x02"),
        (r#""boolean""#, b"\x02"),
        (r#""int""#, b"\x80\x80\x80\x80\x80\x01"),
        (r#""int""#, b"\x02\x02"),
        (r#""string""#, b"\x02\xff"),
    ] {
        assert_eq!(
            compile(Format::Avro, schema).decode(bytes).unwrap_err().why,
            Why::Damaged,
            "{schema} {bytes:?}"
        );
    }
    let large = compile(Format::Avro, r#"{"type": "fixed", "name": "F", "size": 1048576}"#);
    assert_eq!(large.decode(b"").unwrap_err().why, Why::Damaged);
}

#[test]
fn branches_of_a_union_are_not_tried_for_ever() {
    // Each level could be an A or a B, and only the innermost tells that it is neither: 2^60 ways.
    let schema = compile(
        Format::Avro,
        r#"[{"type": "record", "name": "A", "fields": [{"name": "x", "type": ["null", "A",
            {"type": "record", "name": "B", "fields": [{"name": "x", "type": ["null", "A", "B"]}]}]}]}, "B"]"#,
    );
    let mut value = json!(7);
    (0..30).for_each(|_| value = json!({ "x": value.take() }));
    let began = Instant::now();
    assert_eq!(encode(&schema, &value, &mut Vec::new()).unwrap_err().why, Why::TooMuch);
    assert!(began.elapsed() < SOON);
}

#[test]
fn decimals_take_no_time_with_the_square_of_their_digits() {
    let schema = compile(
        Format::Avro,
        r#"["null", {"type": "bytes", "logicalType": "decimal", "precision": 100000, "scale": 0}]"#,
    );
    let mut bytes = vec![2];
    crate::wire::varint::put(1_000_000, &mut bytes);
    bytes.resize(bytes.len() + 1_000_000, 0x7F);
    assert_eq!(schema.decode(&bytes).unwrap_err().why, Why::TooMuch);
    for text in ["9".repeat(100_000), "1e2000000000".to_owned(), "1e-2000000000".to_owned()] {
        assert!(encode(&schema, &json!(text), &mut Vec::new()).is_err());
    }
}

#[test]
fn what_is_too_large_is_not_taken_apart() {
    let schema = compile(Format::JsonSchema, "{}");
    assert_eq!(schema.decode(&vec![b' '; LARGEST + 1]).unwrap_err().why, Why::TooMuch);
    let many = json!(vec![0; MOST_VALUES]);
    assert_eq!(encode(&schema, &many, &mut Vec::new()).unwrap_err().why, Why::TooMuch);
    let large = SchemaText::alone(" ".repeat(LARGEST_SCHEMA + 1));
    assert!(Schema::compile(Format::Avro, &large, None).unwrap_err().contains("bytes"));
}

#[test]
fn messages_in_any_are_not_nested_without_end() {
    let schema = compile(
        Format::Protobuf,
        "syntax = \"proto3\"; import \"google/protobuf/any.proto\"; message M { google.protobuf.Any a = 1; int32 i = 2; }",
    );
    let any = |depth: usize| {
        let url = b"/google.protobuf.Any";
        let mut bytes = vec![];
        for _ in 0..depth {
            let mut outer = vec![0x0a, url.len() as u8];
            outer.extend_from_slice(url);
            outer.push(0x12);
            crate::wire::write::varint(bytes.len(), &mut outer);
            outer.extend(bytes);
            bytes = outer;
        }
        let mut value = vec![0, 0x0a];
        crate::wire::write::varint(bytes.len(), &mut value);
        value.extend(bytes);
        value
    };
    for depth in [101, 40_000] {
        let bytes = any(depth);
        assert!(bytes.len() <= LARGEST);
        assert_eq!(schema.decode(&bytes).unwrap_err().why, Why::TooMuch);
    }
    let within = json!({"a": {"@type": "/M", "a": {"@type": "/google.protobuf.Any", "value": {"@type": "/M", "i": 7}}}});
    assert_eq!(schema.decode(&encoded(&schema, &within)).unwrap(), within);
    // Whose bytes would be taken for text, or not be seen at all.
    for own in [
        "bytes type_url = 1; bytes value = 2;",
        "",
        "repeated string type_url = 1; bytes value = 2;",
    ] {
        let text = format!("syntax = \"proto3\"; package google.protobuf; message Any {{ {own} }}");
        let told = Schema::compile(Format::Protobuf, &SchemaText::alone(text), None).unwrap_err();
        assert!(told.contains("of its own"), "{told}");
    }
}

#[test]
fn what_is_written_is_bounded_while_it_is_written() {
    let fixed = r#"{"type": "fixed", "name": "F", "size": 9000000000000000000}"#;
    let decimal = r#"{"type": "fixed", "name": "F", "size": 9000000000000000000, "logicalType": "decimal", "precision": 9, "scale": 2}"#;
    for large in [fixed, decimal] {
        let told = Schema::compile(Format::Avro, &SchemaText::alone(large), None).unwrap_err();
        assert!(told.contains("`fixed` of 9000000000000000000 bytes"), "{told}");
    }
    let largest = format!(r#"{{"type": "fixed", "name": "F", "size": {LARGEST}, "logicalType": "decimal", "precision": 9, "scale": 2}}"#);
    assert_eq!(encoded(&compile(Format::Avro, &largest), &json!("1.00")).len(), LARGEST);
    let defaults = format!(
        r#"{{"type": "array", "items": {{"type": "record", "name": "R", "fields": [{{"name": "a", "type": "string", "default": "{}"}}]}}}}"#,
        "x".repeat(100_000)
    );
    let mut out = Vec::new();
    let misfit = encode(&compile(Format::Avro, &defaults), &json!(vec![json!({}); 1_000]), &mut out).unwrap_err();
    assert_eq!(misfit.why, Why::TooMuch);
    assert!(out.len() < 2 * LARGEST, "{}", out.len());
}

#[test]
fn messages_are_counted_as_other_values_are() {
    let schema = compile(
        Format::Protobuf,
        "syntax = \"proto3\"; message M { repeated int32 i = 1; M m = 2; }",
    );
    let of = |items: usize| {
        let mut bytes = vec![0, 0x0a];
        crate::wire::write::varint(items, &mut bytes);
        bytes.resize(bytes.len() + items, 7);
        bytes
    };
    assert!(schema.decode(&of(MOST_VALUES - 2)).is_ok());
    assert_eq!(schema.decode(&of(MOST_VALUES - 1)).unwrap_err().why, Why::TooMuch);
    let nested = |depth: usize| {
        let mut bytes = vec![];
        for _ in 0..depth {
            let mut outer = vec![0x12];
            crate::wire::write::varint(bytes.len(), &mut outer);
            outer.extend(bytes);
            bytes = outer;
        }
        bytes.insert(0, 0);
        bytes
    };
    assert!(schema.decode(&nested(DEEPEST)).is_ok());
    assert_eq!(schema.decode(&nested(DEEPEST + 1)).unwrap_err().why, Why::TooMuch);
}

/// Its decimal may have more digits than the longest of the bytes below: what is read of a record with more digits than
/// its type has is delivered, and can't be written (`decimals_of_too_many_digits_are_read_and_not_written`).
const AVRO: &str = r#"{"type": "record", "name": "R", "fields": [
    {"name": "d", "type": {"type": "bytes", "logicalType": "decimal", "precision": 500, "scale": 2}},
    {"name": "u", "type": ["null", "R", {"type": "map", "values": ["string", "float"]}]},
    {"name": "a", "type": {"type": "array", "items": {"type": "fixed", "name": "F", "size": 3}}},
    {"name": "t", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}"#;
const PROTO: &str = r#"syntax = "proto3"; import "google/protobuf/timestamp.proto"; import "google/protobuf/duration.proto";
    import "google/protobuf/any.proto"; import "google/protobuf/struct.proto"; import "google/protobuf/field_mask.proto";
    import "google/protobuf/wrappers.proto";
    message M { google.protobuf.Timestamp a = 1; google.protobuf.Duration b = 2; google.protobuf.Any c = 3; google.protobuf.Struct d = 4;
    google.protobuf.FieldMask e = 5; map<string, M> f = 6; repeated float g = 7; oneof o { bytes h = 8; M i = 9; } E j = 10;
    google.protobuf.UInt64Value k = 11; enum E { X = 0; Y = 7; } }"#;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever comes out of bytes can be written, and says the same then.
    #[test]
    fn no_bytes_hurt_avro(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), 0..4u8], 0..200)) {
        let schema = compile(Format::Avro, AVRO);
        if let Ok(value) = schema.decode(&bytes) {
            prop_assert_eq!(schema.decode(&encoded(&schema, &value)).unwrap(), value);
        }
    }

    #[test]
    fn no_values_hurt_avro(text in r#"(\{"[duat]":)*(\{"[R-s]{1,6}":)?[\[\]{}0-9e"\.,-]{0,20}\}*"#) {
        let schema = compile(Format::Avro, AVRO);
        if let Ok(json) = Json::read(text.as_bytes()) {
            let _ = schema.encode(&json, &mut Vec::new());
        }
    }
}

proptest! {
    /// Behind each key that is one of the message's.
    #[test]
    fn no_bytes_hurt_protobuf(parts in proptest::collection::vec((1..12u8, any::<Vec<u8>>(), any::<i64>()), 0..8)) {
        let schema = proto();
        let mut bytes = vec![0];
        for (field, inner, number) in parts {
            // Of two fields inside: the numbers of times, most of all.
            let mut inner = inner;
            if number % 2 == 0 {
                inner = vec![0x08];
                crate::wire::varint::put(number, &mut inner);
            }
            bytes.push(field << 3 | 2);
            crate::wire::write::varint(inner.len(), &mut bytes);
            bytes.extend(inner);
        }
        if let Ok(value) = schema.decode(&bytes) {
            let _ = encode(schema, &value, &mut Vec::new());
        }
    }
}

fn proto() -> &'static Schema {
    static SCHEMA: std::sync::OnceLock<Schema> = std::sync::OnceLock::new();
    SCHEMA.get_or_init(|| compile(Format::Protobuf, PROTO))
}
