//! From Avro's binary encoding to JSON. Nothing is reserved by a length that was read, and every value counts, those of no bytes too.

use serde_json::{Map, Number, Value};

use super::{Avro, Field, Node, UuidForm, logical};
use crate::{
    schema::{DEEPEST, MOST_VALUES, Misfit},
    wire::varint,
};

struct Decoder<'a> {
    avro: &'a Avro,
    rest: &'a [u8],
    /// Values that there still may be.
    left: usize,
}

pub(super) fn decode(avro: &Avro, bytes: &[u8]) -> Result<Value, Misfit> {
    let mut decoder = Decoder {
        avro,
        rest: bytes,
        left: MOST_VALUES,
    };
    if avro.is_bare() {
        return logical::bare(&avro.nodes[avro.root], bytes);
    }
    let value = decoder.value(avro.root, 0)?;
    match decoder.rest {
        [] => Ok(value),
        rest => Err(Misfit::damaged(format!("{} bytes follow the value", rest.len()))),
    }
}

impl<'a> Decoder<'a> {
    fn value(&mut self, place: usize, depth: usize) -> Result<Value, Misfit> {
        self.left = self.left.checked_sub(1).ok_or_else(|| Misfit::too_much("has too many values"))?;
        if depth > DEEPEST {
            return Err(Misfit::too_much(format!("lies more than {DEEPEST} deep")));
        }
        let avro = self.avro;
        Ok(match &avro.nodes[place] {
            Node::Null => Value::Null,
            Node::Boolean => match self.take(1)? {
                [0] => false.into(),
                [1] => true.into(),
                _ => return Err(Misfit::damaged("is neither true nor false")),
            },
            Node::Int | Node::Date => self.int()?.into(),
            Node::Long | Node::Moment(_) => self.long()?.into(),
            Node::Float => short(f32::from_le_bytes(self.array()?)),
            Node::Double => number(f64::from_le_bytes(self.array()?)),
            Node::Bytes => logical::bytes_as_text(self.prefixed()?).into(),
            Node::String | Node::Uuid(UuidForm::Text) => self.text()?.into(),
            Node::Fixed(size) => logical::bytes_as_text(self.take(*size)?).into(),
            Node::Enum(symbols) => {
                let at = usize::try_from(self.int()?).ok();
                let symbol = at.and_then(|at| symbols.get(at));
                symbol.ok_or_else(|| Misfit::damaged("is none of the symbols"))?.as_str().into()
            }
            Node::Decimal(decimal) => {
                let bytes = match decimal.size {
                    Some(size) => self.take(size)?,
                    None => self.prefixed()?,
                };
                logical::decimal_as_text(bytes, *decimal)?.into()
            }
            Node::Uuid(UuidForm::Bytes) => logical::uuid_as_text(self.prefixed()?)?.into(),
            Node::Uuid(UuidForm::Fixed) => logical::uuid_as_text(self.take(16)?)?.into(),
            Node::Array(items) => self.items(*items, depth)?,
            Node::Map(values) => self.entries(*values, depth)?,
            Node::Union(branches) => {
                let at = usize::try_from(self.long()?).ok();
                let branch = at.and_then(|at| branches.get(at));
                self.value(branch.ok_or_else(|| Misfit::damaged("is none of the union"))?.node, depth + 1)?
            }
            Node::Record(fields) => self.record(fields, depth)?,
            Node::Begun => return Err(Misfit::damaged("has a schema that contains itself")),
        })
    }

    fn record(&mut self, fields: &[Field], depth: usize) -> Result<Value, Misfit> {
        let mut record = Map::new();
        for field in fields {
            let value = self.value(field.node, depth + 1).map_err(|misfit| misfit.within(&field.name))?;
            record.insert(field.name.clone(), value);
        }
        Ok(Value::Object(record))
    }

    fn items(&mut self, node: usize, depth: usize) -> Result<Value, Misfit> {
        let mut items = Vec::new();
        loop {
            let count = self.block()?;
            if count == 0 {
                return Ok(Value::Array(items));
            }
            for _ in 0..count {
                let item = self.value(node, depth + 1).map_err(|misfit| misfit.within(items.len()))?;
                items.push(item);
            }
        }
    }

    fn entries(&mut self, node: usize, depth: usize) -> Result<Value, Misfit> {
        let mut entries = Map::new();
        loop {
            let count = self.block()?;
            if count == 0 {
                return Ok(Value::Object(entries));
            }
            for _ in 0..count {
                let name = self.text()?;
                let value = self.value(node, depth + 1).map_err(|misfit| misfit.within(name))?;
                entries.insert(name.to_owned(), value);
            }
        }
    }

    /// How many items follow; 0: no more.
    fn block(&mut self) -> Result<u64, Misfit> {
        let count = self.long()?;
        if count < 0 {
            // In bytes, too, for those who would pass over it.
            self.long()?;
        }
        Ok(count.unsigned_abs())
    }

    fn int(&mut self) -> Result<i32, Misfit> {
        varint::take_int(&mut self.rest).ok_or_else(|| Misfit::damaged("is no int"))
    }

    fn long(&mut self) -> Result<i64, Misfit> {
        varint::take_long(&mut self.rest).ok_or_else(|| Misfit::damaged("is no long"))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Misfit> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(|| Misfit::damaged("ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Misfit> {
        Ok(self.take(N)?.try_into().expect("so many were taken"))
    }

    fn prefixed(&mut self) -> Result<&'a [u8], Misfit> {
        let length = usize::try_from(self.long()?).map_err(|_| Misfit::damaged("has a length below 0"))?;
        self.take(length)
    }

    fn text(&mut self) -> Result<&'a str, Misfit> {
        std::str::from_utf8(self.prefixed()?).map_err(|_| Misfit::damaged("is no UTF-8"))
    }
}

/// As JSON has no such numbers, by their names.
fn number(value: f64) -> Value {
    Number::from_f64(value).map_or_else(|| not_finite(value).into(), Value::Number)
}

/// With as few digits as tell it from other floats: 0.1 and not 0.10000000149011612.
fn short(value: f32) -> Value {
    value.to_string().parse().map_or_else(|_| number(f64::from(value)), number)
}

fn not_finite(value: f64) -> &'static str {
    match value {
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => "NaN",
    }
}
