//! Protocol Buffers: messages and their canonical JSON.

mod builtin;
mod size;

use std::{fmt, path::Path};

use prost::Message;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, FileDescriptor, MessageDescriptor, SerializeOptions};
use protox::{
    Compiler,
    file::{File, FileResolver, GoogleFileResolver},
};
use serde_json::Value;

use super::{framing, misfit::Misfit, text::SchemaText};

/// What the schema itself is called among those that it refers to.
const ROOT: &str = "schema-of-the-subject.proto";
/// 64-bit integers are text, since JavaScript's numbers would not hold them; fields with their default values are left out.
const AS_JSON: SerializeOptions = SerializeOptions::new();
const FROM_JSON: DeserializeOptions = DeserializeOptions::new();

/// A compiled schema, and the message of it that is written.
pub struct Protobuf {
    file: FileDescriptor,
    written: MessageDescriptor,
    /// Which message that is, as it stands in front of its values.
    place: Vec<u8>,
}

impl fmt::Debug for Protobuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Protobuf({})", self.written.full_name())
    }
}

/// What a schema may import: what it refers to in the registry, and what comes with Protobuf and with Confluent's clients.
struct Imports {
    text: SchemaText,
    google: GoogleFileResolver,
}

impl FileResolver for Imports {
    fn resolve_path(&self, path: &Path) -> Option<String> {
        path.to_str().map(str::to_owned)
    }

    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let referred = self.text.references.iter().find(|(referred, _)| referred == name);
        match referred {
            _ if name == ROOT => File::from_source(ROOT, &self.text.text),
            Some((_, text)) => File::from_source(name, text),
            None => match builtin::file(name) {
                Some(text) => File::from_source(name, &text),
                None => self.google.open_file(name),
            },
        }
    }
}

impl Protobuf {
    pub(super) fn compile(text: &SchemaText, message: Option<&str>) -> Result<Self, String> {
        text.check_depth()?;
        let pool = pool(text).map_err(|e| format!("is no schema that can be used: {e}"))?;
        size::check_any(&pool)?;
        let file = pool.get_file_by_name(ROOT).ok_or("has no file")?;
        let written = match message {
            Some(name) => {
                let found = pool.get_message_by_name(name).filter(|found| found.parent_file() == file);
                found.ok_or_else(|| format!("has no message `{name}`"))?
            }
            None => file.messages().next().ok_or("has no message")?,
        };
        let mut place = Vec::new();
        framing::put_message(&places(&written), &mut place);
        Ok(Self { file, written, place })
    }

    pub(super) fn encode(&self, value: &Value, out: &mut Vec<u8>) -> Result<(), Misfit> {
        let message = DynamicMessage::deserialize_with_options(self.written.clone(), value, &FROM_JSON);
        let message = message.map_err(|e| Misfit::mismatch(e.to_string()))?;
        out.extend_from_slice(&self.place);
        message.encode(out).map_err(|e| Misfit::mismatch(e.to_string()))
    }

    pub(super) fn decode(&self, mut bytes: &[u8]) -> Result<Value, Misfit> {
        let places = framing::take_message(&mut bytes).ok_or_else(|| Misfit::damaged("does not begin with the place of its message"))?;
        let descriptor = self
            .message(&places)
            .ok_or_else(|| Misfit::damaged("is a message that the schema does not have"))?;
        let message = DynamicMessage::decode(descriptor, bytes).map_err(|e| Misfit::damaged(e.to_string()))?;
        size::check(&message)?;
        message
            .serialize_with_options(serde_json::value::Serializer, &AS_JSON)
            .map_err(|e| Misfit::damaged(e.to_string()))
    }

    fn message(&self, places: &[i32]) -> Option<MessageDescriptor> {
        let (first, inner) = places.split_first()?;
        let outermost = self.file.messages().nth(usize::try_from(*first).ok()?)?;
        inner
            .iter()
            .try_fold(outermost, |outer, place| outer.child_messages().nth(usize::try_from(*place).ok()?))
    }
}

fn pool(text: &SchemaText) -> Result<DescriptorPool, protox::Error> {
    let mut compiler = Compiler::with_file_resolver(Imports {
        text: text.clone(),
        google: GoogleFileResolver::new(),
    });
    compiler.include_imports(true).include_source_info(false);
    compiler.open_file(ROOT)?;
    Ok(compiler.descriptor_pool())
}

/// Where a message lies in its file, from the outermost in.
fn places(message: &MessageDescriptor) -> Vec<i32> {
    let mut places = Vec::new();
    let mut now = Some(message.clone());
    while let Some(message) = now {
        now = message.parent_message();
        // The path of a descriptor ends with its place in what it lies in.
        places.push(message.path().last().copied().unwrap_or(0));
    }
    places.reverse();
    places
}
