//! Schemas of records, by the ids that stand in them. Ids are strangers' to choose: each is asked for by one question at a time, few at a time,
//! and one of which the registry has nothing is not asked for again for a while.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::client::{Found, NotFound, RegistryClient};
use crate::{
    schema::{Catalog, Known, Schema},
    upstream::backoff,
};

/// How long a registry that is away is asked again, and somebody waits for it.
const PATIENCE: Duration = Duration::from_secs(30);
/// The wait after the first failure, and the longest.
const FIRST: Duration = Duration::from_millis(200);
const MOST: Duration = Duration::from_secs(2);
/// How long nothing is read of an id after it could not be asked for, and after the registry had nothing of it.
const AWAY: Duration = Duration::from_secs(10);
const MISSING: Duration = Duration::from_secs(60);
/// Questions under way, and ids that are looked for or wait for that.
const TURNS: usize = 4;
const MOST_WANTED: usize = 256;

/// The ids of one registry and format.
#[derive(Debug)]
pub(super) struct ById {
    client: Arc<RegistryClient>,
    catalog: Arc<Catalog>,
    turns: Semaphore,
    /// Taken for a look, never over an await.
    state: Mutex<Looking>,
}

#[derive(Debug, Default)]
struct Looking {
    /// Closed when something is known.
    wanted: HashMap<u32, watch::Receiver<()>>,
    tasks: JoinSet<()>,
    /// Of which nothing is known, and when that is over.
    misses: VecDeque<(Instant, u32)>,
    /// What went wrong the last time, as it was told.
    told: Option<String>,
}

impl ById {
    pub(super) fn new(client: Arc<RegistryClient>, catalog: Arc<Catalog>) -> Arc<Self> {
        Arc::new(Self {
            client,
            catalog,
            turns: Semaphore::new(TURNS),
            state: Mutex::default(),
        })
    }

    pub(super) fn is_of(&self, catalog: &Arc<Catalog>) -> bool {
        Arc::ptr_eq(&self.catalog, catalog)
    }

    pub(super) async fn look_up(self: &Arc<Self>, id: u32) {
        let Some(mut known) = self.begin(id) else { return };
        // An error: it is known, or the process ends.
        let _ = timeout(2 * PATIENCE, known.changed()).await;
    }

    /// Has it looked for, unless somebody has; `None`: it is known, or there is no room.
    fn begin(self: &Arc<Self>, id: u32) -> Option<watch::Receiver<()>> {
        let mut state = self.state();
        if let Some(known) = state.wanted.get(&id) {
            return Some(known.clone());
        }
        if self.catalog.knows(id) || state.wanted.len() >= MOST_WANTED {
            return None;
        }
        let (tell, known) = watch::channel(());
        state.wanted.insert(id, known.clone());
        while state.tasks.try_join_next().is_some() {}
        let this = self.clone();
        state.tasks.spawn(async move {
            this.find(id).await;
            drop(tell);
        });
        Some(known)
    }

    async fn find(&self, id: u32) {
        let found = match self.turns.acquire().await {
            Ok(_turn) => self.ask(id).await,
            Err(_) => return,
        };
        let again = match &found {
            Ok(_) => None,
            Err(NotFound::Away(_)) => Some(AWAY),
            Err(NotFound::Missing(_)) => Some(MISSING),
        };
        let mut state = self.state();
        let wrong = match found {
            Ok(schema) => {
                self.catalog.put(id, Known::Schema(Arc::new(schema)));
                None
            }
            Err(NotFound::Away(why) | NotFound::Missing(why)) => {
                self.catalog.put(id, Known::None);
                Some(why)
            }
        };
        self.tell(&mut state, wrong);
        state.wanted.remove(&id);
        if let Some(again) = again {
            state.misses.push_back((Instant::now() + again, id));
        }
    }

    /// Asks until there is an answer, or patience has run out.
    async fn ask(&self, id: u32) -> Result<Schema, NotFound> {
        let (format, until, mut failures) = (self.catalog.format(), Instant::now() + PATIENCE, 0);
        let Found { text, .. } = loop {
            let wait = backoff::wait(failures, FIRST, MOST);
            match self.client.of_id(id, format).await {
                Ok(found) => break found,
                Err(NotFound::Away(_)) if Instant::now() + wait < until => sleep(wait).await,
                Err(not) => return Err(not),
            }
            failures += 1;
        };
        let compiled = tokio::task::spawn_blocking(move || Schema::compile(format, &text, None)).await;
        let compiled = compiled.unwrap_or_else(|_| Err("broke our compiler".to_owned()));
        compiled.map_err(|why| NotFound::Missing(format!("its schema {id} {why}")))
    }

    /// Tells what goes wrong, each reason once.
    fn tell(&self, state: &mut Looking, wrong: Option<String>) {
        if state.told != wrong
            && let Some(why) = &wrong
        {
            tracing::error!(url = %self.client.url(), why, "records cannot be read for lack of their schema and are passed over");
        }
        state.told = wrong;
    }

    fn state(&self) -> MutexGuard<'_, Looking> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has ids asked for again of which there was nothing, for ever.
pub(super) async fn forget_misses(of: Arc<ById>) {
    loop {
        sleep(Duration::from_secs(1)).await;
        let (mut state, now) = (of.state(), Instant::now());
        let mut over = Vec::new();
        state.misses.retain(|(until, id)| {
            if *until <= now {
                over.push(*id);
            }
            *until > now
        });
        over.into_iter().for_each(|id| of.catalog.forget(id));
    }
}
