//! Instances behind a TCP load balancer: HAProxy with the sample configuration of `docs/`, plain TCP and no stickiness.

use crate::haproxy::Haproxy;
use crate::load::client::{Client, Event, Version};
use crate::load::ledger;
use crate::publish::rule;
use crate::shared_kafka;
use crate::stage::{DEADLINE, Proxy, eventually, free_address, root};
use std::net::SocketAddr;
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep, timeout};

/// HAProxy in front of instances.
pub struct Balancer {
    _haproxy: Haproxy,
    /// Where devices connect.
    pub mqtt: SocketAddr,
    /// Where they do by TLS, which the instances end.
    pub tls: SocketAddr,
}

impl Balancer {
    /// Starts it with `docs/haproxy.cfg`, in which only addresses and the bound of connections are replaced, and a third server may be added.
    pub fn start(instances: &[&Proxy]) -> Self {
        let (mqtt, tls) = (free_address(), free_address());
        let mut text = std::fs::read_to_string(root().join("docs/haproxy.cfg")).unwrap();
        let of = |port: &str| {
            instances
                .iter()
                .map(|p| if port == "1883" { p.mqtt } else { p.tls })
                .collect::<Vec<_>>()
        };
        for port in ["1883", "8883"] {
            let line = |name: &str| {
                let mut lines = text.lines();
                lines
                    .find(|line| line.contains(&format!("{name}:{port}")))
                    .expect("the sample has it")
                    .to_owned()
            };
            let (first, second) = (line("192.0.2.11"), line("192.0.2.12"));
            let server = |(number, (at, proxy)): (usize, (SocketAddr, &&Proxy))| {
                let (name, check) = (format!("server {number}"), proxy.admin.port());
                let address = first.replace(&format!("192.0.2.11:{port} port 9090"), &format!("{at} port {check}"));
                address.replace("server a", &name)
            };
            let servers: Vec<_> = of(port).into_iter().zip(instances).enumerate().map(server).collect();
            text = text.replace(&second, "").replace(&first, &servers.join("\n"));
        }
        let mut replace = |old: &str, new: &str| {
            assert!(text.contains(old), "the sample has {old}");
            text = text.replace(old, new);
        };
        replace("*:1883", &mqtt.to_string());
        replace("*:8883", &tls.to_string());
        // Each costs two files, and the process may open fewer here.
        replace("maxconn 100000", "maxconn 1000");
        let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("haproxy-{}.cfg", mqtt.port()));
        // Nothing is asked at the other: each connection there is one that is shared out.
        let _haproxy = Haproxy::start(&path, &text, &[mqtt]);
        Self { _haproxy, mqtt, tls }
    }

    /// Connects a device. Until the balancer has noticed that an instance is gone, some of its connections lead nowhere.
    pub async fn connect(&self, id: &str) -> Client {
        let until = Instant::now() + DEADLINE;
        loop {
            match timeout(DEADLINE, Client::connect(self.mqtt, Version::V5, id)).await {
                Ok(Ok(client)) => return client,
                other => assert!(Instant::now() < until, "{id} is not connected: {:?}", other.map(|r| r.err())),
            }
            // The interval of this bounded poll.
            sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

const DEVICES: u32 = 20;

/// Each device publishes its next message and has it acknowledged.
async fn publish_all(devices: &mut [Client], topic: &str, number: u64) {
    for (device, client) in (0u32..).zip(devices) {
        let mut payload = [0; ledger::STAMP_LEN];
        let stamp = ledger::Stamp {
            client: device,
            sequence: number,
            micros: 0,
        };
        stamp.write(&mut payload);
        let topic = format!("{topic}/v{device}/telemetry/rpm");
        client.publish(&topic, 1, 1, &payload).unwrap();
        client.flush().await.unwrap();
        match client.next_within(DEADLINE).await.unwrap() {
            Event::PubAck(1, 0) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn connected(proxy: &Proxy) -> f64 {
    proxy.metric(&["proxy_connections{", "tcp"])
}

#[test]
fn devices_spread_over_the_instances_and_all_go_on_when_one_is_killed() {
    let kafka = shared_kafka();
    let topic = "balancer";
    kafka.topic(topic, 3);
    let [a, b] = [(); 2].map(|()| Proxy::start(&kafka.bootstrap, &rule(topic), ""));
    let balancer = Balancer::start(&[&a, &b]);
    Runtime::new().unwrap().block_on(async {
        let mut devices = Vec::new();
        for device in 0..DEVICES {
            devices.push(balancer.connect(&format!("balanced-{device}")).await);
        }
        eventually("both have half of them", || {
            // The connection that looked whether HAProxy listens may have made one odd choice.
            let (a, b) = (connected(&a), connected(&b));
            (a + b == f64::from(DEVICES) && (a - b).abs() <= 2.0).then_some(())
        });
        publish_all(&mut devices, topic, 0).await;
        drop(a);
        for device in 0..DEVICES {
            devices[device as usize] = balancer.connect(&format!("balanced-{device}")).await;
        }
        publish_all(&mut devices, topic, 1).await;
        eventually("the other has all of them", || (connected(&b) == f64::from(DEVICES)).then_some(()));
    });
    let stored = ledger::read_topic(&kafka.bootstrap, topic).unwrap();
    stored.exact(DEVICES, 2).unwrap();
}
