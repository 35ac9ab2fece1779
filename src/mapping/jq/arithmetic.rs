//! `+`, `-`, `*`, `/`, `%` and negation of values, as jq has them: whole numbers stay whole while they fit.

use std::ops::{Add, Div, Mul, Neg, Rem, Sub};
use std::sync::Arc;

use jaq_core::ValR;
use jaq_core::ops::Math;

use super::fuel::{CutOff, charge, charge_bytes, charge_values, end};
use super::value::{Array, Fields, Value, take_fields, take_items};

type Error = jaq_core::Error<Value>;

/// Text longer than any payload.
const LONGEST_TEXT: usize = 256 << 20;

/// Two numbers as doubles.
fn doubles(a: &Value, b: &Value) -> Option<(f64, f64)> {
    a.number().zip(b.number())
}

fn joined(a: &str, b: &str) -> Value {
    charge_bytes(a.len() + b.len());
    let mut text = String::with_capacity(a.len() + b.len());
    text.push_str(a);
    text.push_str(b);
    Value::Text(text.into())
}

impl Add for Value {
    type Output = ValR<Value>;

    fn add(self, other: Value) -> ValR<Value> {
        charge(1);
        Ok(match (self, other) {
            (Value::Null, value) | (value, Value::Null) => value,
            (Value::Int(a), Value::Int(b)) => Value::int(a + b),
            (Value::Text(a), Value::Text(b)) => joined(&a, &b),
            (Value::Array(a), Value::Array(b)) => {
                charge_values(b.items.len());
                let mut items = take_items(a);
                items.extend(b.items.iter().cloned());
                Value::array(items)
            }
            (Value::Object(a), Value::Object(b)) => {
                charge_values(2 * b.fields.len());
                let mut fields = take_fields(a);
                fields.extend(b.fields.iter().map(|(name, value)| (name.clone(), value.clone())));
                Value::object(fields)
            }
            (a, b) => match doubles(&a, &b) {
                Some((a, b)) => Value::Float(a + b),
                None => return Err(Error::math(a, Math::Add, b)),
            },
        })
    }
}

impl Sub for Value {
    type Output = ValR<Value>;

    fn sub(self, other: Value) -> ValR<Value> {
        charge(1);
        Ok(match (self, other) {
            (Value::Int(a), Value::Int(b)) => Value::int(a - b),
            (Value::Array(a), Value::Array(b)) => Value::array(without(a, &b.items)),
            (a, b) => match doubles(&a, &b) {
                Some((a, b)) => Value::Float(a - b),
                None => return Err(Error::math(a, Math::Sub, b)),
            },
        })
    }
}

fn without(from: Arc<Array>, these: &[Value]) -> Vec<Value> {
    let mut items = take_items(from);
    // Each comparison is counted.
    items.retain(|item| !these.contains(item));
    items
}

impl Mul for Value {
    type Output = ValR<Value>;

    fn mul(self, other: Value) -> ValR<Value> {
        charge(1);
        Ok(match (self, other) {
            (Value::Int(a), Value::Int(b)) => a.checked_mul(b).map_or(Value::Float(a as f64 * b as f64), Value::int),
            (Value::Text(text), times @ (Value::Int(_) | Value::Float(_)))
            | (times @ (Value::Int(_) | Value::Float(_)), Value::Text(text)) => repeated(&text, times.number().unwrap_or(0.0)),
            (Value::Object(a), Value::Object(b)) => Value::object(merged(take_fields(a), take_fields(b))),
            (a, b) => match doubles(&a, &b) {
                Some((a, b)) => Value::Float(a * b),
                None => return Err(Error::math(a, Math::Mul, b)),
            },
        })
    }
}

fn repeated(text: &str, times: f64) -> Value {
    if times.is_nan() || times <= 0.0 {
        return Value::Null;
    }
    let times = times.ceil().min(LONGEST_TEXT as f64) as usize;
    if text.len().saturating_mul(times) > LONGEST_TEXT {
        end(CutOff::Spent);
    }
    charge_bytes(text.len() * times);
    charge(times as u64 / 8);
    Value::Text(text.repeat(times).into())
}

/// Objects of one name are merged in turn.
fn merged(mut into: Fields, from: Fields) -> Fields {
    charge_values(into.len() + from.len());
    for (name, value) in from {
        let value = match (into.get_mut(&name).map(std::mem::take), value) {
            (Some(Value::Object(a)), Value::Object(b)) => Value::object(merged(take_fields(a), take_fields(b))),
            (_, value) => value,
        };
        into.insert(name, value);
    }
    into
}

impl Div for Value {
    type Output = ValR<Value>;

    fn div(self, other: Value) -> ValR<Value> {
        charge(1);
        if let (Value::Text(a), Value::Text(b)) = (&self, &other) {
            return Ok(split(a, b));
        }
        match (&self, &other) {
            (Value::Int(a), Value::Int(b)) if *b != 0 && a % b == 0 => Ok(Value::int(a / b)),
            _ => match doubles(&self, &other) {
                Some((a, b)) if b != 0.0 => Ok(Value::Float(a / b)),
                _ => Err(Error::math(self, Math::Div, other)),
            },
        }
    }
}

fn split(text: &str, by: &str) -> Value {
    charge_bytes(text.len());
    let part = |part: &str| Value::text(part);
    Value::array(match (text, by) {
        ("", _) => Vec::new(),
        (text, "") => text.chars().map(|c| part(c.encode_utf8(&mut [0; 4]))).collect(),
        (text, by) => text.split(by).map(part).collect(),
    })
}

impl Rem for Value {
    type Output = ValR<Value>;

    fn rem(self, other: Value) -> ValR<Value> {
        charge(1);
        let whole = |value: &Value| match value {
            Value::Int(number) => Some(*number),
            Value::Float(number) if number.is_finite() => Some(number.clamp(-1e19, 1e19) as i128),
            _ => None,
        };
        match whole(&self).zip(whole(&other)) {
            Some((a, b)) if b != 0 => Ok(Value::int(a % b.abs())),
            _ => Err(Error::math(self, Math::Rem, other)),
        }
    }
}

impl Neg for Value {
    type Output = ValR<Value>;

    fn neg(self) -> ValR<Value> {
        charge(1);
        match self {
            Value::Int(number) => Ok(Value::int(-number)),
            Value::Float(number) => Ok(Value::Float(-number)),
            other => Err(Error::typ(other, "number")),
        }
    }
}
