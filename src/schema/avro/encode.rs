//! From JSON to Avro's binary encoding.

use std::collections::HashSet;
use std::ptr;

use serde_json::{Map, Value};

use super::{Avro, Branch, Decimal, Field, Node, UuidForm, logical, times};
use crate::{
    schema::{DEEPEST, LARGEST, MOST_VALUES, Misfit, json::Json},
    wire::varint,
};

/// Integers up to here a JSON number with a point holds, too (2^53).
const EXACT: f64 = 9_007_199_254_740_992.0;

struct Encoder<'a> {
    avro: &'a Avro,
    /// Numbers that were written with more digits than the value has of them.
    rounded: HashSet<*const Value>,
    /// Values that still may be tried. Branches of unions are tried one after the other, which in a schema that contains itself could
    /// double with each level.
    left: usize,
    /// How long what is written may become: defaults make it larger than the value is.
    end: usize,
}

pub(super) fn encode(avro: &Avro, json: &Json<'_>, out: &mut Vec<u8>) -> Result<(), Misfit> {
    let value = json.value();
    let mut encoder = Encoder {
        avro,
        rounded: json.rounded(),
        left: MOST_VALUES,
        end: out.len() + LARGEST,
    };
    if avro.is_bare() {
        out.extend_from_slice(&encoder.bytes(&avro.nodes[avro.root], value)?);
        return Ok(());
    }
    encoder.value(avro.root, value, 0, out)
}

