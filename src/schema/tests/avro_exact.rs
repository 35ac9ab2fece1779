//! Avro values that must not become others on their way: digits, integers, defaults, days long ago.

use serde_json::json;

use super::*;

fn avro(text: &str) -> Schema {
    compile(Format::Avro, text)
}

/// What becomes of a text, or why it does not.
fn written(schema: &Schema, text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let encoded = schema.encode(&Json::read(text.as_bytes()).unwrap(), &mut out);
    encoded.map(|()| out).map_err(|misfit| misfit.to_string())
}

#[test]
fn a_decimal_never_gets_other_digits_than_were_written() {
    let schema = avro(
        r#"{"type": "record", "name": "R", "fields": [
            {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": 2}},
            {"name": "rate", "type": "double", "default": 0}]}"#,
    );
    let told = "/price: is a number of more than 15 digits, of which some would be lost: write it as text";
    for lost in [
        "12345678901234567.89",
        "-12345678901234567.89",
        // What a double makes of them has few digits, and is another number.
        "1000000000000000.01",
        "0.3000000000000000001",
        "1.23456789012345678e3",
        "18446744073709551616",
    ] {
        assert_eq!(written(&schema, &format!(r#"{{"price": {lost}}}"#)).unwrap_err(), told, "{lost}");
    }
    let plain = |price: &str| written(&schema, &format!(r#"{{"price": {price}}}"#)).unwrap();
    for kept in ["12345678901234567.89", "18446744073709551616", "1000000000000000.01"] {
        let value = schema.decode(&plain(&format!("\"{kept}\""))).unwrap();
        assert_eq!(value["price"].as_str().unwrap().trim_end_matches(".00"), kept);
    }
    for (same, text) in [
        ("12.3400000000000000000000", "12.34"),
        ("18446744073709551615", "18446744073709551615.00"),
        ("1234567890123.45", "1234567890123.45"),
        ("1e17", "100000000000000000.00"),
    ] {
        assert_eq!(schema.decode(&plain(same)).unwrap()["price"], text);
    }
    // It is not the number beside it that is looked at, though it becomes the same double.
    let beside = written(&schema, r#"{"rate": 0.2000000000000000000001, "price": 0.2}"#).unwrap();
    assert_eq!(schema.decode(&beside).unwrap(), json!({"price": "0.20", "rate": 0.2}));
    // One that stands alone, and one among others.
    let alone = avro(r#"{"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2}"#);
    assert!(written(&alone, "12345678901234567.89").unwrap_err().contains("write it as text"));
    let list = avro(
        r#"{"type": "array", "items": {"type": "fixed", "name": "F", "size": 9, "logicalType": "decimal", "precision": 20, "scale": 2}}"#,
    );
    assert!(written(&list, "[0.1, 12345678901234567.89]").unwrap_err().starts_with("/1: "));
}

#[test]
fn an_integer_never_gets_another_value_than_was_written() {
    let schema = avro(r#""long""#);
    for (text, value) in [
        ("9007199254740993", 9_007_199_254_740_993_i64),
        ("5.0", 5),
        ("1e3", 1_000),
        ("-7.000000000000000000", -7),
    ] {
        assert_eq!(schema.decode(&written(&schema, text).unwrap()).unwrap(), json!(value));
    }
    for text in ["9007199254740993.0", "4.0000000000000000001"] {
        assert!(written(&schema, text).unwrap_err().contains("write it without a point"), "{text}");
    }
}

#[test]
fn a_number_goes_to_the_branch_that_holds_it() {
    for (union, text, branch, back) in [
        (r#"["null", "float", "double"]"#, "123456789.123", 2, json!(123_456_789.123)),
        (r#"["null", "float", "double"]"#, "21.5", 1, json!(21.5)),
        (r#"["null", "float", "double"]"#, "0.1", 1, json!(0.1)),
        (r#"["null", "float", "double"]"#, "1e300", 2, json!(1e300)),
        (r#"["float", "int"]"#, "16777217", 1, json!(16_777_217)),
        (r#"["double", "long"]"#, "9007199254740993", 1, json!(9_007_199_254_740_993_i64)),
        (r#"["double", "long"]"#, "7", 0, json!(7.0)),
        // Where no branch holds it, the one that loses least.
        (r#"["float", "double"]"#, "9007199254740993", 1, json!(9_007_199_254_740_992.0)),
        (r#"["null", "float"]"#, "123456789.123", 1, json!(123_456_790.0)),
    ] {
        let schema = avro(union);
        let bytes = written(&schema, text).unwrap();
        assert_eq!((bytes[0], schema.decode(&bytes).unwrap()), (2 * branch, back), "{union} {text}");
    }
}

/// By the specification the characters of such a default are its bytes, whatever they look like.
#[test]
fn defaults_are_as_a_schema_writes_them() {
    let decimal = r#"{"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}"#;
    let fixed = r#"{"type": "fixed", "name": "F", "size": 2, "logicalType": "decimal", "precision": 4, "scale": 2}"#;
    let uuid = r#"{"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}"#;
    let inner = format!(
        r#"{{"type": "record", "name": "I", "fields": [{{"name": "d", "type": {decimal}}}, {{"name": "e", "type": {decimal}, "default": "2"}}]}}"#
    );
    for (kind, default, value) in [
        (decimal, r#""\u0000""#, json!("0.00")),
        (decimal, r#""1""#, json!("0.49")),
        (decimal, r#""\u00ff""#, json!("-0.01")),
        (decimal, r#""\u0004\u00d2""#, json!("12.34")),
        (fixed, r#""\u00001""#, json!("0.49")),
        (uuid, r#""0123456789abcdef""#, json!("30313233-3435-3637-3839-616263646566")),
        (&*format!(r#"[{decimal}, "null"]"#), r#""1""#, json!("0.49")),
        (&*format!(r#"["string", {decimal}]"#), r#""1""#, json!("1")),
        (
            &*format!(r#"{{"type": "array", "items": {decimal}}}"#),
            r#"["1", "\u0001"]"#,
            json!(["0.49", "0.01"]),
        ),
        (
            &*format!(r#"{{"type": "map", "values": {decimal}}}"#),
            r#"{"k": "1"}"#,
            json!({"k": "0.49"}),
        ),
        (&*inner, r#"{"d": "1"}"#, json!({"d": "0.49", "e": "0.50"})),
        (r#""bytes""#, r#""1\u00ff""#, json!("1\u{ff}")),
        (r#"{"type": "fixed", "name": "G", "size": 1}"#, r#""1""#, json!("1")),
    ] {
        let schema = avro(&format!(
            r#"{{"type": "record", "name": "R", "fields": [{{"name": "f", "type": {kind}, "default": {default}}}]}}"#
        ));
        let read = schema.decode(&encoded(&schema, &json!({}))).unwrap();
        assert_eq!(read, json!({ "f": value }), "{kind} {default}");
    }
    // What a device sends is read as ever.
    let schema = avro(&format!(
        r#"{{"type": "record", "name": "R", "fields": [{{"name": "f", "type": {decimal}, "default": "1"}}]}}"#
    ));
    assert_eq!(schema.decode(&encoded(&schema, &json!({"f": "1"}))).unwrap(), json!({"f": "1.00"}));
}

#[test]
fn days_and_times_of_all_years_that_have_four_digits() {
    let day = avro(r#"{"type": "int", "logicalType": "date"}"#);
    for (text, days) in [
        ("1969-12-31", -1),
        ("1970-01-01", 0),
        ("0001-01-01", -719_162),
        ("1582-10-15", -141_427),
        ("1600-02-29", -135_081),
        ("1900-03-01", -25_508),
        ("2000-02-29", 11_016),
        ("9999-12-31", 2_932_896),
    ] {
        assert_eq!(day.decode(&encoded(&day, &json!(text))).unwrap(), json!(days), "{text}");
    }
    for wrong in [
        "0000-01-01",
        "1900-02-29",
        "2026-13-01",
        "2026-00-01",
        "2026-04-31",
        "2026-01-00",
        "12026-01-01",
        "-001-01-01",
        "2026-1-01",
    ] {
        assert_eq!(
            refused(&day, &json!(wrong)),
            "is no day (YYYY-MM-DD, of the years 0001 to 9999)",
            "{wrong}"
        );
    }
    let moment = |parts: &str| avro(&format!(r#"{{"type": "long", "logicalType": "timestamp-{parts}"}}"#));
    let millis = moment("millis");
    for (text, since) in [
        ("1969-12-31T23:59:59.999Z", -1),
        ("1969-12-31T23:59:59.9995Z", -1),
        ("1969-07-20T20:17:40Z", -14_182_940_000_i64),
        ("0001-01-01T00:00:00Z", -62_135_596_800_000),
        ("9999-12-31T23:59:59.999999999999Z", 253_402_300_799_999),
        ("2016-12-31T23:59:60Z", 1_483_228_799_000),
        ("1970-01-01T00:00:00.5+00:00", 500),
    ] {
        assert_eq!(millis.decode(&encoded(&millis, &json!(text))).unwrap(), json!(since), "{text}");
    }
    for wrong in [
        "1970-01-01",
        "1970-01-01T24:00:00Z",
        "1970-01-01T00:60:00Z",
        "1970-01-01T00:00:61Z",
        "1970-01-01T00:00:00",
        "1970-01-01T00:00:00.Z",
        "1970-01-01T00:00:00.x5Z",
        "1970-01-01 00:00:00Z",
        "1970-01-01T00:00:00+01:00",
        "0000-12-31T00:00:00Z",
        "\u{e4}",
    ] {
        assert!(refused(&millis, &json!(wrong)).starts_with("is no time"), "{wrong}");
    }
    let nanos = moment("nanos");
    let earliest = json!("1677-09-21T00:12:43.145224192Z");
    assert_eq!(nanos.decode(&encoded(&nanos, &earliest)).unwrap(), json!(i64::MIN));
    assert_eq!(refused(&nanos, &json!("1677-09-21T00:12:43.145224191Z")), "is a time too far away");
}
