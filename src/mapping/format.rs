//! Formats of payloads and record values: bytes to a value and back. What is not looked into is never read.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::jq::{Trouble, Value};

/// How a payload, or the value of a record, is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Format {
    /// JSON (RFC 8259), UTF-8.
    #[default]
    Json,
    /// UTF-8 text, a string for programs.
    Text,
    /// Any bytes; for programs a string in base64 (RFC 4648, with padding).
    Bytes,
    /// CBOR (RFC 8949), of at most 128 levels.
    Cbor,
}

/// Levels of CBOR, as many as of JSON.
const MOST_LEVELS: usize = 128;

impl Format {
    /// As it is written in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Text => "text",
            Format::Bytes => "bytes",
            Format::Cbor => "cbor",
        }
    }

    /// Reads a payload.
    pub(super) fn decode(self, payload: &[u8]) -> Result<Value, Trouble> {
        match self {
            Format::Json => Value::from_json(payload).map_err(|_| Trouble::Unreadable(self.as_str())),
            Format::Text => match std::str::from_utf8(payload) {
                Ok(text) => Ok(Value::text(text)),
                Err(_) => Err(Trouble::Unreadable(self.as_str())),
            },
            Format::Bytes => Ok(Value::from(STANDARD.encode(payload))),
            Format::Cbor => {
                let mut left = payload;
                match ciborium::de::from_reader_with_recursion_limit(&mut left, MOST_LEVELS) {
                    Ok(value) if left.is_empty() => Ok(value),
                    _ => Err(Trouble::Unreadable(self.as_str())),
                }
            }
        }
    }

    /// Appends a value.
    pub(super) fn encode(self, value: &Value, out: &mut Vec<u8>) -> Result<(), Trouble> {
        let unwritable = |what: &str| Trouble::Unwritable(format!("a {} is no {what}", value.kind()));
        match self {
            Format::Json => value.append_json(out),
            Format::Text => out.extend_from_slice(value.as_text().ok_or_else(|| unwritable("text"))?.as_bytes()),
            Format::Bytes => {
                let text = value.as_text().ok_or_else(|| unwritable("string in base64"))?;
                let decoded = STANDARD.decode_vec(text, out);
                decoded.map_err(|_| Trouble::Unwritable("a string is not base64".to_owned()))?;
            }
            Format::Cbor => ciborium::into_writer(value, out).map_err(|_| unwritable("CBOR"))?,
        }
        Ok(())
    }
}
