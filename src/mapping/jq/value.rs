//! The values of programs: JSON's, immutable and cheap to clone. Each is counted where it is made or walked, and none is nested deeper
//! than the stack can bear when it is compared, written or dropped.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use indexmap::IndexMap;

use super::fuel::{CutOff, charge, charge_bytes, charge_values, end};

/// Arrays, objects and records within each other. JSON of payloads is read up to 128.
const MOST_LEVELS: u16 = 200;

/// Fields in the order in which they were written.
pub type Fields = IndexMap<Arc<str>, Value>;

/// A JSON value.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// `null`
    #[default]
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A whole number that JSON readers hold exactly: from `i64::MIN` to `u64::MAX`. Made by [`Value::int`].
    Int(i128),
    /// Any other number; written as `null` if it is none or infinite.
    Float(f64),
    /// Text.
    Text(Arc<str>),
    /// An array.
    Array(Arc<Array>),
    /// An object.
    Object(Arc<Object>),
    /// What `record` makes of a value: no program can look into it, and no payload can hold one.
    Envelope(Arc<Envelope>),
}

/// A value, and what its record or message has beside it.
#[derive(Clone, Debug)]
pub struct Envelope {
    pub(super) value: Value,
    pub(super) with: Fields,
    levels: u16,
}

/// Items, and how deeply they are nested.
#[derive(Clone, Debug, Default)]
pub struct Array {
    pub(super) items: Vec<Value>,
    levels: u16,
}

/// Fields, and how deeply they are nested.
#[derive(Clone, Debug, Default)]
pub struct Object {
    pub(super) fields: Fields,
    levels: u16,
}

impl Object {
    /// Its fields, in order.
    pub fn names_and_values(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.fields.iter().map(|(name, value)| (&**name, value))
    }
}

impl Value {
    /// A whole number, or the nearest other one if it is too large.
    pub fn int(number: i128) -> Value {
        if (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&number) {
            Value::Int(number)
        } else {
            Value::Float(number as f64)
        }
    }

    /// Text.
    pub fn text(text: &str) -> Value {
        charge_bytes(text.len());
        Value::Text(text.into())
    }

    /// An array of these items.
    pub fn array(items: Vec<Value>) -> Value {
        charge_values(items.len());
        let levels = one_more(items.iter());
        Value::Array(Arc::new(Array { items, levels }))
    }

    /// An object of these fields.
    pub fn object(fields: Fields) -> Value {
        // A field takes some 100 bytes, with its place in the index, and an object as much beside them.
        charge_values(3 + 2 * fields.len());
        let levels = one_more(fields.values());
        Value::Object(Arc::new(Object { fields, levels }))
    }

    /// A value with what its record or message has beside it: a level as arrays and objects are.
    pub(super) fn envelope(value: Value, with: Fields) -> Value {
        charge_values(with.len());
        let levels = one_more(std::iter::once(&value).chain(with.values()));
        Value::Envelope(Arc::new(Envelope { value, with, levels }))
    }

    /// The items of an array.
    pub fn items(&self) -> Option<&[Value]> {
        match self {
            Value::Array(array) => Some(&array.items),
            _ => None,
        }
    }

    /// The fields of an object.
    pub fn fields(&self) -> Option<&Fields> {
        match self {
            Value::Object(object) => Some(&object.fields),
            _ => None,
        }
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, rounded to what a double holds.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Value::Int(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            _ => None,
        }
    }

    /// The whole number at or below this one, if it is a number and not beyond all.
    pub(super) fn floor(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some((*number).clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64),
            Value::Float(number) if number.is_finite() => Some(number.floor() as i64),
            _ => None,
        }
    }

    /// Bytes of memory behind it, as far as they can be told: parts that it shares with other values count as its own.
    pub(in crate::mapping) fn held(&self) -> usize {
        match self {
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => 0,
            Value::Text(text) => COUNTS + text.len(),
            Value::Array(array) => {
                let items = array.items.iter().map(Value::held).sum::<usize>();
                COUNTS + size_of::<Array>() + array.items.capacity() * size_of::<Value>() + items
            }
            Value::Object(object) => COUNTS + size_of::<Object>() + fields_held(&object.fields),
            Value::Envelope(envelope) => COUNTS + size_of::<Envelope>() + envelope.value.held() + fields_held(&envelope.with),
        }
    }

    fn levels(&self) -> u16 {
        match self {
            Value::Array(array) => array.levels,
            Value::Object(object) => object.levels,
            Value::Envelope(envelope) => envelope.levels,
            _ => 0,
        }
    }

    /// The order of kinds.
    fn rank(&self) -> u8 {
        match self {
            Value::Null => 0,
            Value::Bool(false) => 1,
            Value::Bool(true) => 2,
            Value::Int(_) | Value::Float(_) => 3,
            Value::Text(_) => 4,
            Value::Array(_) => 5,
            Value::Object(_) => 6,
            Value::Envelope(_) => 7,
        }
    }
}

