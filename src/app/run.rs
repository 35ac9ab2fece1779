//! `run`: builds every room, starts them, waits for a signal, and ends them in order.
//!
//! A port that is taken is told at once, before a connection exists. Kafka may be away: the proxy listens all the same,
//! and `/readyz` says why it is not ready.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::admin::{Admin, Pages, Ready};
use crate::auth::Method;
use crate::config::{Config, Hidden, Problem};
use crate::downstream::{Address, Gate, Listener, unnamed_sockets};
use crate::metrics::Metrics;
use crate::relay::{self, Relay, SharedKind};
use crate::resources::table_files;
use crate::upstream::{self, Cluster, State, StateTopic};

use super::descriptors::make_room;
use super::exit::{Exit, tell};
use super::lifecycle::{Signals, ended, tell_readiness};
use super::online::topics::named;

/// From the signal until the process leaves, whatever is still in flight.
const DRAIN: Duration = Duration::from_secs(10);

/// Of that, what connections have for the answers that they owe. The rest is for their last bytes and for records that
/// nobody waits for.
const CONNECTIONS_DRAIN: Duration = Duration::from_secs(8);

/// Turns of tasks between two looks at the sockets. The runtime's own 61 were up to 47 ms, measured, while a flood of connections shook hands.
const TURNS: u32 = 16;

/// Warnings of the configuration that are logged; `check` tells all of them.
const MOST_WARNINGS: usize = 20;

/// Starts the runtime, with as many threads as there are cores, and everything in it.
pub(super) fn run(config: Config) -> Exit {
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .event_interval(TURNS)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(e) => {
            tell(&format_args!(
                "the system refuses to start threads: {e}; raise the limits of the process"
            ));
            return Exit::System;
        }
    };
    let exit = runtime.block_on(Box::pin(live(config))).unwrap_or_else(|exit| exit);
    // What still blocks (a scrape, a name look-up) is not waited for.
    runtime.shutdown_background();
    exit
}

/// From the ports to the exit code.
async fn live(mut config: Config) -> Result<Exit, Exit> {
    let mut signals = Signals::new().map_err(|e| {
        tell(&format_args!(
            "the system refuses to tell of signals: {e}; raise the limits of the process"
        ));
        Exit::System
    })?;
    let mut metrics = Metrics::new();
    let cluster = Cluster::start(upstream::Settings {
        state_topics: state_topics(&config),
        ..config.kafka.clone()
    });
    cluster.counters().register(metrics.registry());
    let metrics = Arc::new(metrics);
    let ports = Ports::take(&config, &metrics).await?;
    // What is told of files from here on is told of those that were read: what variables hold there are their paths.
    config.hidden = Hidden::default();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), rules = config.rules.len(), "starting");
    tell_of_warnings(&config.warnings);
    tell_of_open_listeners(&config);
    tell_of_unnamed_sockets(&config);
    make_room(config.limits.connections);
    let topics: Vec<String> = named(&config).into_keys().collect();
    let tables = config.rules.tables();
    let relay = Relay::new(relay_settings(&config), Arc::new(config.rules), cluster.clone(), metrics.clone());
    let (end, ending) = watch::channel(false);
    let mut open = ports.open(&relay, &cluster, &metrics, &ending);
    tokio::spawn(look_at(cluster.clone(), topics));
    if !tables.is_empty() {
        tokio::spawn(table_files::watch(tables.clone()));
    }
    if config.shared == SharedKind::ShareGroup {
        tokio::spawn(look_for_share_groups(cluster.clone()));
    }
    let certificates = std::mem::take(&mut open.certificates);
    let read_anew = || {
        certificates.iter().for_each(|read| read());
        relay.read_credentials_anew();
        for table in tables.clone() {
            tokio::task::spawn_blocking(move || table_files::read_anew(&table));
        }
    };
    tokio::select! {
        signal = signals.end(read_anew) => tracing::info!(signal, "ending: no more connections are taken"),
        // They go on until the end, so this is a panic: better to be started anew than to be there and deaf.
        _ = open.tasks.join_next() => {
            tracing::error!("a listener ended by a fault of the program");
            return Err(Exit::Internal);
        }
    }
    end.send_replace(true);
    tokio::select! {
        () = drain(open, &relay, &cluster) => Ok(Exit::Done),
        signal = signals.end(|| ()) => {
            tracing::warn!(signal, "ending at once; what is in flight is given up");
            Ok(Exit::Hurried)
        }
    }
}

