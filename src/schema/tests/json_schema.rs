//! JSON Schema.

use serde_json::json;

use super::*;

const READING: &str = r##"{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "additionalProperties": false,
    "required": ["site"], "properties": {"site": {"type": "string", "pattern": "^[a-z]+$"}, "at": {"$ref": "place.json#/definitions/at"}}}"##;
const PLACE: &str = r#"{"definitions": {"at": {"type": "array", "maxItems": 2}}}"#;

fn schema() -> Schema {
    let text = SchemaText {
        text: READING.to_owned(),
        references: vec![("place.json".to_owned(), PLACE.to_owned())],
    };
    Schema::compile(Format::JsonSchema, &text, None).unwrap()
}

#[test]
fn what_is_valid_goes_both_ways() {
    let value = json!({"site": "berlin", "at": [1, 2]});
    let bytes = encoded(&schema(), &value);
    assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), value);
    assert_eq!(schema().decode(br#"{"site": "berlin", "at": [1, 2]}"#).unwrap(), value);
}

#[test]
fn what_is_not_is_told_without_the_value() {
    for (value, at) in [
        (json!({}), ""),
        (json!({"site": "Berlin"}), "/site"),
        (json!({"site": "b", "at": [1, 2, 3]}), "/at"),
        (json!({"site": "b", "secret": 1}), ""),
    ] {
        let told = refused(&schema(), &value);
        assert!(told.starts_with(at) && !told.contains("Berlin"), "{told}");
    }
    let misfit = schema().decode(br#"{"site": 1}"#).unwrap_err();
    assert_eq!((misfit.why, misfit.at.as_str()), (Why::Mismatch, "/site"));
    assert_eq!(schema().decode(b"{").unwrap_err().why, Why::Damaged);
}

#[test]
fn a_schema_asks_nobody_but_the_registry() {
    let compile = |text: &str| Schema::compile(Format::JsonSchema, &SchemaText::alone(text), None);
    for missing in [
        r#"{"$ref": "other.json"}"#,
        r#"{"$ref": "http://127.0.0.1:9/a.json"}"#,
        r#"{"$ref": "file:///etc/hostname"}"#,
    ] {
        assert!(compile(missing).is_err(), "{missing}");
    }
    assert!(compile(r#"{"type": 7}"#).is_err());
    // Look-around takes more than linear time.
    assert!(compile(r#"{"pattern": "(?=a)b"}"#).is_err());
}

#[test]
fn a_schema_that_refers_to_itself_ends() {
    let compile = |text: &str| Schema::compile(Format::JsonSchema, &SchemaText::alone(text), None);
    if let Ok(schema) = compile(r##"{"$ref": "#"}"##) {
        assert_eq!(encoded(&schema, &json!(1)), b"1");
    }
    let tree = compile(r##"{"type": "array", "items": {"$ref": "#"}}"##).unwrap();
    assert_eq!(encoded(&tree, &json!([[[]], []])), b"[[[]],[]]");
    refused(&tree, &json!([[1]]));
}