impl Encoder<'_> {
    fn value(&mut self, place: usize, value: &Value, depth: usize, out: &mut Vec<u8>) -> Result<(), Misfit> {
        self.left = self.left.checked_sub(1).ok_or_else(|| Misfit::too_much("has too many values"))?;
        if depth > DEEPEST {
            return Err(Misfit::too_much(format!("lies more than {DEEPEST} deep")));
        }
        if out.len() > self.end {
            return Err(Misfit::too_much(format!("becomes more than {LARGEST} bytes")));
        }
        let avro = self.avro;
        match (&avro.nodes[place], value) {
            (Node::Null, Value::Null) => {}
            (Node::Boolean, Value::Bool(truth)) => out.push(u8::from(*truth)),
            (Node::Date, Value::String(text)) => varint::put(i64::from(times::day(text)?), out),
            (Node::Int | Node::Date, value) => {
                let int = self.integer(value)?;
                i32::try_from(int).map_err(|_| Misfit::mismatch("has no place in 32 bits"))?;
                varint::put(int, out);
            }
            (Node::Moment(parts), Value::String(text)) => varint::put(times::moment(text, *parts)?, out),
            (Node::Long | Node::Moment(_), value) => varint::put(self.integer(value)?, out),
            (Node::Float, value) => {
                let double = number(value)?;
                let float = double as f32;
                if double.is_finite() && !float.is_finite() {
                    return Err(Misfit::mismatch("is too large for a float"));
                }
                out.extend_from_slice(&float.to_le_bytes());
            }
            (Node::Double, value) => out.extend_from_slice(&number(value)?.to_le_bytes()),
            (Node::String, Value::String(text)) => prefixed(text.as_bytes(), out),
            (Node::Uuid(UuidForm::Text), Value::String(text)) => {
                logical::uuid(text)?;
                prefixed(text.as_bytes(), out);
            }
            (Node::Uuid(UuidForm::Fixed), Value::String(text)) => out.extend_from_slice(logical::uuid(text)?.as_bytes()),
            (Node::Enum(symbols), Value::String(text)) => {
                let at = symbols.iter().position(|symbol| symbol == text);
                varint::put(at.ok_or_else(|| Misfit::mismatch("is none of the symbols"))? as i64, out);
            }
            (Node::Fixed(size), Value::String(text)) => {
                let start = out.len();
                logical::text_as_bytes(text, out)?;
                if out.len() - start != *size {
                    return Err(Misfit::mismatch(format!(
                        "stands for {} bytes instead of {size}",
                        out.len() - start
                    )));
                }
            }
            (Node::Decimal(decimal), value) if decimal.size.is_some() => out.extend(self.decimal(value, *decimal)?),
            (node @ (Node::Bytes | Node::Decimal(_) | Node::Uuid(UuidForm::Bytes)), value) => prefixed(&self.bytes(node, value)?, out),
            (Node::Array(items), Value::Array(values)) => self.items(*items, values, depth, out)?,
            (Node::Map(values), Value::Object(entries)) => self.entries(*values, entries, depth, out)?,
            (Node::Record(fields), Value::Object(values)) => self.record(fields, values, depth, out)?,
            (Node::Union(branches), value) => self.union(branches, value, depth, out)?,
            (node, _) => return Err(Misfit::mismatch(format!("should be {}", wanted(node)))),
        }
        Ok(())
    }

    fn items(&mut self, node: usize, values: &[Value], depth: usize, out: &mut Vec<u8>) -> Result<(), Misfit> {
        if !values.is_empty() {
            varint::put(values.len() as i64, out);
        }
        for (at, value) in values.iter().enumerate() {
            self.value(node, value, depth + 1, out).map_err(|misfit| misfit.within(at))?;
        }
        out.push(0);
        Ok(())
    }

    fn entries(&mut self, node: usize, entries: &Map<String, Value>, depth: usize, out: &mut Vec<u8>) -> Result<(), Misfit> {
        if !entries.is_empty() {
            varint::put(entries.len() as i64, out);
        }
        for (name, value) in entries {
            prefixed(name.as_bytes(), out);
            self.value(node, value, depth + 1, out).map_err(|misfit| misfit.within(name))?;
        }
        out.push(0);
        Ok(())
    }

    fn record(&mut self, fields: &[Field], values: &Map<String, Value>, depth: usize, out: &mut Vec<u8>) -> Result<(), Misfit> {
        let mut known = 0;
        for field in fields {
            let given = values.get(&field.name);
            known += usize::from(given.is_some());
            let missing = || Misfit::mismatch("is missing").within(&field.name);
            let value = given.or(field.default.as_ref()).ok_or_else(missing)?;
            self.value(field.node, value, depth + 1, out)
                .map_err(|misfit| misfit.within(&field.name))?;
        }
        if known == values.len() {
            return Ok(());
        }
        let unknown = values.keys().find(|name| fields.iter().all(|field| field.name != **name));
        Err(Misfit::mismatch("is no field of the schema").within(unknown.map_or("", String::as_str)))
    }

    /// The first branch that takes the value as it is, and a number the first of those that lose least of it; else the one that an object
    /// names with its only member, as in Avro's own JSON.
    fn union(&mut self, branches: &[Branch], value: &Value, depth: usize, out: &mut Vec<u8>) -> Result<(), Misfit> {
        let start = out.len();
        let mut only = None;
        let nodes = &self.avro.nodes;
        let losing = |lost: u8| move |(_, branch): &(usize, &Branch)| logical::loss(&nodes[branch.node], value) == lost;
        let by_loss = (0..=logical::MOST_LOSS).flat_map(|lost| branches.iter().enumerate().filter(losing(lost)));
        for (at, branch) in by_loss {
            varint::put(at as i64, out);
            match self.value(branch.node, value, depth + 1, out) {
                Ok(()) => return Ok(()),
                Err(misfit) if self.left == 0 || out.len() > self.end => return Err(misfit),
                // Of the usual kind, null and one other, the other knows what is wrong.
                Err(misfit) => only = (!matches!(self.avro.nodes[branch.node], Node::Null)).then_some(misfit).or(only),
            }
            out.truncate(start);
        }
        if let Value::Object(object) = value
            && let Some((name, inner)) = object.iter().next().filter(|_| object.len() == 1)
            && let Some(at) = branches.iter().position(|branch| branch.name == *name)
        {
            varint::put(at as i64, out);
            return self
                .value(branches[at].node, inner, depth + 1, out)
                .map_err(|misfit| misfit.within(name));
        }
        let choices = branches.iter().filter(|branch| branch.name != "null").count();
        let none = || Misfit::mismatch("is none of the union");
        Err(only.filter(|_| choices == 1 && !value.is_null()).unwrap_or_else(none))
    }

    /// Bytes whose length is not fixed.
    fn bytes(&self, node: &Node, value: &Value) -> Result<Vec<u8>, Misfit> {
        match (node, value) {
            (Node::Decimal(decimal), value) => self.decimal(value, *decimal),
            (Node::Uuid(_), Value::String(text)) => Ok(logical::uuid(text)?.as_bytes().to_vec()),
            (_, Value::String(text)) => {
                let mut bytes = Vec::with_capacity(text.len());
                logical::text_as_bytes(text, &mut bytes)?;
                Ok(bytes)
            }
            (node, _) => Err(Misfit::mismatch(format!("should be {}", wanted(node)))),
        }
    }

    fn decimal(&self, value: &Value, decimal: Decimal) -> Result<Vec<u8>, Misfit> {
        self.check_digits(value, "write it as text")?;
        logical::decimal(value, decimal)
    }

    fn integer(&self, value: &Value) -> Result<i64, Misfit> {
        self.check_digits(value, "write it without a point and within 64 bits")?;
        let whole = |number: &f64| number.fract() == 0.0 && number.abs() <= EXACT;
        let integer = value.as_i64().or_else(|| value.as_f64().filter(whole).map(|number| number as i64));
        let too_large = value.is_u64();
        integer.filter(|_| value.as_i64().is_some() || !too_large).ok_or_else(|| {
            Misfit::mismatch(match too_large {
                true => "has no place in 64 bits",
                false => "should be an integer",
            })
        })
    }

    /// What is left of a number with a point or an exponent is a double, which may be another number.
    fn check_digits(&self, value: &Value, remedy: &str) -> Result<(), Misfit> {
        match self.rounded.contains(&ptr::from_ref(value)) {
            true => Err(Misfit::mismatch(format!(
                "is a number of more than 15 digits, of which some would be lost: {remedy}"
            ))),
            false => Ok(()),
        }
    }
}

fn prefixed(bytes: &[u8], out: &mut Vec<u8>) {
    varint::put(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}

fn number(value: &Value) -> Result<f64, Misfit> {
    let named = || match value.as_str()? {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    };
    value.as_f64().or_else(named).ok_or_else(|| Misfit::mismatch("should be a number"))
}

fn wanted(node: &Node) -> &'static str {
    match node {
        Node::Null => "null",
        Node::Boolean => "true or false",
        Node::Int | Node::Long => "an integer",
        Node::Date => "an integer, or a day",
        Node::Moment(_) => "an integer, or a time",
        Node::Float | Node::Double | Node::Decimal(_) => "a number",
        Node::Bytes | Node::Fixed(_) => "text that stands for bytes",
        Node::String => "text",
        Node::Uuid(_) => "a UUID",
        Node::Enum(_) => "one of the symbols",
        Node::Array(_) => "an array",
        Node::Map(_) | Node::Record(_) => "an object",
        Node::Union(_) | Node::Begun => "something else",
    }
}
