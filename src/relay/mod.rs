//! Where the two sides meet: one loop per MQTT connection, one feed per Kafka partition that somebody wants.
//!
//! `relay` is the only I/O room that knows both MQTT and Kafka. It owns no protocol: the session decides what a packet
//! means, the mapping where a message goes, the cluster when it is stored.
//!
//! * `connection` is the loop of one client, `desk` what is kept for it; `admission`, `inbound`, `answers`, `subscribing`, `placing`,
//!   `granting`, `outbound` and `wills` hold its verbs; `routing` says where a message goes, `losses` counts those that are lost and that nobody waits for.
//! * `allowance` is what programs may take of a turn, of a connection as of whoever reads records.
//! * `authenticate` asks who a client is, away from the reactor, each in its turn (`line`); `enhanced` does so by AUTH; `guard` keeps the answer and what it may do; `audit` tells of refusals,
//!   `identities` counts the clients of each identity.
//! * `mailbox` is what other tasks may hand to a connection; all of it is bounded.
//! * `store` keeps sessions that outlive their connections; `once` carries their QoS 2 between it and the session, `tenancy` is what a
//!   connection keeps for it, `resuming` and `arrivals` bring a session that goes on back to its places, `frontier` takes it forward.
//! * `retained` keeps retained messages and knows which a subscription gets, `retaining` hands them out.
//! * `lookouts` brings subscriptions to Kafka topics that come later and that they read by their names.
//! * `registry` finds the connection of a client id; `hub`, `feed`, `scribe`, `chunk` and `index` bring records to subscribers,
//!   `behind`, `sweep` and `sweep_cache` to those that cannot keep up; `permits` and `patience` share out the memory for that.
//! * `share` are the shared subscriptions of all connections, `shared_out` what one connection has of them.

mod admission;
mod allowance;
mod answers;
mod arrivals;
mod authenticate;
mod behind;
mod budget;
mod burying;
mod chunk;
mod connection;
mod dead_letters;
mod desk;
mod enhanced;
mod feed;
mod frontier;
mod granting;
mod guard;
mod hub;
mod identities;
mod inbound;
mod index;
mod leftover;
mod line;
mod lookouts;
mod losses;
mod mailbox;
mod once;
mod outbound;
mod pace;
mod patience;
mod permits;
mod placing;
mod registry;
mod resuming;
mod retained;
mod retaining;
mod roster;
mod routing;
mod said;
mod scribe;
mod settings;
mod share;
mod shared_out;
mod spread;
mod store;
mod subscribing;
mod sweep;
mod sweep_cache;
mod tenancy;
mod wills;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    audit::Audit,
    downstream::Link,
    mapping::RuleSet,
    metrics::{Metrics, RuleCounters},
    resources::{KeySets, LiveTables, LoginServers, Registries},
    upstream::{Cluster, Receipts},
};

pub use crate::ownership::{Listed, Roster, Shown, Standing};
use authenticate::Logins;
pub use authenticate::read as read_credentials;
use budget::Budget;
use connection::Connection;
use dead_letters::{DeadLetters, Undertaker};
use hub::Hub;
use identities::Identities;
use losses::Losses;
use registry::Registry;
use retained::{Retained, Tasks};
pub use roster::{RosterError, roster};
use said::Said;
pub use settings::{Access, ClientRate, RetainedSettings, Settings, StateTopics, SweepSettings, Unauthorized};
pub use share::SharedKind;
use share::Shares;
use spread::Spread;
pub use store::{DiscardError, StoreSettings, discard};
use store::{Letter, Orders, Store};
use sweep_cache::SweepCache;

/// Serves connections. Cheap to clone.
#[derive(Clone)]
pub struct Relay {
    shared: Arc<Shared>,
}

