//! Avro: a schema as a list of nodes, so that values are walked without looking names up.
//!
//! JSON is plain: a value of a union is written as it is, not wrapped in an object that names the branch. What that means for each type
//! stands in docs/schemas.md.

mod decode;
mod defaults;
mod encode;
mod logical;
mod times;

use std::{collections::HashMap, fmt};

use apache_avro::schema::{InnerDecimalSchema, Name, Schema as Parsed, UuidSchema};
use serde_json::Value;

use super::{LARGEST, json::Json, misfit::Misfit, stack::on_large_stack, text::SchemaText};
use logical::MOST_DIGITS;

/// Parts that a schema may have, and how deep they may lie in each other.
const MOST_NODES: usize = 20_000;
const DEEPEST_NODES: usize = 200;

/// A compiled Avro schema.
pub struct Avro {
    nodes: Vec<Node>,
    root: usize,
}

/// One type.
#[derive(Debug)]
enum Node {
    /// Its place is taken: it is being compiled, and refers to itself.
    Begun,
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Enum(Vec<String>),
    Array(usize),
    Map(usize),
    Union(Vec<Branch>),
    Record(Vec<Field>),
    Decimal(Decimal),
    /// Days since the epoch.
    Date,
    /// Since the epoch, in so many parts of a second.
    Moment(u32),
    /// As text in both; in Avro as text, or 16 bytes with or without their length.
    Uuid(UuidForm),
}

#[derive(Debug)]
struct Branch {
    node: usize,
    /// As Avro's own JSON names it.
    name: String,
}

#[derive(Debug)]
struct Field {
    name: String,
    node: usize,
    /// As a device would send it.
    default: Option<Value>,
}

#[derive(Clone, Copy, Debug)]
struct Decimal {
    precision: usize,
    scale: usize,
    /// Of `fixed`; `None`: as many bytes as it needs.
    size: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
enum UuidForm {
    Text,
    Bytes,
    Fixed,
}

impl fmt::Debug for Avro {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Avro({} nodes)", self.nodes.len())
    }
}

impl Avro {
    pub(super) fn compile(text: &SchemaText) -> Result<Self, String> {
        // The parser follows a reference into its text where it stands, so that the depths of all texts, 128 levels of JSON each, add up
        // before the nodes are counted; and what it made is dropped by recursion, too.
        let compiled = on_large_stack(|| Self::compile_here(text));
        compiled.map_err(|e| format!("cannot be read for want of a thread: {e}"))?
    }

    fn compile_here(text: &SchemaText) -> Result<Self, String> {
        let references = text.references.iter().map(|(_, text)| text);
        let parsed = Parsed::parse_str_with_list(&text.text, references);
        let (schema, others) = parsed.map_err(|e| format!("is no schema that can be used: {e}"))?;
        let mut compiler = Compiler {
            others: &others,
            named: HashMap::new(),
            nodes: Vec::new(),
        };
        let root = compiler.node(&schema, 0)?;
        let mut nodes = compiler.nodes;
        defaults::as_sent(&mut nodes);
        Ok(Self { nodes, root })
    }

    /// Java's serializer writes a value whose schema is `bytes` alone as those bytes, without their length.
    fn is_bare(&self) -> bool {
        matches!(
            self.nodes[self.root],
            Node::Bytes | Node::Decimal(Decimal { size: None, .. }) | Node::Uuid(UuidForm::Bytes)
        )
    }

    pub(super) fn encode(&self, json: &Json<'_>, out: &mut Vec<u8>) -> Result<(), Misfit> {
        encode::encode(self, json, out)
    }

    pub(super) fn decode(&self, bytes: &[u8]) -> Result<Value, Misfit> {
        decode::decode(self, bytes)
    }
}

struct Compiler<'a> {
    /// Those that it refers to.
    others: &'a [Parsed],
    named: HashMap<Name, usize>,
    nodes: Vec<Node>,
}

