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

/// As Confluent's clients resolve names: against the `$id` of the schema.
#[test]
fn references_are_found_from_wherever_a_schema_says_that_it_is() {
    let all = |id: &str| format!(r#"{{{id}"type": "object", "properties": {{"of": {{"$ref": "customer.json"}}}}}}"#);
    let customer =
        |id: &str| format!(r#"{{{id}"type": "object", "properties": {{"at": {{"$ref": "parts/address.json#/$defs/street"}}}}}}"#);
    let address = r##"{"$defs": {"street": {"$ref": "name.json"}}}"##;
    let name = r#"{"type": "string", "maxLength": 5}"#;
    for (root, inner) in [
        ("", ""),
        (r#""$id": "http://example.com/schemas/all.json","#, ""),
        (r#""$id": "all.json","#, ""),
        (
            r#""$schema": "http://json-schema.org/draft-04/schema#", "id": "http://example.com/all.json","#,
            "",
        ),
        ("", r#""$id": "http://example.com/other/customer.json","#),
        (
            r#""$id": "http://example.com/all.json","#,
            r#""$id": "http://example.com/customer.json","#,
        ),
        (
            r#""$id": "http://example.com/all.json","#,
            r#""$id": "http://other.example/of/customer.json","#,
        ),
    ] {
        let references = [
            ("parts/name.json", name.to_owned()),
            ("parts/address.json", address.to_owned()),
            ("customer.json", customer(inner)),
        ];
        let text = SchemaText {
            text: all(root),
            references: Vec::from(references.map(|(name, text)| (name.to_owned(), text))),
        };
        let schema = Schema::compile(Format::JsonSchema, &text, None).unwrap_or_else(|why| panic!("{root} {inner} {why}"));
        encoded(&schema, &json!({"of": {"at": "short"}}));
        refused(&schema, &json!({"of": {"at": "longer"}}));
    }
}

/// From where the first says that it is, the second would look for the third in vain; from its own place it does not.
#[test]
fn an_address_that_leads_nowhere_hurts_nobody() {
    let reference = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let text = SchemaText {
        text: r#"{"items": {"$ref": "second.json"}}"#.to_owned(),
        references: vec![
            reference("first.json", r#"{"$id": "http://example.com/deep/first.json"}"#),
            reference("third.json", r#"{"type": "integer"}"#),
            reference("second.json", r#"{"$ref": "/third.json"}"#),
        ],
    };
    let schema = Schema::compile(Format::JsonSchema, &text, None).unwrap();
    encoded(&schema, &json!([1]));
    refused(&schema, &json!(["one"]));
}

/// Each says that it is in a place of its own, and would be looked through again for each of the others.
#[test]
fn addresses_of_references_have_an_end() {
    let of = |count: usize| SchemaText {
        text: r#"{"$ref": "0/a.json"}"#.to_owned(),
        references: (0..count)
            .map(|at| (format!("{at}/a.json"), format!(r#"{{"$id": "http://example.com/{at}/a.json"}}"#)))
            .collect(),
    };
    assert!(Schema::compile(Format::JsonSchema, &of(30), None).is_ok());
    let told = Schema::compile(Format::JsonSchema, &of(100), None).unwrap_err();
    assert!(told.contains("more than 1000"), "{told}");
}

/// What is valid goes along byte for byte: a double would have made another number of these.
#[test]
fn json_is_stored_and_delivered_as_it_came() {
    let schema = compile(Format::JsonSchema, r#"{"type": "object", "properties": {"n": {"type": "number"}}}"#);
    for text in [
        r#"{"n":12345678901234567890123}"#,
        r#"{"n": 12345678901234567.89}"#,
        r#"{"n":1e2,"a":"\u00e4"}"#,
        " { \"z\" : 1,\n\"n\" : 0.10 }\r\n",
    ] {
        let mut stored = Vec::new();
        schema.encode(&Json::read(text.as_bytes()).unwrap(), &mut stored).unwrap();
        assert_eq!(stored, text.as_bytes());
        let mut delivered = Vec::new();
        schema.decode_text(&stored, &mut delivered).unwrap();
        assert_eq!(delivered, text.as_bytes());
    }
}

/// Another reader may take the other one, which nobody looked at.
#[test]
fn a_member_that_is_there_twice_is_refused() {
    for text in [r#"{"a": 1, "a": "x"}"#, r#"[{"b": {"a": 1, "c": 2, "\u0061": 1}}]"#] {
        let misfit = Json::read(text.as_bytes()).unwrap_err();
        assert_eq!(misfit.why, Why::Mismatch);
        assert!(misfit.what.contains("member twice"), "{misfit}");
    }
    for damaged in ["", "{", "\u{feff}{}", "{} {}", "nul", r#"{"a": "\ud800"}"#] {
        assert_eq!(Json::read(damaged.as_bytes()).unwrap_err().why, Why::Damaged, "{damaged}");
    }
    assert_eq!(
        *Json::read(br#"{"a": {"a": [1, -2, 0.5, "a", true, null]}}"#).unwrap().value(),
        json!({"a": {"a": [1, -2, 0.5, "a", true, null]}})
    );
}
