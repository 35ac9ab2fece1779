//! Defaults of fields, which a schema writes as Avro's own JSON has them, as devices would send them.
//!
//! Both differ where bytes stand for something else: a decimal's default is a text whose characters are its bytes, while devices send its
//! digits.

use serde_json::{Map, Value};

use super::{Node, UuidForm, logical};
use crate::schema::MOST_VALUES;

/// Makes all defaults of a schema such as devices send. One that is none of its type stays as it is, and is told of when it is needed.
pub(super) fn as_sent(nodes: &mut [Node]) {
    let mut left = MOST_VALUES;
    for place in 0..nodes.len() {
        let Node::Record(fields) = &nodes[place] else { continue };
        let mut reader = Reader { nodes, left };
        let read = |field: &super::Field| reader.value(field.node, field.default.as_ref()?);
        let defaults: Vec<Option<Value>> = fields.iter().map(read).collect();
        left = reader.left;
        if let Node::Record(fields) = &mut nodes[place] {
            for (field, default) in fields.iter_mut().zip(defaults) {
                field.default = default.or(field.default.take());
            }
        }
    }
}

struct Reader<'a> {
    nodes: &'a [Node],
    /// Values that still may be tried: branches of unions are, one after the other.
    left: usize,
}

impl Reader<'_> {
    /// `None`: it is no value of this type.
    fn value(&mut self, place: usize, default: &Value) -> Option<Value> {
        self.left = self.left.checked_sub(1)?;
        let nodes = self.nodes;
        match (&nodes[place], default) {
            (Node::Decimal(decimal), Value::String(text)) => {
                let bytes = bytes(text, decimal.size)?;
                let text = logical::decimal_as_text(&bytes, *decimal).ok().map(Value::from)?;
                // Bytes of more digits than the type has are none of its values; of a union, another branch may have meant the text.
                logical::decimal(&text, *decimal).is_ok().then_some(text)
            }
            (Node::Uuid(UuidForm::Bytes | UuidForm::Fixed), Value::String(text)) => {
                logical::uuid_as_text(&bytes(text, Some(16))?).ok().map(Value::from)
            }
            (Node::Bytes, Value::String(text)) => bytes(text, None).map(|_| default.clone()),
            (Node::Fixed(size), Value::String(text)) => bytes(text, Some(*size)).map(|_| default.clone()),
            (Node::Array(items), Value::Array(values)) => {
                let values = values.iter().map(|value| self.value(*items, value));
                values.collect::<Option<Vec<_>>>().map(Value::Array)
            }
            (Node::Map(values), Value::Object(entries)) => {
                let entries = entries
                    .iter()
                    .map(|(name, value)| Some((name.clone(), self.value(*values, value)?)));
                entries.collect::<Option<Map<_, _>>>().map(Value::Object)
            }
            (Node::Record(fields), Value::Object(values)) => {
                let is_whole = fields
                    .iter()
                    .all(|field| values.contains_key(&field.name) || field.default.is_some());
                let values = values.iter().filter(|_| is_whole).map(|(name, value)| {
                    let field = fields.iter().find(|field| field.name == *name)?;
                    Some((name.clone(), self.value(field.node, value)?))
                });
                let values = values.collect::<Option<Map<_, _>>>()?;
                is_whole.then_some(Value::Object(values))
            }
            (Node::Union(branches), default) => branches.iter().find_map(|branch| self.value(branch.node, default)),
            (Node::Null, Value::Null)
            | (Node::Boolean, Value::Bool(_))
            | (Node::Int | Node::Long | Node::Date | Node::Moment(_) | Node::Float | Node::Double, Value::Number(_))
            | (Node::Float | Node::Double | Node::String | Node::Enum(_) | Node::Uuid(UuidForm::Text), Value::String(_)) => {
                Some(default.clone())
            }
            _ => None,
        }
    }
}

/// The bytes that the characters of a text stand for; `None`: they are none, or not so many.
fn bytes(text: &str, size: Option<usize>) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    logical::text_as_bytes(text, &mut bytes).ok()?;
    Some(bytes).filter(|bytes| size.is_none_or(|size| bytes.len() == size))
}
