//! How large a Protobuf message is before it becomes JSON: its depth and its parts, those in `google.protobuf.Any` too.
//!
//! Prost bounds the depth of the bytes that it decodes. What an `Any` holds is bytes to it, decoded when the message becomes JSON and
//! counted anew: without this an `Any` in an `Any` and so on would end with the stack.

use prost_reflect::{DescriptorPool, DynamicMessage, Kind, ReflectMessage, Value};

use crate::schema::{MOST_VALUES, misfit::Misfit};

const ANY: &str = "google.protobuf.Any";
/// The numbers of its fields: what it holds, and the bytes of that.
const TYPE: u32 = 1;
const BYTES: u32 = 2;
/// How deep messages may lie in each other, as prost has it.
const DEEPEST_MESSAGES: usize = 100;

/// Whether `Any` is what everybody calls so: a schema may declare one of its own, whose bytes would not be found here.
pub(super) fn check_any(pool: &DescriptorPool) -> Result<(), String> {
    let Some(any) = pool.get_message_by_name(ANY) else { return Ok(()) };
    let is = |number, kind| any.get_field(number).is_some_and(|field| !field.is_list() && field.kind() == kind);
    match is(TYPE, Kind::String) && is(BYTES, Kind::Bytes) {
        true => Ok(()),
        false => Err(format!("has a `{ANY}` of its own")),
    }
}

/// Whether a message is small enough to become JSON.
pub(super) fn check(message: &DynamicMessage) -> Result<(), Misfit> {
    Walk { left: MOST_VALUES }.message(message, 0)
}

struct Walk {
    /// Parts that there still may be.
    left: usize,
}

impl Walk {
    fn message(&mut self, message: &DynamicMessage, depth: usize) -> Result<(), Misfit> {
        self.count()?;
        if depth > DEEPEST_MESSAGES {
            return Err(Misfit::too_much(format!("has messages more than {DEEPEST_MESSAGES} deep")));
        }
        let fields = message.fields().map(|(_, value)| value);
        let extensions = message.extensions().map(|(_, value)| value);
        fields.chain(extensions).try_for_each(|value| self.value(value, depth))?;
        match held(message)? {
            Some(held) => self.message(&held, depth + 1),
            None => Ok(()),
        }
    }

    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Misfit> {
        match value {
            Value::Message(message) => self.message(message, depth + 1),
            Value::List(items) => self
                .count()
                .and_then(|()| items.iter().try_for_each(|item| self.value(item, depth))),
            Value::Map(entries) => self
                .count()
                .and_then(|()| entries.values().try_for_each(|entry| self.value(entry, depth))),
            _ => self.count(),
        }
    }

    fn count(&mut self) -> Result<(), Misfit> {
        self.left = self.left.checked_sub(1).ok_or_else(|| Misfit::too_much("has too many values"))?;
        Ok(())
    }
}

/// What an `Any` holds; `None`: it is none, or of a type that the schema does not have, which cannot become JSON.
fn held(message: &DynamicMessage) -> Result<Option<DynamicMessage>, Misfit> {
    if message.descriptor().full_name() != ANY {
        return Ok(None);
    }
    let (name, bytes) = (message.get_field_by_number(TYPE), message.get_field_by_number(BYTES));
    let name = name.as_deref().and_then(Value::as_str).and_then(|url| url.rsplit_once('/'));
    let descriptor = name.and_then(|(_, name)| message.descriptor().parent_pool().get_message_by_name(name));
    let (Some(descriptor), Some(bytes)) = (descriptor, bytes.as_deref().and_then(Value::as_bytes)) else {
        return Ok(None);
    };
    let held = DynamicMessage::decode(descriptor, bytes.as_ref());
    held.map(Some).map_err(|e| Misfit::damaged(e.to_string()))
}
