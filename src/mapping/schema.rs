//! `value` of a rule: what stands in Kafka has a schema, and devices have JSON. Both ways go through here.

use std::sync::Arc;

use super::draft::Inbound;
use super::route::RefusalReason;
use super::rules::{RuleId, RuleSet};
use super::skip::SkipReason;
use crate::schema::{Catalog, Format, Json, LARGEST, Misfit, Unread, Why, Writer, Written};

/// The schemas of a rule's values. What they say is put there by others, while the rules are in use.
#[derive(Clone, Debug)]
pub struct SchemaSpec {
    /// Those of records that are read, by their ids.
    pub catalog: Arc<Catalog>,
    /// What is written with; `None`: the rule only reads.
    pub writer: Option<Writing>,
}

/// What a rule writes with.
#[derive(Clone, Debug)]
pub struct Writing {
    /// The registry's name for it.
    pub subject: String,
    /// The newest schema of that.
    pub writer: Arc<Writer>,
}

/// A schema that is looked for before a record can be read.
#[derive(Clone, Debug)]
pub struct MissingSchema {
    /// Where it is to be put.
    pub catalog: Arc<Catalog>,
    /// Its id.
    pub id: u32,
}

/// Why a payload cannot be written, in words.
#[derive(Debug)]
pub struct Unwritable {
    /// For metrics and the device.
    pub reason: RefusalReason,
    /// What does not fit, if it is that.
    pub misfit: Option<Misfit>,
}

impl From<RefusalReason> for Unwritable {
    fn from(reason: RefusalReason) -> Self {
        Self { reason, misfit: None }
    }
}

impl SchemaSpec {
    /// The language of the schemas.
    pub fn format(&self) -> Format {
        self.catalog.format()
    }

    /// The schema that is written with, if it is known.
    pub fn written(&self) -> Option<Arc<Written>> {
        self.writer.as_ref().and_then(|writing| writing.writer.get())
    }

    /// Reads what is to be written; `None`: it is empty, so there is no value.
    ///
    /// # Errors
    /// It is no JSON, has a member twice, or is too large.
    pub fn parse<'t>(&self, json: &'t [u8]) -> Result<Option<Json<'t>>, Unwritable> {
        match json.len() {
            0 => Ok(None),
            1..=LARGEST => match Json::read(json) {
                Ok(json) => Ok(Some(json)),
                Err(misfit) if misfit.why == Why::Damaged => Err(RefusalReason::NotJson.into()),
                Err(misfit) => Err(unwritable(misfit)),
            },
            _ => Err(RefusalReason::ValueTooLarge.into()),
        }
    }

    /// Appends a value as it stands in Kafka. Without one nothing is: false, and the record's is null, as Kafka's own serializers do.
    ///
    /// # Errors
    /// The schema does not allow it, or is not known. `out` is as it was.
    pub fn write(&self, json: Option<&Json<'_>>, out: &mut Vec<u8>) -> Result<bool, Unwritable> {
        let Some(json) = json else { return Ok(false) };
        let written = self.written().ok_or(RefusalReason::NoSchema)?;
        written.encode(json, out).map_err(unwritable)?;
        Ok(true)
    }

    /// Appends the JSON of a record's value.
    ///
    /// # Errors
    /// It has no schema that is known, or is not as that says.
    pub fn read(&self, value: &[u8], out: &mut Vec<u8>) -> Result<(), Unread> {
        self.catalog.decode(value, out)
    }
}

fn unwritable(misfit: Misfit) -> Unwritable {
    let reason = match misfit.why {
        Why::TooMuch => RefusalReason::ValueTooLarge,
        Why::Mismatch | Why::Damaged => RefusalReason::SchemaMismatch,
    };
    Unwritable {
        reason,
        misfit: Some(misfit),
    }
}

/// Why a record is passed over whose value cannot be read.
pub(super) fn skip_reason(unread: &Unread) -> SkipReason {
    match unread {
        Unread::Unframed => SkipReason::NotFramed,
        Unread::Unknown(_) | Unread::NoSchema(_) => SkipReason::NoSchema,
        Unread::Misfit(misfit) if misfit.why == Why::TooMuch => SkipReason::ValueTooLarge,
        Unread::Misfit(_) => SkipReason::SchemaMismatch,
    }
}

impl RuleSet {
    /// The schema that the rule needs to read a record's value and that is not known yet.
    pub fn missing_schema(&self, id: RuleId, value: Option<&[u8]>) -> Option<MissingSchema> {
        let spec = self.rule(id).schema.as_ref()?;
        let id = spec.catalog.wanted(value?)?;
        Some(MissingSchema {
            catalog: spec.catalog.clone(),
            id,
        })
    }

    /// The payload of a record by a rule: its value as it is, or made in `memory` from what its schema says. A tombstone's is empty.
    ///
    /// # Errors
    /// Why it is passed over.
    pub fn payload<'a>(&self, id: RuleId, value: Option<&'a [u8]>, memory: &'a mut Vec<u8>) -> Result<&'a [u8], SkipReason> {
        let (Some(spec), Some(value)) = (&self.rule(id).schema, value) else {
            return Ok(value.unwrap_or(b""));
        };
        memory.clear();
        spec.read(value, memory).map_err(|unread| skip_reason(&unread))?;
        Ok(memory)
    }

    /// The payload that subscribers get of what was routed to record `value` of a rule: not always that of the device, since the
    /// schema may have its own way to write it.
    pub fn payload_of_own<'a>(&self, id: RuleId, value: Option<&'a [u8]>, inbound: &Inbound<'a>, memory: &'a mut Vec<u8>) -> &'a [u8] {
        // What was just written can be read.
        self.payload(id, value, memory).unwrap_or(inbound.publish.payload)
    }
}