/// The ports, taken. Nobody is served yet.
struct Ports {
    listeners: Vec<Listener>,
    admin: Option<(Admin, Bytes)>,
}

/// What runs at the ports.
struct Open {
    /// One for each port.
    tasks: JoinSet<()>,
    /// Ends when no listener and no connection is left: each holds a sender.
    alive: mpsc::Receiver<()>,
    /// One for each listener: has its certificates read.
    certificates: Vec<Box<dyn Fn() + Send + Sync>>,
}

impl Ports {
    /// All of them or none; each one that cannot be had is told.
    async fn take(config: &Config, metrics: &Arc<Metrics>) -> Result<Self, Exit> {
        let gate = Gate::new(config.limits);
        let (mut listeners, mut worst) = (vec![], None);
        for settings in &config.listeners {
            // The same fault would come from `bind`; here it is known to be one of files.
            if let Err(e) = Listener::check(settings) {
                tell(&config.hidden.without_in(e));
                worst = Some(Exit::Usage);
                continue;
            }
            match Listener::bind(settings, &gate, metrics) {
                Ok(listener) => listeners.push(listener),
                Err(e) => {
                    // Addresses are told in full: who holds a port must be looked for. A path may be anything.
                    let is_path = matches!(settings.address, Address::Unix(_));
                    tell(&if is_path { config.hidden.without_in(e) } else { e });
                    worst.get_or_insert(Exit::System);
                }
            }
        }
        let mut admin = None;
        if let Some(settings) = &config.admin {
            match Admin::bind(settings).await {
                Ok(bound) => admin = Some((bound, Bytes::from(config.shown.clone()))),
                Err(e) => {
                    tell(&e);
                    worst.get_or_insert(Exit::System);
                }
            }
        }
        match worst {
            None => Ok(Self { listeners, admin }),
            Some(exit) => Err(exit),
        }
    }

    /// Serves, until `ending` is set.
    fn open(self, relay: &Relay, cluster: &Cluster, metrics: &Arc<Metrics>, ending: &watch::Receiver<bool>) -> Open {
        let (mut tasks, mut certificates) = (JoinSet::new(), Vec::<Box<dyn Fn() + Send + Sync>>::new());
        let (living, alive) = mpsc::channel(1);
        for listener in self.listeners {
            let (name, protocol, address) = (listener.name(), listener.protocol(), listener.address());
            tracing::info!(listener = name, protocol, %address, "listening");
            let (relay, living) = (relay.clone(), living.clone());
            let on_link = move |link| relay.serve(link, living.clone());
            certificates.push(Box::new(listener.read_files_anew()));
            tasks.spawn(listener.run(on_link, ended(ending.clone())));
        }
        let (ready, readiness) = watch::channel(Ready::No("starting".to_owned()));
        tasks.spawn(tell_readiness(cluster.state(), relay.waits_for(), ending.clone(), ready));
        if let Some((admin, configuration)) = self.admin {
            if let Ok(address) = admin.local_address() {
                tracing::info!(%address, "admin");
            }
            // Not until `ending`: while it drains, an operator still sees how far it is. It ends with the runtime.
            let pages = Pages {
                metrics: metrics.clone(),
                ready: readiness,
                configuration,
            };
            tasks.spawn(admin.run(pages, pending()));
        }
        Open {
            tasks,
            alive,
            certificates,
        }
    }
}

/// Answers what is in flight, tells the clients, and leaves, within [`DRAIN`].
async fn drain(mut open: Open, relay: &Relay, cluster: &Cluster) {
    let all = async {
        relay.drain();
        // Nothing is ever sent: this ends with the last of the senders.
        while open.alive.recv().await.is_some() {}
        relay.settled().await;
        relay.finish().await;
        relay.groups_left().await;
        cluster.shutdown().await;
    };
    match tokio::time::timeout(DRAIN, all).await {
        Ok(()) => tracing::info!("ended: everything in flight is finished"),
        Err(_) => tracing::warn!(bound = ?DRAIN, "ended with some still in flight; devices send again what was not acknowledged"),
    }
}