/// What all connections of the process share.
struct Shared {
    settings: Settings,
    rules: Arc<RuleSet>,
    rule_counters: Arc<[RuleCounters]>,
    losses: Arc<Losses>,
    /// Goes with records that no connection waits for.
    lost: Arc<Receipts>,
    cluster: Cluster,
    metrics: Arc<Metrics>,
    registry: Registry,
    hub: Arc<Hub>,
    shares: Arc<Shares>,
    /// Kafka topics of which it was said that they are missing.
    missing: Arc<Said>,
    /// Refusals of Kafka that were told.
    said: Said,
    spread: Spread,
    /// Sessions that outlive their connections.
    store: Option<Store>,
    logins: Arc<Logins>,
    audit: Audit,
    /// If there is a limit for their clients.
    identities: Option<Arc<Identities>>,
    retained: Option<Arc<Retained>>,
    _tasks: Option<Tasks>,
    /// `None`: no rule has a topic for them.
    dead_letters: Option<Arc<DeadLetters>>,
    _undertaker: Option<Undertaker>,
}

impl Relay {
    /// A relay between the links it is given and a cluster.
    pub fn new(settings: Settings, rules: Arc<RuleSet>, cluster: Cluster, metrics: Arc<Metrics>) -> Self {
        let rule_counters: Arc<[_]> = metrics.rules(rules.iter().map(|(_, rule)| rule.name.as_str())).into();
        let missing = Arc::new(Said::default());
        let registries = Arc::new(Registries::start(&settings.registries, &metrics.outside));
        let tables = Arc::new(live_tables(&rules, &cluster, &metrics, settings.delivery_timeout));
        let hub = Hub::new(
            cluster.clone(),
            (rules.clone(), rule_counters.clone()),
            metrics.clone(),
            missing.clone(),
            SweepCache::new(
                settings.sweeps,
                settings.fetch_size,
                cluster.longest_fetch(),
                metrics.reads_waiting_bytes.clone(),
            ),
            Budget::new(settings.sweeps.for_messages(), metrics.waiting_bytes.clone()),
            (registries, tables),
        );
        let hub = Arc::new(hub.with_own(&settings.state_topics));
        let shares = Shares::new(hub.clone(), &settings.group_prefix, settings.shared);
        let (retained, tasks) = settings.retained.clone().map(|own| Retained::start(own, &hub)).unzip();
        let (cluster_of, timeout) = (cluster.clone(), settings.delivery_timeout);
        let wanted = rules.has_dead_letters().then(|| (rules.clone(), rule_counters.clone()));
        let letters = wanted.map(|(rules, counters)| DeadLetters::start(cluster_of, rules, counters, timeout));
        let (dead_letters, undertaker) = letters.unzip();
        let (losses, lost) = Losses::start(rules.clone(), rule_counters.clone());
        let registry = Registry::default();
        let spread = Spread::new(&rules, settings.batch_size);
        let said = Said::default();
        let store = settings
            .store
            .clone()
            .map(|settings| Store::start(settings, &hub, retained.clone(), dead_letters.clone()));
        let key_sets = KeySets::start(&settings.access.key_sets, &metrics.outside);
        let login_servers = LoginServers::new(&settings.access.login_servers, &metrics.outside);
        let logins = Arc::new(Logins::new(key_sets, login_servers));
        let identities = settings.access.connections_per_identity.map(Identities::new);
        let shared = Shared {
            settings,
            rules,
            rule_counters,
            losses,
            lost,
            cluster,
            metrics,
            registry,
            hub,
            shares,
            missing,
            said,
            spread,
            store,
            logins,
            audit: Audit::default(),
            identities,
            retained,
            _tasks: tasks,
            dead_letters,
            _undertaker: undertaker,
        };
        let shared = Arc::new(shared);
        if let Some(store) = &shared.store {
            tokio::spawn(tell_found(store.found(), Arc::downgrade(&shared)));
        }
        Self { shared }
    }

