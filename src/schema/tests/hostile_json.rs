//! Values that are made to cost much where a JSON Schema is compiled.

use std::time::{Duration, Instant};

use serde_json::json;

use super::*;

/// Far more than any of them takes, and less than what they are made for.
const SOON: Duration = Duration::from_secs(10);

/// A value that lies so deep in members of that name.
fn nested(name: &str, depth: usize, innermost: Value) -> Value {
    (0..depth).fold(innermost, |inner, _| json!({ (name): inner }))
}

#[test]
fn json_schemas_that_lead_back_to_themselves_take_no_time_that_doubles_with_each_level() {
    let two_ways = r##"{"$defs": {"n": {"anyOf": [
        {"type": "object", "properties": {"not": {"$ref": "#/$defs/n"}, "kind": {}}, "required": ["not", "kind"]},
        {"type": "object", "properties": {"not": {"$ref": "#/$defs/n"}, "of": {}}, "required": ["not", "of"]},
        {"type": "number"}]}}, "$ref": "#/$defs/n"}"##;
    let one_of = &two_ways.replace("anyOf", "oneOf");
    let both =
        r##"{"allOf": [{"properties": {"not": {"$ref": "#"}}}, {"properties": {"not": {"$ref": "#"}}}], "type": ["object", "number"]}"##;
    let dynamic = &both.replace("$ref", "$dynamicRef");
    let unevaluated = r##"{"anyOf": [{"properties": {"not": {"$ref": "#"}}}, {"patternProperties": {"^n": {"$ref": "#"}}}],
        "unevaluatedProperties": {"$ref": "#"}, "type": ["object", "number"]}"##;
    for schema in [two_ways, one_of, both, dynamic, unevaluated] {
        let compiled = compile(Format::JsonSchema, schema);
        for depth in [16, 40, 60] {
            let began = Instant::now();
            let told = refused(&compiled, &nested("not", depth, json!("bad")));
            assert!(told.contains("not valid by the JSON Schema"), "{told}");
            let _ = encode(&compiled, &nested("not", depth, json!(1)), &mut Vec::new());
            assert!(began.elapsed() < SOON, "{schema}: {:?}", began.elapsed());
        }
    }
}

#[test]
fn errors_of_a_large_value_are_not_gathered() {
    let schema = compile(
        Format::JsonSchema,
        r#"{"anyOf": [{"items": {"type": "string"}}, {"items": {"type": "boolean"}}]}"#,
    );
    let told = |items: usize| refused(&schema, &json!(vec![7; items]));
    assert!(told(10).contains("anyOf"));
    assert!(told(200_000).contains("not looked for"));
}

#[test]
fn what_a_schema_that_refers_to_others_says_is_told() {
    // Each twice as much as the next: 2^30 parts.
    let chain: Vec<_> = (0..30)
        .map(|at| {
            format!(
                r##""d{at}": {{"properties": {{"a": {{"$ref": "#/$defs/d{0}"}}, "b": {{"$ref": "#/$defs/d{0}"}}}}}}"##,
                at + 1
            )
        })
        .collect();
    let text = format!(
        r##"{{"$ref": "#/$defs/d0", "$defs": {{{}, "d30": {{"type": "number"}}}}}}"##,
        chain.join(",")
    );
    let schema = compile(Format::JsonSchema, &text);
    assert!(refused(&schema, &nested("a", 30, json!("x"))).contains("not looked for"));
    let shallow = compile(
        Format::JsonSchema,
        r##"{"properties": {"a": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "number"}}}"##,
    );
    assert!(refused(&shallow, &json!({"a": "x"})).starts_with("/a: "));
}

/// So many parts of which each leads to the next without going deeper, and the last by `n` to the first.
fn chain(links: usize) -> String {
    let part = |at: usize| format!(r##""a{at}":{{"minLength":0,"allOf":[{{"$ref":"#/$defs/a{}"}}]}},"##, at + 1);
    let parts: String = (0..links).map(part).collect();
    let last = r##"{"type":["object","number"],"properties":{"n":{"$ref":"#"}}}"##;
    format!(r##"{{"$ref":"#/$defs/a0","$defs":{{{parts}"a{links}":{last}}}}}"##)
}

/// The stack of whoever checks a value has an end, and a program that comes to it is aborted.
#[test]
fn parts_that_lead_to_each_other_have_an_end() {
    let refused = |text: &str| Schema::compile(Format::JsonSchema, &SchemaText::alone(text), None).unwrap_err();
    let told = "has more than 200 parts that lead to each other without going deeper into the value";
    for endless in [
        &*chain(12_000),
        &chain(100),
        r##"{"allOf": [{"$ref": "#"}]}"##,
        r##"{"$ref": "#/$defs/a", "$defs": {"a": {"not": {"$ref": "#/$defs/b"}}, "b": {"if": {"$ref": "#/$defs/a"}}}}"##,
        r##"{"$ref": "#a", "$defs": {"a": {"$anchor": "a", "anyOf": [{"$ref": "#b"}]}, "b": {"$anchor": "b", "oneOf": [{"$ref": "#a"}]}}}"##,
        r##"{"$ref": "a", "$defs": {"a": {"$id": "a", "allOf": [{"$ref": "b"}]}, "b": {"$id": "b", "allOf": [{"$ref": "/a"}]}}}"##,
    ] {
        assert_eq!(refused(endless), told, "{}", &endless[..endless.len().min(200)]);
    }
    // A link to the part that refers, and one for the reference: 2, 8 and 198, with that of the root.
    for links in [0, 3, 4, 98] {
        let schema = compile(Format::JsonSchema, &chain(links));
        assert_eq!(encoded(&schema, &nested("n", DEEPEST, json!(7))).last(), Some(&b'}'), "{links}");
        let refused = encode(&schema, &nested("n", DEEPEST, json!("bad")), &mut Vec::new());
        assert_eq!(refused.unwrap_err().why, Why::Mismatch, "{links}");
    }
}
