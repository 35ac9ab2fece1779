//! Publishers and persistent subscribers behind a TCP balancer, who go from instance to instance while messages flow.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::flow::{Flow, Habits};
use super::{instance, runtime};
use crate::balancer::Balancer;
use crate::chaos::is_long;
use crate::shared_kafka;
use crate::stage::{DEADLINE, Kafka};

/// A client changes its connection at one in so many packets.
const RESTLESS: u64 = 10;

/// How often a client's session went to another instance: reads the claims as they come, before they can be compacted.
struct Changes {
    reader: Child,
    count: Arc<AtomicUsize>,
}

impl Changes {
    fn follow(kafka: &Kafka, topic: &str) -> Self {
        let mut reader = Command::new("kcat")
            .args([
                "-C",
                "-q",
                "-u",
                "-b",
                &kafka.bootstrap,
                "-t",
                topic,
                "-o",
                "beginning",
                "-f",
                "%k %s\\n",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("kcat can be run");
        let lines = BufReader::new(reader.stdout.take().expect("its output is a pipe")).lines();
        let count = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&count);
        std::thread::spawn(move || {
            let mut owners = HashMap::<String, String>::new();
            for line in lines.map_while(Result::ok) {
                let Some((client, claim)) = line.strip_prefix("claim:").and_then(|line| line.split_once(' ')) else {
                    continue;
                };
                let Some((_, owner)) = claim.split_once("\"owner\":\"") else {
                    continue;
                };
                let owner = owner.split('"').next().expect("it is quoted").to_owned();
                let former = owners.insert(client.to_owned(), owner.clone());
                counted.fetch_add(usize::from(former.is_some_and(|former| former != owner)), Relaxed);
            }
        });
        Self { reader, count }
    }

    /// Waits until there are so many.
    async fn come_to(&self, wanted: usize) {
        let (mut since, mut known) = (Instant::now(), 0);
        while known < wanted {
            let count = self.count.load(Relaxed);
            if count > known {
                (since, known) = (Instant::now(), count);
            }
            assert!(since.elapsed() < DEADLINE, "no client changes its instance any more: {known} did");
            // The interval of this bounded poll.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        let _ = self.reader.kill();
        let _ = self.reader.wait();
    }
}

#[test]
fn clients_hop_between_two_and_three_instances_and_nothing_is_lost_doubled_or_out_of_order() {
    let kafka = shared_kafka();
    let wanted = if is_long() { 5_000 } else { 50 };
    for (name, instances) in [("hopstwo", 2), ("hopsthree", 3)] {
        kafka.topic(name, 1);
        let proxies: Vec<_> = (0..instances).map(|_| instance(&kafka, name, "")).collect();
        let balancer = Balancer::start(&proxies.iter().collect::<Vec<_>>());
        let changes = Changes::follow(&kafka, &format!("{name}-sessions"));
        let flow = Flow {
            kafka: &kafka,
            name,
            at: balancer.mqtt,
            publishers: 2,
            seed: 7,
            habits: Habits {
                restless: RESTLESS,
                overlaps: true,
            },
        };
        let begun = Instant::now();
        let pumps = runtime().block_on(flow.during(changes.come_to(wanted)));
        let sent: usize = pumps.iter().map(|pump| pump.sent).sum();
        let changed = changes.count.load(Relaxed);
        println!("{instances} instances: {changed} changes, {sent} messages, {:.1?}", begun.elapsed());
    }
}