    /// Serves one connection until it is over, and drops `alive` then.
    pub fn serve<T: Send + 'static>(&self, link: Link, alive: T) -> impl Future<Output = ()> + Send + use<T> {
        Connection::serve(link, self.shared.clone(), alive)
    }

    /// Reads all files of users and keys again, also those that do not look changed, and asks for key sets by URL. What is wrong with one is told.
    pub fn read_credentials_anew(&self) {
        self.shared.logins.refresh_key_sets();
        let shared = self.shared.clone();
        tokio::task::spawn_blocking(move || authenticate::read_anew(&shared.settings.access));
    }

    /// What clients would have to wait for that come now, and its changes: what is read at the start, stored sessions and retained messages.
    pub fn waits_for(&self) -> watch::Receiver<Option<&'static str>> {
        let (tell, told) = watch::channel(Some("starting"));
        let (store, retained, hub) = (self.shared.store.clone(), self.shared.retained.clone(), self.shared.hub.clone());
        tokio::spawn(async move {
            let say = |what| {
                tell.send_if_modified(|now| std::mem::replace(now, what) != what);
            };
            let tells = async {
                if let Some(store) = store {
                    store.begun(|what| say(Some(what))).await;
                }
                let mut loaded = retained.map(|retained| retained.loaded());
                loop {
                    let (tables, reads) = (
                        hub.tables.pending(),
                        loaded.as_mut().is_some_and(|loaded| !*loaded.borrow_and_update()),
                    );
                    let reads = reads.then_some("the retained messages are being read");
                    say(tables.map(|_| "topics of lookup tables are being read").or(reads));
                    let changed = async {
                        match &mut loaded {
                            Some(loaded) => loaded.changed().await.is_err(),
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        is_over = changed => if is_over { return },
                        () = hub.tables.changed(tables) => {}
                    }
                }
            };
            tokio::select! {
                () = tells => tell.closed().await,
                () = tell.closed() => {}
            }
        });
        told
    }

    /// Waits until all retained messages that were taken are on their way to Kafka, and dead letters are stored. To be asked before the
    /// cluster is shut down.
    pub async fn settled(&self) {
        // In this order: a message that is retained is kept until its second record is there.
        if let Some(retained) = &self.shared.retained {
            retained.written().await;
        }
        if let Some(letters) = &self.shared.dead_letters {
            letters.written().await;
        }
    }

    /// Asks all connections to end: what is in flight is answered within the drain timeout, then version 5 clients
    /// get 0x8B. Returns at once; the connections' tasks end by themselves.
    pub fn drain(&self) {
        self.shared.registry.end_all();
        self.shared.shares.drain();
    }

    /// Waits, for a bounded time, until all is written that sessions need for going on elsewhere. To be called when the last connection has
    /// ended, and before the cluster is shut down.
    pub async fn finish(&self) {
        if let Some(store) = &self.shared.store {
            store.finish().await;
        }
    }

    /// Waits until the proxy has said goodbye to the groups of shared subscriptions. After all connections have ended, and before the cluster
    /// is shut down: else the others would get its partitions only after the session timeout.
    pub async fn groups_left(&self) {
        self.shared.shares.all_left().await;
    }
}

/// Has the store told of those who were let in before the topic of stored sessions was found.
async fn tell_found(mut found: watch::Receiver<Option<Arc<[Orders]>>>, shared: Weak<Shared>) {
    if found.wait_for(Option::is_some).await.is_ok()
        && let Some(shared) = shared.upgrade()
    {
        shared.registry.each(|mailbox| mailbox.store(Letter::Found));
    }
}

/// Begins to read the Kafka topics that rules name as tables.
fn live_tables(rules: &RuleSet, cluster: &Cluster, metrics: &Arc<Metrics>, patience: Duration) -> LiveTables {
    let with_topics = || {
        rules
            .iter()
            .filter(|(_, rule)| rule.tables().iter().any(|(_, table)| table.topic().is_some()))
    };
    let tables = with_topics().flat_map(|(_, rule)| rule.tables()).map(|(_, table)| table.clone());
    let for_readers = with_topics().any(|(_, rule)| rule.looks_up_on_the_way_back());
    LiveTables::start(tables.collect(), for_readers, cluster, metrics, patience)
}
