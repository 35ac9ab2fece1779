//! JSON Schema: the value is JSON on both sides, and valid.

use std::fmt;

use jsonschema::{PatternOptions, Registry, Validator};
use serde_json::Value;

use super::{misfit::Misfit, text::SchemaText};

/// Where the schema itself is, for references that are relative. The registry's names stand beside it.
const BASE: &str = "registry:///schema";
/// Bytes that a pattern may compile to.
const LARGEST_PATTERN: usize = 1 << 20;

/// A compiled JSON Schema.
pub struct JsonSchema {
    validator: Validator,
}

impl fmt::Debug for JsonSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JsonSchema")
    }
}

impl JsonSchema {
    pub(super) fn compile(text: &SchemaText) -> Result<Self, String> {
        let parse = |text: &str| serde_json::from_str::<Value>(text).map_err(|e| format!("is no JSON: {e}"));
        let schema = parse(&text.text)?;
        let mut registry = Registry::new();
        for (name, referred) in &text.references {
            // As a name beside the schema, which is what `$ref` is resolved against.
            let uri = if name.contains("://") {
                name.clone()
            } else {
                format!("registry:///{}", name.trim_start_matches('/'))
            };
            let value = parse(referred).map_err(|why| format!("its reference `{name}` {why}"))?;
            registry = registry
                .add(uri, value)
                .map_err(|e| format!("its reference `{name}` cannot be used: {e}"))?;
        }
        let registry = registry.prepare().map_err(|e| format!("cannot be resolved: {e}"))?;
        let options = jsonschema::options()
            .with_registry(&registry)
            .with_base_uri(BASE)
            .offline()
            // In linear time: payloads are strangers'.
            .with_pattern_options(PatternOptions::regex().size_limit(LARGEST_PATTERN).dfa_size_limit(LARGEST_PATTERN));
        let validator = options.build(&schema).map_err(|e| format!("is no schema that can be used: {e}"))?;
        Ok(Self { validator })
    }

    /// Whether a value is valid.
    pub(super) fn check(&self, value: &Value) -> Result<(), Misfit> {
        let Err(error) = self.validator.validate(value) else {
            return Ok(());
        };
        // Without the value, which may be long or nobody's business.
        let mut misfit = Misfit::mismatch(error.masked().to_string());
        misfit.at = error.instance_path().to_string();
        Err(misfit)
    }

    pub(super) fn encode(&self, value: &Value, out: &mut Vec<u8>) -> Result<(), Misfit> {
        self.check(value)?;
        serde_json::to_writer(out, value).map_err(|e| Misfit::mismatch(e.to_string()))
    }
}