/// What `check` warns of is seen by those who never call it, too.
fn tell_of_warnings(warnings: &[Problem]) {
    for warning in warnings.iter().take(MOST_WARNINGS) {
        let Problem {
            line,
            column,
            message,
            remedy,
        } = warning;
        tracing::warn!(line, column, remedy, "the configuration: {message}");
    }
    if warnings.len() > MOST_WARNINGS {
        let more = warnings.len() - MOST_WARNINGS;
        tracing::warn!(more, "the configuration has more warnings: `mqtt-kafka-proxy check` tells all");
    }
}

/// It is written, and stays a thing to be reminded of. So is `anonymous`, of which a list has other methods in front.
fn tell_of_open_listeners(config: &Config) {
    for listener in &config.listeners {
        match config.access.chain(&listener.name) {
            None => tracing::warn!(
                listener = listener.name,
                "`authentication: none`: whoever reaches this listener is let in as nobody, with a certificate where `client_auth` requires one"
            ),
            Some(chain) if chain.methods().any(|method| matches!(method, Method::Anonymous)) => tracing::info!(
                listener = listener.name,
                "`method: anonymous`: who shows neither user name nor password is let in as nobody"
            ),
            Some(_) => {}
        }
    }
}

/// A socket that systemd hands over and no listener takes looks open from outside.
fn tell_of_unnamed_sockets(config: &Config) {
    for place in unnamed_sockets(config.listeners.iter().map(|listener| &listener.address)) {
        tracing::warn!(
            address = %format_args!("systemd:{place}"),
            "a socket was handed over that no listener names: who connects there gets no answer"
        );
    }
}

/// Has the client look at the topics of rules as soon as Kafka is reached: it logs those that are not there before a device meets one.
async fn look_at(cluster: Cluster, topics: Vec<String>) {
    for topic in topics {
        cluster.topic_known(&topic).await;
    }
}

/// Tells at once, and not only a device that meets it, if the brokers cannot do what `sessions.shared` asks for.
async fn look_for_share_groups(cluster: Cluster) {
    // Its end is that of the client.
    let _ = cluster.state().wait_for(|state| *state == State::Ready).await;
    if let Ok(Some(lacks)) = cluster.lacks_share_groups().await {
        tracing::error!(
            lacks,
            "`sessions.shared` is `share-group`, and the brokers have no share groups (Apache Kafka 4.2 or newer has them): shared subscriptions are \
             refused"
        );
    }
}

/// The state topics that this configuration rests on.
pub(super) fn state_topics(config: &Config) -> Vec<StateTopic> {
    let topics = &config.state_topics;
    let mut used = Vec::new();
    used.extend(config.store.is_some().then(|| topics.sessions.clone()));
    used.extend(config.rules.keeps_retained().then(|| topics.retained.clone()));
    used
}

/// The group of the instances that keep state.
pub(super) fn instances(config: &Config) -> String {
    format!("{}-instances", config.state_topics.sessions.name)
}

/// Until no record of an older retained message can come. Its mapped record may take the delivery timeout to be acknowledged, and so may the
/// retained one then; of a will both may be another instance's to write, after its own is found to be dead.
fn removal_delay(config: &Config) -> Duration {
    let instance_timeout = config.store.as_ref().map_or(Duration::ZERO, |store| store.instance_timeout);
    2 * (config.kafka.producer.delivery_timeout + instance_timeout)
}

fn relay_settings(config: &Config) -> relay::Settings {
    relay::Settings {
        session: Arc::new(config.session),
        delivery_timeout: config.kafka.producer.delivery_timeout,
        batch_size: config.kafka.producer.batch_size,
        drain_timeout: CONNECTIONS_DRAIN,
        rate: config.rate,
        sweeps: config.sweeps,
        group_prefix: config.group_prefix.clone(),
        shared: config.shared,
        payload_format_check: config.payload_format_check,
        fetch_size: config.kafka.consumer.fetch_size,
        store: config.store.clone(),
        access: config.access.clone(),
        registries: config.registries.clone(),
        retained: config.rules.keeps_retained().then(|| relay::RetainedSettings {
            topic: config.state_topics.retained.name.clone(),
            memory: config.retained_memory,
            removal_delay: removal_delay(config),
            group: config.store.is_none().then(|| instances(config)),
        }),
        state_topics: vec![config.state_topics.sessions.name.clone(), config.state_topics.retained.name.clone()],
    }
}
