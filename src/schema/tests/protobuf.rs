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

/// As Kafka Connect writes the schema of a row: its types are Confluent's and Google's, and options say what Connect calls them.
const ROW: &str = r#"
    syntax = "proto3";
    import "confluent/meta.proto";
    import "confluent/type/decimal.proto";
    import "google/type/date.proto";
    import "google/type/timeofday.proto";
    option (confluent.file_meta).doc = "rows";
    message Row {
        option (confluent.message_meta) = { tags: ["PII", "GEO"] };
        int32 tiny = 1 [(confluent.field_meta) = { params: [{ key: "connect.type", value: "int8" }] }];
        confluent.type.Decimal price = 2 [(confluent.field_meta) = {
            doc: "in euro", params: [{ key: "precision", value: "20" }, { key: "scale", value: "2" }] }];
        google.type.Date day = 3;
        google.type.TimeOfDay time = 4;
        Kind kind = 5;
        enum Kind {
            option (confluent.enum_meta).doc = "kinds";
            NONE = 0 [(confluent.enum_value_meta).doc = "of none"];
        }
    }
"#;

#[test]
fn what_clients_bring_along_is_imported_without_a_reference() {
    let schema = compile(Format::Protobuf, ROW);
    let row = json!({"tiny": 7, "price": {"value": "BNI=", "precision": 20, "scale": 2}, "day": {"year": 2026, "month": 11, "day": 26},
        "time": {"hours": 12, "nanos": 5}});
    let bytes = encoded(&schema, &row);
    // Which message, then each field behind its number and length: 1234 at a scale of 2, the day, the time.
    let fields = b"\x00\x08\x07\x12\x08\x0a\x02\x04\xd2\x10\x14\x18\x02\x1a\x07\x08\xea\x0f\x10\x0b\x18\x1a\x22\x04\x08\x0c\x20\x05";
    assert_eq!(bytes, fields);
    assert_eq!(schema.decode(&bytes).unwrap(), row);
}

/// A message with one field of a type of a file that clients bring along.
fn brought_along(files: &[(&str, &str, Value)]) {
    for (file, of, value) in files {
        let schema = compile(
            Format::Protobuf,
            &format!("syntax = \"proto3\"; import \"{file}.proto\"; message M {{ {of} of = 1; }}"),
        );
        let value = json!({ "of": value });
        assert_eq!(schema.decode(&encoded(&schema, &value)).unwrap(), value, "{file}");
    }
}

#[test]
fn each_file_that_clients_bring_along_can_be_imported() {
    brought_along(&[
        (
            "confluent/type/decimal",
            "confluent.type.Decimal",
            json!({"value": "AQ==", "scale": -1}),
        ),
        (
            "confluent/type/variant",
            "confluent.type.Variant",
            json!({"metadata": "AQ==", "value": "Ag=="}),
        ),
        ("confluent/types/decimal", "confluent.type.Decimal", json!({"value": "AQ=="})),
        ("google/type/calendar_period", "google.type.CalendarPeriod", json!("FORTNIGHT")),
        ("google/type/color", "google.type.Color", json!({"red": 0.5, "alpha": 0.25})),
        ("google/type/date", "google.type.Date", json!({"year": 2026})),
        (
            "google/type/datetime",
            "google.type.DateTime",
            json!({"hours": 1, "timeZone": {"id": "Europe/Berlin"}}),
        ),
        ("google/type/datetime", "google.type.DateTime", json!({"utcOffset": "3600s"})),
        ("google/type/dayofweek", "google.type.DayOfWeek", json!("SUNDAY")),
        ("google/type/decimal", "google.type.Decimal", json!({"value": "12.30"})),
    ]);
}

#[test]
fn the_other_files_that_clients_bring_along_can_be_imported() {
    brought_along(&[
        (
            "google/type/expr",
            "google.type.Expr",
            json!({"expression": "a > 1", "location": "here"}),
        ),
        (
            "google/type/fraction",
            "google.type.Fraction",
            json!({"numerator": "1", "denominator": "3"}),
        ),
        (
            "google/type/interval",
            "google.type.Interval",
            json!({"startTime": "2026-11-26T12:00:00Z"}),
        ),
        (
            "google/type/latlng",
            "google.type.LatLng",
            json!({"latitude": 50.7, "longitude": 7.1}),
        ),
        (
            "google/type/money",
            "google.type.Money",
            json!({"currencyCode": "EUR", "units": "12", "nanos": 300_000_000}),
        ),
        ("google/type/month", "google.type.Month", json!("DECEMBER")),
        (
            "google/type/phone_number",
            "google.type.PhoneNumber",
            json!({"shortCode": {"number": "110"}, "extension": "1"}),
        ),
        (
            "google/type/postal_address",
            "google.type.PostalAddress",
            json!({"addressLines": ["a", "b"], "organization": "c"}),
        ),
        ("google/type/quaternion", "google.type.Quaternion", json!({"x": 1.0, "w": 2.0})),
        (
            "google/type/timeofday",
            "google.type.TimeOfDay",
            json!({"hours": 23, "minutes": 59, "seconds": 58, "nanos": 1}),
        ),
    ]);
}

/// A registry in which somebody has registered such a file has the last word.
#[test]
fn a_reference_comes_before_what_clients_bring_along() {
    let text = SchemaText {
        text: "syntax = \"proto3\"; import \"google/type/date.proto\"; message M { google.type.Date of = 1; }".to_owned(),
        references: vec![(
            "google/type/date.proto".to_owned(),
            "syntax = \"proto3\"; package google.type; message Date { string text = 1; }".to_owned(),
        )],
    };
    let schema = Schema::compile(Format::Protobuf, &text, None).unwrap();
    assert_eq!(encoded(&schema, &json!({"of": {"text": "x"}})), b"\x00\x0a\x03\x0a\x01x");
}
