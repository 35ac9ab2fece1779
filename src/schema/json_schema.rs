//! JSON Schema: the value is JSON on both sides, and valid.

use std::fmt;

use jsonschema::{PatternOptions, Registry, Validator};
use serde_json::Value;

use super::{addresses, chains, json::Json, misfit::Misfit, stack::on_large_stack, text::SchemaText, unfolded};

/// Bytes that a pattern may compile to.
const LARGEST_PATTERN: usize = 1 << 20;
/// Parts of the schema times the weight of a value, up to which the reason is looked for why that is not valid.
const MOST_EXPLAINED: usize = 1 << 20;
/// What a value weighs beside its text.
const WEIGHT: usize = 8;

/// Links of the chains of a schema that the stack of any thread of ours suffices for, with the deepest value.
const SHORT_CHAIN: usize = 8;

/// A compiled JSON Schema.
pub struct JsonSchema {
    validator: Validator,
    /// Its chains are too long for the stack that one is called on.
    is_deep: bool,
    /// With its references unfolded, if those have an end.
    parts: Option<usize>,
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
        let referred = text.references.iter().map(|(name, text)| {
            let referred = parse(text).map_err(|why| format!("its reference `{name}` {why}"))?;
            Ok((name.as_str(), referred))
        });
        let referred = referred.collect::<Result<Vec<_>, String>>()?;
        let addresses = addresses::addresses(&schema, &referred)?;
        let references = referred.iter().map(|(name, referred)| (*name, referred)).collect();
        let chain = chains::longest(&schema, &references);
        let chain = chain.ok_or_else(|| {
            let most = chains::LONGEST;
            format!("has more than {most} parts that lead to each other without going deeper into the value")
        })?;
        // Under another address one may refer to what is nowhere; the first are the registry's names.
        let registry = registry(&addresses, &referred).or_else(|_| registry(&addresses[..referred.len()], &referred))?;
        let options = jsonschema::options()
            .with_registry(&registry)
            .with_base_uri(addresses::BASE)
            .offline()
            // In linear time: payloads are strangers'.
            .with_pattern_options(PatternOptions::regex().size_limit(LARGEST_PATTERN).dfa_size_limit(LARGEST_PATTERN));
        let validator = options.build(&schema).map_err(|e| format!("is no schema that can be used: {e}"))?;
        let parts = unfolded::parts(&schema, &references);
        let is_deep = chain > SHORT_CHAIN;
        Ok(Self { validator, is_deep, parts })
    }

    /// Whether a value is valid.
    pub(super) fn check(&self, value: &Value) -> Result<(), Misfit> {
        match self.is_deep {
            false => self.check_here(value),
            true => {
                on_large_stack(|| self.check_here(value)).unwrap_or_else(|e| Err(Misfit::too_much(format!("no thread to check it: {e}"))))
            }
        }
    }

    fn check_here(&self, value: &Value) -> Result<(), Misfit> {
        // Which remembers what it knows of a part already; `validate` would look at a part anew for each way to it.
        match self.validator.is_valid(value) {
            true => Ok(()),
            false => Err(self.explained(value)),
        }
    }

    fn explained(&self, value: &Value) -> Misfit {
        let bounded = self.parts.is_some_and(|parts| {
            let most = MOST_EXPLAINED / parts;
            weight(value, most) <= most
        });
        match bounded.then(|| self.validator.validate(value)) {
            Some(Err(error)) => {
                // Without the value, which may be long or nobody's business.
                let mut misfit = Misfit::mismatch(error.masked().to_string());
                misfit.at = error.instance_path().to_string();
                misfit
            }
            _ => Misfit::mismatch(
                "is not valid by the JSON Schema; where is not looked for, since the value is large or the schema recursive",
            ),
        }
    }

    pub(super) fn encode(&self, json: &Json<'_>, out: &mut Vec<u8>) -> Result<(), Misfit> {
        self.check(json.value())?;
        // As it came: written anew, numbers would have the digits of doubles.
        out.extend_from_slice(json.text());
        Ok(())
    }
}

/// Those that are referred to, under these addresses.
fn registry<'a>(addresses: &[(String, usize)], referred: &'a [(&str, Value)]) -> Result<Registry<'a>, String> {
    let mut registry = Registry::new();
    for (address, at) in addresses {
        let (name, referred) = &referred[*at];
        registry = registry
            .add(address, referred)
            .map_err(|e| format!("its reference `{name}` cannot be used: {e}"))?;
    }
    registry.prepare().map_err(|e| format!("cannot be resolved: {e}"))
}

/// What a value takes, in bytes or so; not further than `most`.
fn weight(value: &Value, most: usize) -> usize {
    let parts = |parts: &mut dyn Iterator<Item = (usize, &Value)>| {
        let mut sum = WEIGHT;
        while sum <= most
            && let Some((name, part)) = parts.next()
        {
            sum += name + weight(part, most - sum);
        }
        sum
    };
    match value {
        Value::String(text) => WEIGHT + text.len(),
        Value::Array(items) => parts(&mut items.iter().map(|item| (0, item))),
        Value::Object(entries) => parts(&mut entries.iter().map(|(name, entry)| (name.len(), entry))),
        _ => WEIGHT,
    }
}