impl Compiler<'_> {
    fn push(&mut self, node: Node) -> Result<usize, String> {
        if self.nodes.len() >= MOST_NODES {
            return Err(format!("has more than {MOST_NODES} parts"));
        }
        self.nodes.push(node);
        Ok(self.nodes.len() - 1)
    }

    fn node(&mut self, schema: &Parsed, depth: usize) -> Result<usize, String> {
        if depth > DEEPEST_NODES {
            return Err(format!("has parts more than {DEEPEST_NODES} deep"));
        }
        if let Parsed::Ref { name } = schema {
            return self.referred(name, depth);
        }
        // Before its parts: they may refer to it.
        let place = self.push(Node::Begun)?;
        if let Some(name) = schema.name() {
            self.named.insert(name.clone(), place);
        }
        self.nodes[place] = match schema {
            Parsed::Array(array) => Node::Array(self.node(&array.items, depth + 1)?),
            Parsed::Map(map) => Node::Map(self.node(&map.types, depth + 1)?),
            Parsed::Union(union) => {
                let branches = union.variants().iter().map(|variant| self.branch(variant, depth + 1));
                Node::Union(branches.collect::<Result<_, _>>()?)
            }
            Parsed::Record(record) => {
                let fields = record.fields.iter().map(|field| {
                    Ok(Field {
                        name: field.name.clone(),
                        node: self.node(&field.schema, depth + 1)?,
                        default: field.default.clone(),
                    })
                });
                Node::Record(fields.collect::<Result<_, String>>()?)
            }
            simple => leaf(simple),
        };
        check_size(&self.nodes[place])?;
        Ok(place)
    }

    fn branch(&mut self, schema: &Parsed, depth: usize) -> Result<Branch, String> {
        let node = self.node(schema, depth)?;
        let name = match schema {
            Parsed::Ref { name } => name.fullname(None),
            named => named.name().map_or_else(|| kind(named).to_owned(), |name| name.fullname(None)),
        };
        Ok(Branch { node, name })
    }

    fn referred(&mut self, name: &Name, depth: usize) -> Result<usize, String> {
        if let Some(place) = self.named.get(name) {
            return Ok(*place);
        }
        let others = self.others;
        let other = others.iter().find(|other| other.name() == Some(name));
        let other = other.ok_or_else(|| format!("refers to `{}`, which is not there", name.fullname(None)))?;
        self.node(other, depth + 1)
    }
}

/// Whether there can be values of a type whose size is fixed.
fn check_size(node: &Node) -> Result<(), String> {
    match node {
        Node::Fixed(size) | Node::Decimal(Decimal { size: Some(size), .. }) if *size > LARGEST => {
            Err(format!("has a `fixed` of {size} bytes, more than {LARGEST}"))
        }
        Node::Decimal(Decimal { scale, .. }) if *scale > MOST_DIGITS => Err(format!(
            "has a decimal with {scale} digits behind the point, more than {MOST_DIGITS}"
        )),
        _ => Ok(()),
    }
}

/// A type without parts.
fn leaf(schema: &Parsed) -> Node {
    match schema {
        Parsed::Null => Node::Null,
        Parsed::Boolean => Node::Boolean,
        Parsed::Int | Parsed::TimeMillis => Node::Int,
        Parsed::Date => Node::Date,
        Parsed::Long | Parsed::TimeMicros | Parsed::LocalTimestampMillis | Parsed::LocalTimestampMicros | Parsed::LocalTimestampNanos => {
            Node::Long
        }
        Parsed::TimestampMillis => Node::Moment(1_000),
        Parsed::TimestampMicros => Node::Moment(1_000_000),
        Parsed::TimestampNanos => Node::Moment(1_000_000_000),
        Parsed::Float => Node::Float,
        Parsed::Double => Node::Double,
        Parsed::Bytes | Parsed::BigDecimal => Node::Bytes,
        Parsed::String => Node::String,
        Parsed::Fixed(fixed) | Parsed::Duration(fixed) => Node::Fixed(fixed.size),
        Parsed::Enum(symbols) => Node::Enum(symbols.symbols.clone()),
        Parsed::Decimal(decimal) => Node::Decimal(Decimal {
            precision: decimal.precision,
            scale: decimal.scale,
            size: match &decimal.inner {
                InnerDecimalSchema::Bytes => None,
                InnerDecimalSchema::Fixed(fixed) => Some(fixed.size),
            },
        }),
        Parsed::Uuid(UuidSchema::String) => Node::Uuid(UuidForm::Text),
        Parsed::Uuid(UuidSchema::Bytes) => Node::Uuid(UuidForm::Bytes),
        Parsed::Uuid(UuidSchema::Fixed(_)) => Node::Uuid(UuidForm::Fixed),
        Parsed::Array(_) | Parsed::Map(_) | Parsed::Union(_) | Parsed::Record(_) | Parsed::Ref { .. } => Node::Begun,
    }
}

/// What Avro's own JSON calls a type without a name.
fn kind(schema: &Parsed) -> &'static str {
    match schema {
        Parsed::Null => "null",
        Parsed::Boolean => "boolean",
        Parsed::Int | Parsed::TimeMillis | Parsed::Date => "int",
        Parsed::Float => "float",
        Parsed::Double => "double",
        Parsed::Bytes | Parsed::BigDecimal | Parsed::Decimal(_) | Parsed::Uuid(UuidSchema::Bytes) => "bytes",
        Parsed::String | Parsed::Uuid(_) => "string",
        Parsed::Array(_) => "array",
        Parsed::Map(_) => "map",
        _ => "long",
    }
}
