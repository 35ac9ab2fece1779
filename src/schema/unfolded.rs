//! How many parts a JSON Schema has where each `$ref` stands for what it leads to.
//!
//! That, times the size of a value, bounds what it takes to say why the value is not valid: the validator gathers the errors of all branches
//! of `anyOf` and `oneOf`, which in a schema that leads back to itself double with each level of the value.

use std::collections::HashMap;

use serde_json::Value;

/// Parts up to which they are counted.
const MOST: usize = 10_000;

/// The parts; `None`: more than 10,000, without end, or not to be told.
pub(super) fn parts(schema: &Value, references: &HashMap<&str, &Value>) -> Option<usize> {
    let mut count = 1;
    // With the document in which each lies.
    let mut left = vec![(schema, schema)];
    while let Some((part, document)) = left.pop() {
        let start = left.len();
        match part {
            Value::Array(items) => left.extend(items.iter().take(MOST).map(|item| (item, document))),
            Value::Object(entries) => {
                let is_text = |key: &str| entries.get(key).is_some_and(Value::is_string);
                let renamed = is_text("$id") || is_text("id");
                // References are resolved against another place below such a name, or at the time of validation.
                if (renamed && !std::ptr::eq(part, document)) || is_text("$dynamicRef") || is_text("$recursiveRef") {
                    return None;
                }
                left.extend(entries.values().take(MOST).map(|entry| (entry, document)));
                if let Some(Value::String(target)) = entries.get("$ref") {
                    left.push(led_to(target, document, references)?);
                }
            }
            _ => {}
        }
        count += left.len() - start;
        if count > MOST {
            return None;
        }
    }
    Some(count)
}

fn led_to<'a>(target: &str, document: &'a Value, references: &HashMap<&str, &'a Value>) -> Option<(&'a Value, &'a Value)> {
    let (name, pointer) = target.split_once('#').unwrap_or((target, ""));
    let document = match name {
        "" => document,
        name => references.get(name)?,
    };
    Some((document.pointer(pointer)?, document))
}
