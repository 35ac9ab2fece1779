//! The whole proxy in one process, as `app` wires it: a listener, the relay and the Kafka client, with a fake broker behind them.
//!
//! Devices are `device::Device`, records of other producers come from `fake_broker::records`. Nothing here sleeps for a fixed time:
//! tests wait for conditions, and "nothing comes" is shown by a PINGRESP that overtakes nothing.

#![allow(dead_code)] // Each test binary uses its part.
#![allow(clippy::unwrap_used)] // Test code, though not in a test function.

pub mod device;

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use mqtt_kafka_proxy::{
    config::{self, Config},
    downstream::{Gate, Listener},
    metrics::Metrics,
    relay::{self, Relay},
    upstream::{Cluster, State},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};

use crate::fake_broker::{Fake, client::until};
use device::Device;

/// Nothing in these tests may take longer.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running proxy. What it runs ends with it.
pub struct Stage {
    pub fake: Arc<Fake>,
    pub cluster: Cluster,
    pub relay: Relay,
    pub metrics: Arc<Metrics>,
    pub address: SocketAddr,
    /// Set: no more connections are taken.
    end: watch::Sender<bool>,
    /// Ends with the last connection.
    alive: mpsc::Receiver<()>,
    _listener: JoinSet<()>,
}

impl Stage {
    /// A proxy with these rules (the YAML list under `rules:`), ready. The topics are in the fake broker already.
    pub async fn start(fake: impl Into<Arc<Fake>>, rules: &str) -> Self {
        Self::with(fake, rules, |_| {}).await
    }

    /// The same with other settings.
    pub async fn with(fake: impl Into<Arc<Fake>>, rules: &str, change: impl FnOnce(&mut Config)) -> Self {
        let stage = Self::launch(fake, rules, change).await;
        stage.ready().await;
        stage
    }

    /// The same, not waiting for Kafka.
    pub async fn launch(fake: impl Into<Arc<Fake>>, rules: &str, change: impl FnOnce(&mut Config)) -> Self {
        let fake = fake.into();
        let mut config = parse(rules, fake.addresses[0]);
        // The fake broker has the topic only where a test makes it.
        config.session.retain_available = false;
        change(&mut config);
        let mut metrics = Metrics::new();
        let cluster = Cluster::start(config.kafka.clone());
        cluster.counters().register(metrics.registry());
        let metrics = Arc::new(metrics);
        let settings = relay::Settings {
            session: Arc::new(config.session),
            delivery_timeout: config.kafka.producer.delivery_timeout,
            batch_size: config.kafka.producer.batch_size,
            // Nobody may need it: a test that does waits for ever.
            drain_timeout: 3 * PATIENCE,
            rate: config.rate,
            sweeps: config.sweeps,
            group_prefix: config.group_prefix.clone(),
            shared: config.shared,
            payload_format_check: config.payload_format_check,
            fetch_size: config.kafka.consumer.fetch_size,
            store: config.store,
            access: config.access,
            registries: config.registries,
            retained: config.session.retain_available.then(|| relay::RetainedSettings {
                topic: config.state_topics.retained.name.clone(),
                memory: config.retained_memory,
                // Nobody looks after it: what a test writes there stays as it is.
                removal_delay: Duration::MAX,
                group: None,
            }),
            state_topics: vec![config.state_topics.retained.name.clone()],
        };
        let relay = Relay::new(settings, Arc::new(config.rules), cluster.clone(), metrics.clone());
        let listener = Listener::bind(&config.listeners[0], &Gate::new(config.limits), &metrics).unwrap();
        let address = listener.local_address().unwrap();
        let (end, mut ending) = watch::channel(false);
        let (living, alive) = mpsc::channel::<()>(1);
        let serve = relay.clone();
        let on_link = move |link| serve.serve(link, living.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(listener.run(on_link, async move { drop(ending.wait_for(|end| *end).await) }));
        Self {
            fake,
            cluster,
            relay,
            metrics,
            address,
            end,
            alive,
            _listener: tasks,
        }
    }

    /// Until Kafka is reached.
    pub async fn ready(&self) {
        let mut state = self.cluster.state();
        timeout(PATIENCE, state.wait_for(|s| *s == State::Ready)).await.unwrap().unwrap();
    }

    /// A version 5 device, connected.
    pub async fn v5(&self, client: &str) -> Device {
        Device::connected(self.address, 5, client).await
    }

    /// A version 3.1.1 device, connected.
    pub async fn v4(&self, client: &str) -> Device {
        Device::connected(self.address, 4, client).await
    }

    /// What SIGTERM does: no more connections, and those that are there finish.
    pub fn begin_drain(&self) {
        self.end.send_replace(true);
        self.relay.drain();
    }

    /// Until the last connection has ended, the will it leaves included, and Kafka has all of it.
    pub async fn ended(&mut self) {
        let all = timeout(PATIENCE, async { while self.alive.recv().await.is_some() {} }).await;
        assert!(all.is_ok(), "connections are left");
        timeout(PATIENCE, self.relay.groups_left()).await.expect("groups are left");
        self.cluster.shutdown().await;
    }

    /// One value of the metrics: `name{labels}` without the prefix; 0 if it is not there.
    pub fn metric(&self, series: &str) -> u64 {
        let text = self.metrics.encode();
        let line = format!("mqtt_kafka_proxy_{series} ");
        let found = text.lines().find_map(|l| l.strip_prefix(&line));
        found.map_or(0, |value| value.parse().unwrap())
    }

    /// All that `refusals` counts, whatever the reason.
    pub fn refusals(&self) -> u64 {
        let text = self.metrics.encode();
        let counts = text.lines().filter(|l| l.starts_with("mqtt_kafka_proxy_refusals_total{"));
        counts.map(|l| l.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// Waits until a value of the metrics is reached.
    pub async fn counted(&self, series: &str, value: u64) {
        until(&format!("{series} is {value}"), || self.metric(series) == value).await;
    }

    /// Waits until the broker has this many records of a topic, all partitions together; their values in order of partitions.
    pub async fn stored(&self, topic: &str, count: usize) -> Vec<String> {
        until(&format!("{count} records in {topic}"), || {
            self.fake.all_values(topic).len() >= count
        })
        .await;
        let values = self.fake.all_values(topic);
        assert_eq!(values.len(), count, "more than expected: {values:?}");
        values
    }
}

fn parse(rules: &str, kafka: SocketAddr) -> Config {
    let access = if rules.contains("authentication:") {
        ""
    } else {
        "authentication: none\n"
    };
    let text = format!(
        "listeners: [{{name: tcp, address: \"127.0.0.1:0\", protocol: mqtt}}]\n\
         kafka: {{bootstrap_servers: [\"{kafka}\"]}}\n{access}{rules}\n"
    );
    config::parse(&text, Path::new("."), &|_| None).unwrap_or_else(|faults| panic!("{faults:?}"))
}
