//! Schemas as rules find them: put there by whoever asks the registry, and never waited for here.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, PoisonError, RwLock},
};

use super::{
    LARGEST,
    compiled::{Format, Schema},
    framing::{self, Framed},
    json::Json,
    misfit::Misfit,
};

/// Schemas by id that are kept. One that is gone is asked for again.
const MOST: usize = 1_000;

/// What is known of an id.
#[derive(Clone, Debug)]
pub enum Known {
    /// Its schema.
    Schema(Arc<Schema>),
    /// The registry has none, or none that can be used: of this id nothing is read until it is asked for again.
    None,
}

/// The schemas of one registry, of one format, by their ids.
#[derive(Debug)]
pub struct Catalog {
    format: Format,
    known: RwLock<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    by_id: HashMap<u32, Known>,
    /// In the order in which they came.
    order: VecDeque<u32>,
}

/// Why the value of a record cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// No zero byte and id in front.
    Unframed,
    /// The schema of this id is not known yet.
    Unknown(u32),
    /// The registry has no schema of this id that can be used.
    NoSchema(u32),
    /// It is not as its schema says.
    Misfit(Misfit),
}

impl Catalog {
    /// An empty one.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            known: RwLock::default(),
        }
    }

    /// The language of its schemas.
    pub fn format(&self) -> Format {
        self.format
    }

    /// What is known of an id; `None`: nothing yet.
    pub fn get(&self, id: u32) -> Option<Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).by_id.get(&id).cloned()
    }

    /// Whether something is known of an id.
    pub fn knows(&self, id: u32) -> bool {
        self.known.read().unwrap_or_else(PoisonError::into_inner).by_id.contains_key(&id)
    }

    /// What is known of an id from now on.
    pub fn put(&self, id: u32, known: Known) {
        let mut kept = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if kept.by_id.insert(id, known).is_some() {
            return;
        }
        kept.order.push_back(id);
        if kept.order.len() > MOST
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.by_id.remove(&oldest);
        }
    }

    /// Forgets an id of which the registry had nothing.
    pub fn forget(&self, id: u32) {
        let mut kept = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(kept.by_id.get(&id), Some(Known::None)) {
            kept.by_id.remove(&id);
            kept.order.retain(|other| *other != id);
        }
    }

    /// The id of a value whose schema is not known yet.
    pub fn wanted(&self, value: &[u8]) -> Option<u32> {
        let id = Framed::read(value).ok()?.id;
        (!self.knows(id)).then_some(id)
    }

    /// Appends the JSON of a record's value.
    ///
    /// # Errors
    /// It has no frame, its schema is not known, or it is not as that says. `out` is as it was.
    pub fn decode(&self, value: &[u8], out: &mut Vec<u8>) -> Result<(), Unread> {
        let framed = Framed::read(value).map_err(|_| Unread::Unframed)?;
        match self.get(framed.id) {
            Some(Known::Schema(schema)) => schema.decode_text(framed.rest, out).map_err(Unread::Misfit),
            Some(Known::None) => Err(Unread::NoSchema(framed.id)),
            None => Err(Unread::Unknown(framed.id)),
        }
    }
}

/// The schema that records of a subject are written with, under its id.
#[derive(Debug)]
pub struct Written {
    /// The registry's.
    pub id: u32,
    /// The schema.
    pub schema: Arc<Schema>,
}

impl Written {
    /// Appends the value of a record.
    ///
    /// # Errors
    /// The schema does not allow it. `out` is as it was.
    pub fn encode(&self, json: &Json<'_>, out: &mut Vec<u8>) -> Result<(), Misfit> {
        let start = out.len();
        framing::put_id(self.id, out);
        let encoded = self.schema.encode(json, out).and_then(|()| match out.len() - start <= LARGEST {
            true => Ok(()),
            false => Err(Misfit::too_much(format!("becomes more than {LARGEST} bytes"))),
        });
        if encoded.is_err() {
            out.truncate(start);
        }
        encoded
    }
}

/// What a rule writes with: the version of its subject that was newest when the registry was asked last.
#[derive(Debug, Default)]
pub struct Writer {
    now: RwLock<Option<Arc<Written>>>,
}

impl Writer {
    /// The schema; `None`: the registry has not been reached yet, or has none that can be used.
    pub fn get(&self) -> Option<Arc<Written>> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another one, for all that is written from now on.
    pub fn set(&self, written: Written) {
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(written));
    }
}
