//! JSON that is to become the value of a record: its text, and what that says.

use std::collections::HashSet;
use std::fmt;
use std::ptr;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value, map::Entry, value::RawValue};

use super::misfit::Misfit;

/// Digits that a double holds, whatever they are.
const EXACT_DIGITS: usize = 15;

/// A text, and the value that it says.
#[derive(Debug)]
pub struct Json<'t> {
    text: &'t [u8],
    value: Value,
}

impl<'t> Json<'t> {
    /// Reads a text.
    ///
    /// # Errors
    /// It is no JSON (damaged), or an object in it has a member twice (a mismatch): of two, readers take the one or the other.
    pub fn read(text: &'t [u8]) -> Result<Self, Misfit> {
        match serde_json::from_slice::<Unique>(text) {
            Ok(Unique(value)) => Ok(Self { text, value }),
            Err(e) if e.is_data() => Err(Misfit::mismatch(e.to_string())),
            Err(e) => Err(Misfit::damaged(format!("is no JSON: {e}"))),
        }
    }

    /// As it came.
    pub(super) fn text(&self) -> &'t [u8] {
        self.text
    }

    /// What it says. Numbers that are no integers of 64 bits are doubles.
    pub(super) fn value(&self) -> &Value {
        &self.value
    }

    /// The doubles of the value that were written with more digits than a double is sure to hold, by where they lie in memory.
    pub(super) fn rounded(&self) -> HashSet<*const Value> {
        let mut found = HashSet::new();
        let mut runs = self.text.split(|byte| !matches!(byte, b'0'..=b'9' | b'.'));
        if runs.any(|run| run.len() > EXACT_DIGITS) {
            let written = Written {
                value: &self.value,
                found: &mut found,
            };
            let read = written.deserialize(&mut serde_json::Deserializer::from_slice(self.text));
            read.expect("it was read before");
        }
        found
    }
}

/// Any value, in which no object has a member twice.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue).map(Self)
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

    fn visit_bool<E: Error>(self, truth: bool) -> Result<Value, E> {
        Ok(truth.into())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        Ok(Number::from_f64(number).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Unique(item)) = items.next_element()? {
            all.push(item);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            match all.entry(name) {
                Entry::Vacant(place) => place.insert(members.next_value::<Unique>()?.0),
                Entry::Occupied(_) => return Err(A::Error::custom("has a member twice")),
            };
        }
        Ok(Value::Object(all))
    }
}

/// Walks through a text beside the value that was read from it, and looks how its doubles are written.
struct Written<'v> {
    value: &'v Value,
    found: &'v mut HashSet<*const Value>,
}

impl<'de> DeserializeSeed<'de> for Written<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.value {
            Value::Number(number) if number.is_f64() => {
                if significant_digits(<&RawValue>::deserialize(deserializer)?.get()) > EXACT_DIGITS {
                    self.found.insert(ptr::from_ref(self.value));
                }
                Ok(())
            }
            Value::Array(_) | Value::Object(_) => deserializer.deserialize_any(self),
            _ => IgnoredAny::deserialize(deserializer).map(|_| ()),
        }
    }
}

impl<'de> Visitor<'de> for Written<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what was read before")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        for value in self.value.as_array().into_iter().flatten() {
            let found = &mut *self.found;
            items.next_element_seed(Written { value, found })?;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key::<String>()? {
            let (value, found) = (&self.value[&name], &mut *self.found);
            members.next_value_seed(Written { value, found })?;
        }
        Ok(())
    }
}

/// The digits of a number from its first to its last that is not zero.
fn significant_digits(number: &str) -> usize {
    let mantissa = number.split(['e', 'E']).next().unwrap_or(number);
    let significant = mantissa.trim_start_matches(['-', '0', '.']).trim_end_matches(['0', '.']);
    significant.bytes().filter(u8::is_ascii_digit).count()
}
