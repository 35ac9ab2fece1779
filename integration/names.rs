//! Names of brokers lead elsewhere after a while, as with every roll-out of a cluster on Kubernetes: the proxy follows without a restart.
//!
//! `nss_wrapper` (a library of the Samba project, preloaded) gives the proxy a hosts file of the test's.

use crate::load::client::{Client, Event, Version};
use crate::network::{Network, Weather};
use crate::publish::rule;
use crate::stage::{DEADLINE, Kafka, Proxy, eventually, free_base};
use std::path::Path;
use tokio::runtime::Runtime;

const NAME: &str = "kafka.test";

/// Replaced whole, as a reader may look at any moment.
fn lead(hosts: &Path, address: &str) {
    let next = hosts.with_extension("next");
    std::fs::write(&next, format!("{address} {NAME}\n")).unwrap();
    std::fs::rename(&next, hosts).unwrap();
}

async fn publish(proxy: &Proxy, topic: &str, id: &str) {
    let mut client = Client::connect(proxy.mqtt, Version::V5, id).await.unwrap();
    client.publish(&format!("{topic}/1/telemetry/rpm"), 1, 1, id.as_bytes()).unwrap();
    client.flush().await.unwrap();
    let answer = client.next_within(DEADLINE).await.unwrap();
    assert!(matches!(answer, Event::PubAck(1, 0)), "{answer:?}");
}

#[test]
fn a_broker_whose_name_leads_to_another_address_is_found_there() {
    let base = free_base(1);
    let named = base + 5;
    let settings = [
        format!(
            "listeners=PLAINTEXT://127.0.0.1:{base},CONTROLLER://127.0.0.1:{},NAMED://127.0.0.1:{named}",
            base + 10
        ),
        format!("advertised.listeners=PLAINTEXT://127.0.0.1:{base},NAMED://{NAME}:{named}"),
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,NAMED:PLAINTEXT".to_owned(),
    ];
    let kafka = Kafka::start_with(base, 1, &settings.each_ref().map(String::as_str));
    kafka.topic("names", 1);
    let runtime = Runtime::new().unwrap();
    // At first the broker is at 127.0.0.2, as far as anybody can tell.
    let (old, new) = (format!("127.0.0.2:{named}"), format!("127.0.0.1:{named}"));
    let there = runtime.block_on(Network::between(old.parse().unwrap(), new.parse().unwrap()));
    let hosts = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hosts-{}", std::process::id()));
    lead(&hosts, "127.0.0.2");
    let environment = [("LD_PRELOAD", "libnss_wrapper.so"), ("NSS_WRAPPER_HOSTS", hosts.to_str().unwrap())];
    let proxy = Proxy::launch_in(&environment, &format!("{NAME}:{named}"), &rule("names"), "");
    let ready = || (proxy.get("/readyz").ok()?.0 == 200).then_some(());
    eventually("the proxy is ready", ready);
    runtime.block_on(publish(&proxy, "names", "before"));
    there.weather.send_replace(Weather::Cut);
    eventually("its connections are gone", || (proxy.get("/readyz").ok()?.0 == 503).then_some(()));
    lead(&hosts, "127.0.0.1");
    runtime.block_on(publish(&proxy, "names", "after"));
    eventually("the proxy is ready again", ready);
    assert_eq!(kafka.consume("names", "%s"), ["before", "after"]);
    std::fs::remove_file(&hosts).unwrap();
}
