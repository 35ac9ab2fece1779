//! Which topics of the cluster have names that somebody wants: asked for with the metadata, as long as somebody does, when the answer is old
//! or somebody asks anew. Only such names are kept.
//!
//! A topic that the client may not see (no right to DESCRIBE it) is in no list, as if it were not there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use kafka_protocol::messages::{ApiKey, MetadataRequest, MetadataResponse, metadata_response::MetadataResponseTopic};
use tokio::sync::watch;

use super::{
    cluster::{Cluster, Core},
    connection::{CallError, Connection},
};
use crate::kafka::{TopicPattern, error::ErrorCode};

/// Names that are kept. Of more, the first in their order.
const MOST_NAMES: usize = 10_000;

/// The names, in their order.
pub type Names = BTreeSet<Arc<str>>;

/// What was listed last.
#[derive(Clone, Debug, Default)]
struct Listed {
    /// The questions up to this one are answered by it.
    answers: u64,
    names: Arc<Names>,
}

/// All that is wanted, and what is there.
pub(crate) struct Listings {
    /// How many want each.
    wanted: Mutex<BTreeMap<TopicPattern, usize>>,
    /// Counts the questions.
    asked: AtomicU64,
    listed: watch::Sender<Listed>,
    last: Mutex<Option<Instant>>,
    /// The last attempt failed, which was told.
    failed: AtomicBool,
}

impl Default for Listings {
    fn default() -> Self {
        Self {
            wanted: Mutex::default(),
            asked: AtomicU64::new(0),
            listed: watch::Sender::default(),
            last: Mutex::default(),
            failed: AtomicBool::new(false),
        }
    }
}

/// Looks out for topics by their names, until it is dropped.
pub struct Lookout {
    core: Arc<Core>,
    patterns: Vec<TopicPattern>,
    listed: watch::Receiver<Listed>,
    /// What was told last.
    told: Option<Arc<Names>>,
}

impl Cluster {
    /// Looks out for topics with such names: whenever metadata become old they are listed.
    pub fn look_out(&self, patterns: Vec<TopicPattern>) -> Lookout {
        let core = Arc::clone(self.core());
        let mut wanted = core.listings.wanted();
        patterns.iter().for_each(|pattern| *wanted.entry(pattern.clone()).or_default() += 1);
        drop(wanted);
        Lookout {
            listed: core.listings.listed.subscribe(),
            core,
            patterns,
            told: None,
        }
    }
}

impl Lookout {
    /// The topics that are there, asked for after the call. `None` after a shutdown. Cancel-safe.
    pub async fn now(&mut self) -> Option<Vec<Arc<str>>> {
        let question = self.core.listings.asked.fetch_add(1, Relaxed) + 1;
        self.core.refresh.notify_one();
        self.when(|listed, _| listed.answers >= question).await
    }

    /// The topics that are there, once they are others than those that were told last. `None` after a shutdown. Cancel-safe.
    pub async fn change(&mut self) -> Option<Vec<Arc<str>>> {
        let is_news = |listed: &Listed, told: Option<&Arc<Names>>| told.is_none_or(|told| !Arc::ptr_eq(told, &listed.names));
        self.when(is_news).await
    }

    async fn when(&mut self, enough: impl Fn(&Listed, Option<&Arc<Names>>) -> bool) -> Option<Vec<Arc<str>>> {
        let Self { core, listed, told, .. } = self;
        let mut stopped = core.stopped.subscribe();
        let found = tokio::select! {
            found = listed.wait_for(|listed| enough(listed, told.as_ref())) => Arc::clone(&found.ok()?.names),
            _ = stopped.wait_for(|stopped| *stopped) => return None,
        };
        *told = Some(Arc::clone(&found));
        let wanted = |name: &&Arc<str>| self.patterns.iter().any(|pattern| pattern.matches(name));
        Some(found.iter().filter(wanted).cloned().collect())
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        let mut wanted = self.core.listings.wanted();
        for pattern in &self.patterns {
            if let Some(count) = wanted.get_mut(pattern) {
                *count -= 1;
                if *count == 0 {
                    wanted.remove(pattern);
                }
            }
        }
    }
}

impl Listings {
    fn wanted(&self) -> MutexGuard<'_, BTreeMap<TopicPattern, usize>> {
        self.wanted.lock().expect("no code that holds this lock panics")
    }

    /// Whether topics are to be listed now: the questions that are answered by it. `most_age`: of metadata.
    pub(crate) fn due(&self, most_age: Duration) -> Option<u64> {
        let asked = self.asked.load(Relaxed);
        let is_old = self
            .last
            .lock()
            .expect("no code that holds this lock panics")
            .is_none_or(|last| last.elapsed() >= most_age);
        let is_asked = asked > self.listed.borrow().answers;
        ((is_old || is_asked) && !self.wanted().is_empty()).then_some(asked)
    }

    /// Lists the topics. False: this broker does not tell, and another is to be asked soon.
    pub(crate) async fn list(&self, connection: &Connection, question: u64, within: Duration) -> bool {
        match ask(connection, within).await {
            Ok(answer) => {
                self.failed.store(false, Relaxed);
                *self.last.lock().expect("no code that holds this lock panics") = Some(Instant::now());
                self.take(&answer, question);
                true
            }
            Err(why) => {
                if !self.failed.swap(true, Relaxed) {
                    tracing::warn!(broker = &*connection.address, why, "the topics of the cluster cannot be listed");
                }
                false
            }
        }
    }

    fn take(&self, answer: &MetadataResponse, question: u64) {
        let wanted: Vec<TopicPattern> = self.wanted().keys().cloned().collect();
        let is_there = |told: &&MetadataResponseTopic| ErrorCode::from(told.error_code).is_ok() && !told.is_internal;
        let told = answer.topics.iter().filter(is_there);
        let mut names: Names = told
            .filter_map(|told| told.name.as_ref())
            .filter(|name| wanted.iter().any(|pattern| pattern.matches(name)))
            .map(|name| Arc::from(name.as_str()))
            .collect();
        if let Some(first) = names.iter().nth(MOST_NAMES).cloned() {
            tracing::warn!(
                most = MOST_NAMES,
                found = names.len(),
                "more topics than are looked out for; those behind are left out"
            );
            names.split_off(&first);
        }
        self.listed.send_modify(|listed| {
            listed.answers = question;
            if *listed.names != names {
                listed.names = Arc::new(names);
            }
        });
    }
}

async fn ask(connection: &Connection, within: Duration) -> Result<MetadataResponse, String> {
    let version = connection.version(ApiKey::Metadata, 13);
    let version = version.ok_or("the broker shares no version of Metadata")?;
    let request = MetadataRequest::default().with_topics(None).with_allow_auto_topic_creation(false);
    let why = |error: CallError| error.to_string();
    let mut sent = connection.send(ApiKey::Metadata, version, &request, within).map_err(why)?;
    let answer: MetadataResponse = sent.answer().await.map_err(why)?;
    match ErrorCode::from(answer.error_code) {
        code if code.is_ok() => Ok(answer),
        code => Err(code.name().to_owned()),
    }
}
