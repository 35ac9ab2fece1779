//! Schema registries that speak Confluent's interface: the newest schemas of the subjects that rules write, kept fresh by one task for each
//! registry, and those of other records by their ids, when somebody meets one.
//!
//! Nobody asks a registry while a message waits in its connection: what is not known is refused there. Who reads Kafka may wait, for a
//! bounded time.

mod by_id;
mod client;
mod subjects;

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;

use crate::{
    metrics::OutsideCounters,
    schema::{Catalog, Format, Writer},
    upstream::{Secret, http::HttpSettings},
};

use by_id::ById;
use client::RegistryClient;
pub use subjects::examine;

/// A registry, and what rules want of it.
#[derive(Clone, Debug)]
pub struct RegistrySettings {
    /// Where it is: what its paths begin with.
    pub http: HttpSettings,
    /// Who we are there.
    pub login: RegistryLogin,
    /// How often it is asked for the newest schemas.
    pub refresh: Duration,
    /// Where rules find schemas by their ids, one for each format.
    pub catalogs: Vec<Arc<Catalog>>,
    /// What rules write with, each once.
    pub subjects: Vec<SubjectSettings>,
}

/// What a registry is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryLogin {
    /// Nothing.
    Nobody,
    /// A user and its password (RFC 7617).
    Basic(String, Secret),
    /// A token (RFC 6750).
    Bearer(Secret),
}

/// A subject that rules write.
#[derive(Clone, Debug)]
pub struct SubjectSettings {
    /// Its name.
    pub name: String,
    /// What its schemas must be.
    pub format: Format,
    /// The message that is written, of a Protobuf schema; `None`: its first.
    pub message: Option<String>,
    /// Where rules find the schema.
    pub writer: Arc<Writer>,
}

/// All registries of the process, and their tasks.
#[derive(Debug, Default)]
pub struct Registries {
    by_id: Vec<Arc<ById>>,
    _tasks: JoinSet<()>,
}

impl Registries {
    /// Begins to ask.
    pub fn start(settings: &[RegistrySettings], counters: &OutsideCounters) -> Self {
        let (mut tasks, mut all) = (JoinSet::new(), Vec::new());
        for settings in settings {
            let client = Arc::new(RegistryClient::new(settings, counters.clone()));
            for catalog in &settings.catalogs {
                let by_id = ById::new(client.clone(), catalog.clone());
                tasks.spawn(by_id::forget_misses(by_id.clone()));
                all.push(by_id);
            }
            if !settings.subjects.is_empty() {
                tasks.spawn(subjects::keep(settings.clone(), client));
            }
        }
        Self { by_id: all, _tasks: tasks }
    }

    /// Has the schema of this id looked for, and waits until something is known of it: half a minute at most.
    pub async fn look_up(&self, catalog: &Arc<Catalog>, id: u32) {
        if let Some(by_id) = self.by_id.iter().find(|by_id| by_id.is_of(catalog)) {
            by_id.look_up(id).await;
        }
    }
}
