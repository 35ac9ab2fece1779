//! Values from JSON and CBOR, and to both. What CBOR has beside JSON becomes the nearest that JSON has: byte strings become base64, tags are left out,
//! names of fields that are numbers, truth values or byte strings become text. Whole numbers from `i64::MIN` to `u64::MAX` are kept exactly, all others as doubles.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use super::fuel::{charge, charge_bytes};
use super::value::Value;

impl Value {
    /// Reads one JSON value; of fields with one name the last counts. Nothing is nested deeper than 128 levels.
    ///
    /// # Errors
    /// It is no JSON, with the place.
    pub fn from_json(json: &[u8]) -> Result<Value, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// Written as JSON without spaces.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("names are text and a String takes all")
    }

    /// Appends it as JSON without spaces.
    pub fn append_json(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(out, self).expect("names are text and a Vec takes all");
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        Ok(Value::int(number.into()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        Ok(Value::int(number.into()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::text(text))
    }

    fn visit_i128<E: Error>(self, number: i128) -> Result<Value, E> {
        Ok(Value::int(number))
    }

    fn visit_u128<E: Error>(self, number: u128) -> Result<Value, E> {
        Ok(i128::try_from(number).map_or(Value::Float(number as f64), Value::int))
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Value, E> {
        Ok(Value::from(STANDARD.encode(bytes)))
    }

    /// A tagged value of CBOR, as ciborium shows it.
    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Value, A::Error> {
        struct Tagged;
        impl<'de> Visitor<'de> for Tagged {
            type Value = Value;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a tag and a value")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
                let (_, value): (Option<u64>, Option<Value>) = (seq.next_element()?, seq.next_element()?);
                value.ok_or_else(|| A::Error::custom("a tag without a value"))
            }
        }
        let (_, tagged): (IgnoredAny, _) = tagged.variant()?;
        tagged.tuple_variant(2, Tagged)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        // An index of the right size at once: one that grows is built anew each time.
        let mut fields = Vec::new();
        while let Some((name, value)) = map.next_entry::<Name, Value>()? {
            fields.push((name.0, value));
        }
        Ok(Value::object(fields.into_iter().collect()))
    }
}

/// The name of a field. `serde` itself makes an `Arc<str>` only with a feature that is nobody else's here.
struct Name(Arc<str>);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyName;
        impl Visitor<'_> for AnyName {
            type Value = Name;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Name, E> {
                Ok(Name(text.into()))
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Name, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Name, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_f64<E: Error>(self, number: f64) -> Result<Name, E> {
                self.visit_str(&Value::Float(number).to_json())
            }
            fn visit_bool<E: Error>(self, value: bool) -> Result<Name, E> {
                self.visit_str(if value { "true" } else { "false" })
            }
            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Name, E> {
                self.visit_str(&STANDARD.encode(bytes))
            }
        }
        deserializer.deserialize_any(AnyName)
    }
}

impl Serialize for Value {
    /// Each value and text is counted, so what shares its parts with itself ends with the budget and not with the memory.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        charge(1);
        match self {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Int(number) => match (i64::try_from(*number), u64::try_from(*number)) {
                (Ok(number), _) => serializer.serialize_i64(number),
                (_, Ok(number)) => serializer.serialize_u64(number),
                _ => serializer.serialize_f64(*number as f64),
            },
            Value::Float(number) if !number.is_finite() => serializer.serialize_unit(),
            // Without a fraction, as jq writes it; up to where doubles hold each whole number.
            Value::Float(number) if number.fract() == 0.0 && number.abs() < 9e15 => serializer.serialize_i64(*number as i64),
            Value::Float(number) => serializer.serialize_f64(*number),
            Value::Text(text) => {
                charge_bytes(text.len());
                serializer.serialize_str(text)
            }
            Value::Array(array) => {
                let mut seq = serializer.serialize_seq(Some(array.items.len()))?;
                array.items.iter().try_for_each(|item| seq.serialize_element(item))?;
                seq.end()
            }
            Value::Object(object) => {
                let mut map = serializer.serialize_map(Some(object.fields.len()))?;
                for (name, value) in &object.fields {
                    charge_bytes(name.len());
                    map.serialize_entry(&**name, value)?;
                }
                map.end()
            }
            Value::Envelope(envelope) => envelope.value.serialize(serializer),
        }
    }
}
