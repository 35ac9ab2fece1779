//! A schema of any format, ready for values.

use std::fmt;

use serde_json::Value;

use super::{
    DEEPEST, LARGEST, MOST_VALUES, avro::Avro, json::Json, json_schema::JsonSchema, misfit::Misfit, protobuf::Protobuf, text::SchemaText,
};

/// The language of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Apache Avro.
    Avro,
    /// JSON Schema, any draft.
    JsonSchema,
    /// Protocol Buffers.
    Protobuf,
}

impl Format {
    /// As registries call it.
    pub fn registry_name(self) -> &'static str {
        match self {
            Self::Avro => "AVRO",
            Self::JsonSchema => "JSON",
            Self::Protobuf => "PROTOBUF",
        }
    }
}

impl fmt::Display for Format {
    /// As it is written in the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Avro => "avro",
            Self::JsonSchema => "json_schema",
            Self::Protobuf => "protobuf",
        })
    }
}

/// A compiled schema.
#[derive(Debug)]
pub enum Schema {
    /// Apache Avro.
    Avro(Box<Avro>),
    /// JSON Schema.
    JsonSchema(Box<JsonSchema>),
    /// Protocol Buffers.
    Protobuf(Box<Protobuf>),
}

impl Schema {
    /// Compiles a schema. `message`: the full name of the message that is written, of a Protobuf schema; the first if none is named.
    ///
    /// # Errors
    /// What is wrong with it, in words for an operator.
    pub fn compile(format: Format, text: &SchemaText, message: Option<&str>) -> Result<Self, String> {
        text.check_size()?;
        match format {
            Format::Avro => Avro::compile(text).map(Box::new).map(Self::Avro),
            Format::JsonSchema => JsonSchema::compile(text).map(Box::new).map(Self::JsonSchema),
            Format::Protobuf => Protobuf::compile(text, message).map(Box::new).map(Self::Protobuf),
        }
    }

    /// Its language.
    pub fn format(&self) -> Format {
        match self {
            Self::Avro(_) => Format::Avro,
            Self::JsonSchema(_) => Format::JsonSchema,
            Self::Protobuf(_) => Format::Protobuf,
        }
    }

    /// Appends a value as it stands behind the schema's id.
    ///
    /// # Errors
    /// The schema does not allow it. `out` may hold a part of it then.
    pub fn encode(&self, json: &Json<'_>, out: &mut Vec<u8>) -> Result<(), Misfit> {
        bound(json.value(), 0, &mut { MOST_VALUES })?;
        match self {
            Self::Avro(avro) => avro.encode(json, out),
            Self::JsonSchema(schema) => schema.encode(json, out),
            Self::Protobuf(protobuf) => protobuf.encode(json.value(), out),
        }
    }

    /// The value of what stands behind the schema's id.
    ///
    /// # Errors
    /// It is none of this schema.
    pub fn decode(&self, bytes: &[u8]) -> Result<Value, Misfit> {
        if bytes.len() > LARGEST {
            return Err(Misfit::too_much(format!("has {} bytes, more than {LARGEST}", bytes.len())));
        }
        match self {
            Self::Avro(avro) => avro.decode(bytes),
            Self::JsonSchema(schema) => {
                let value = serde_json::from_slice(bytes).map_err(|e| Misfit::damaged(format!("is no JSON: {e}")))?;
                bound(&value, 0, &mut { MOST_VALUES })?;
                schema.check(&value)?;
                Ok(value)
            }
            Self::Protobuf(protobuf) => {
                let value = protobuf.decode(bytes)?;
                bound(&value, 0, &mut { MOST_VALUES })?;
                Ok(value)
            }
        }
    }

    /// Appends the JSON of what stands behind the schema's id. That of a JSON Schema is as it stands there.
    ///
    /// # Errors
    /// It is no value of this schema. `out` is as it was.
    pub fn decode_text(&self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Misfit> {
        let value = self.decode(bytes)?;
        match self {
            Self::JsonSchema(_) => out.extend_from_slice(bytes),
            Self::Avro(_) | Self::Protobuf(_) => serde_json::to_writer(out, &value).expect("a Vec takes all, and keys are texts"),
        }
        Ok(())
    }
}

/// Whether a value is small enough to be walked by others.
fn bound(value: &Value, depth: usize, left: &mut usize) -> Result<(), Misfit> {
    *left = left.checked_sub(1).ok_or_else(|| Misfit::too_much("has too many values"))?;
    if depth > DEEPEST {
        return Err(Misfit::too_much(format!("lies more than {DEEPEST} deep")));
    }
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| bound(item, depth + 1, left)),
        Value::Object(entries) => entries.values().try_for_each(|entry| bound(entry, depth + 1, left)),
        _ => Ok(()),
    }
}