/// Bytes of an `Arc` beside what it holds.
const COUNTS: usize = 16;

fn fields_held(fields: &Fields) -> usize {
    /// A field with its hash, and its place in the index, which is seven eighths full at most.
    const FIELD: usize = size_of::<(u64, Arc<str>, Value)>() + (size_of::<usize>() + 1) * 8 / 7;
    let each = fields.iter().map(|(name, value)| COUNTS + name.len() + value.held());
    fields.capacity() * FIELD + each.sum::<usize>()
}

/// The levels of what holds these.
fn one_more<'a>(within: impl Iterator<Item = &'a Value>) -> u16 {
    let levels = 1 + within.map(Value::levels).max().unwrap_or(0);
    if levels > MOST_LEVELS {
        end(CutOff::TooDeep);
    }
    levels
}

/// The items of an array that is about to become another one.
pub(super) fn take_items(array: Arc<Array>) -> Vec<Value> {
    Arc::try_unwrap(array).map_or_else(
        |shared| {
            charge_values(shared.items.len());
            shared.items.clone()
        },
        |own| own.items,
    )
}

/// The fields of an object that is about to become another one.
pub(super) fn take_fields(object: Arc<Object>) -> Fields {
    Arc::try_unwrap(object).map_or_else(
        |shared| {
            charge_values(2 * shared.fields.len());
            shared.fields.clone()
        },
        |own| own.fields,
    )
}

impl Ord for Value {
    /// jq's order: null, false, true, numbers, texts, arrays, objects. Objects by their names first.
    fn cmp(&self, other: &Self) -> Ordering {
        charge(1);
        match (self, other) {
            (Value::Int(a), Value::Int(b)) => a.cmp(b),
            (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => {
                let (a, b) = (self.number().unwrap_or(f64::NAN), other.number().unwrap_or(f64::NAN));
                // What is no number is below all that are, as in jq; and equal to itself, or sorting had no order.
                a.partial_cmp(&b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
            }
            (Value::Text(a), Value::Text(b)) => {
                charge_bytes(a.len().min(b.len()));
                a.cmp(b)
            }
            (Value::Array(a), Value::Array(b)) => a.items.cmp(&b.items),
            (Value::Object(a), Value::Object(b)) => compare_fields(&a.fields, &b.fields),
            (Value::Envelope(a), Value::Envelope(b)) => a.value.cmp(&b.value).then_with(|| compare_fields(&a.with, &b.with)),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

fn compare_fields(a: &Fields, b: &Fields) -> Ordering {
    charge_values(4 * (a.len() + b.len()));
    let sorted = |fields: &Fields| {
        let mut names: Vec<Arc<str>> = fields.keys().cloned().collect();
        names.sort_unstable();
        names
    };
    let (names, others) = (sorted(a), sorted(b));
    names.cmp(&others).then_with(|| {
        let values = names.iter().map(|name| a[name].cmp(&b[name]));
        values.into_iter().find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    })
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Value {}

impl fmt::Display for Value {
    /// As JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_json())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Bool(value)
    }
}

impl From<isize> for Value {
    fn from(number: isize) -> Self {
        Value::Int(number as i128)
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Value::Int(number as i128)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Value::Float(number)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::text(&text)
    }
}

impl FromIterator<Value> for Value {
    fn from_iter<I: IntoIterator<Item = Value>>(items: I) -> Self {
        // Each is counted as it comes: there may be no end of them.
        Value::array(items.into_iter().inspect(|_| charge(1)).collect())
    }
}
