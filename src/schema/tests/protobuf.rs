//! Protocol Buffers.

use serde_json::json;

use super::*;

const FILE: &str = r#"
    syntax = "proto3";
    package plant;
    import "google/protobuf/timestamp.proto";
    import "units.proto";
    message Reading {
        int32 a = 1;
        string site_name = 2;
        int64 total = 3;
        google.protobuf.Timestamp at = 4;
        Unit unit = 5;
        message Inner { bool on = 1; message Deep { bytes raw = 1; } }
    }
    message Other { repeated Reading readings = 1; }
"#;
const UNITS: &str = r#"syntax = "proto3"; package plant; enum Unit { NONE = 0; CELSIUS = 1; }"#;

fn text() -> SchemaText {
    SchemaText {
        text: FILE.to_owned(),
        references: vec![("units.proto".to_owned(), UNITS.to_owned())],
    }
}

fn named(message: Option<&str>) -> Schema {
    Schema::compile(Format::Protobuf, &text(), message).unwrap()
}

#[test]
fn the_first_message_is_written_where_none_is_named() {
    let schema = named(None);
    // The value of the encoding's documentation, behind the list of places that stands for [0].
    assert_eq!(encoded(&schema, &json!({"a": 150})), b"\x00\x08\x96\x01");
    let whole = json!({"a": 1, "siteName": "x", "total": "9007199254740993", "at": "2026-11-26T12:00:00Z", "unit": "CELSIUS"});
    assert_eq!(schema.decode(&encoded(&schema, &whole)).unwrap(), whole);
    let written = json!({"site_name": "x", "total": 5, "unit": 1});
    assert_eq!(
        schema.decode(&encoded(&schema, &written)).unwrap(),
        json!({"siteName": "x", "total": "5", "unit": "CELSIUS"})
    );
}

#[test]
fn other_messages_are_found_by_name_and_by_place() {
    let bytes = encoded(&named(Some("plant.Reading.Inner.Deep")), &json!({"raw": "AQI="}));
    // Three places: 0, 0, 0.
    assert_eq!(bytes, b"\x06\x00\x00\x00\x0a\x02\x01\x02");
    let bytes = encoded(&named(Some("plant.Other")), &json!({"readings": [{"a": 1}]}));
    assert_eq!(bytes, b"\x02\x02\x0a\x02\x08\x01");
    // Whichever message a rule writes, it reads all of the schema.
    assert_eq!(named(None).decode(&bytes).unwrap(), json!({"readings": [{"a": 1}]}));
    assert_eq!(named(None).decode(b"\x04\x00\x00\x08\x01").unwrap(), json!({"on": true}));
    let missing = Schema::compile(Format::Protobuf, &text(), Some("plant.Missing")).unwrap_err();
    assert!(missing.contains("plant.Missing"), "{missing}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let schema = named(None);
    for (value, told) in [
        (json!({"a": "x"}), "a"),
        (json!({"b": 1}), "b"),
        (json!({"a": 2_147_483_648_u64}), ""),
        (json!({"unit": "KELVIN"}), ""),
        (json!([]), ""),
        (json!(7), ""),
    ] {
        assert!(refused(&schema, &value).contains(told));
    }
    for damaged in [
        &b""[..],
        b"\x01",
        b"\x04\x00",
        b"\x02\x09\x08\x01",
        b"\x00\x08",
        b"\x00\x0a\x05",
        b"\x00\x12\x01\xff",
        b"\x03\x00",
    ] {
        let misfit = schema.decode(damaged).expect_err(&format!("{damaged:?}"));
        assert_eq!(misfit.why, Why::Damaged);
    }
}

#[test]
fn schemas_that_cannot_be_compiled_are_told() {
    let compile = |text: &str| Schema::compile(Format::Protobuf, &SchemaText::alone(text), None).unwrap_err();
    assert!(compile("message {").contains("no schema"));
    assert!(compile("syntax = \"proto3\";").contains("no message"));
    assert!(compile("import \"missing.proto\"; message A {}").contains("missing.proto"));
    assert!(compile(&format!("message A {{ {}", "message B {".repeat(10_000))).contains("deep"));
}
