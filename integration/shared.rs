//! A shared subscription over several instances whose members come and go, and of which one instance is killed: no message is lost, and what
//! comes again had not been acknowledged, or within the last commit interval before the kill.

use crate::chaos::is_long;
use crate::load::client::{Client, Event, Version};
use crate::load::ledger::Stamp;
use crate::load::publish::{Load, Progress, run};
use crate::publish::{crowd, rule};
use crate::share_groups::SHARE_GROUP;
use crate::shared_kafka;
use crate::stage::{DEADLINE, Proxy, eventually};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// How often instances commit, and what else may lie between an acknowledgement and its commit: the commit's own way to Kafka, which takes a debug
/// build beside other tests longer.
fn commits() -> Duration {
    Duration::from_millis(if is_long() { 1_500 } else { 3_000 })
}

/// What was seen of all messages, by publisher and number.
#[derive(Default)]
struct Seen {
    /// Those whose PUBACK was written: it may have been the proxy's last deed to take it, and to commit that.
    answered: HashSet<(u32, u64)>,
    /// When it was acknowledged first, by a client that knows that its acknowledgement has come.
    acknowledged: HashMap<(u32, u64), Instant>,
    /// Came although that had been done: since when, and how long after the kill that had been (before it: less than nothing), in seconds.
    again: Vec<(f64, Option<f64>)>,
    /// How long before the kill it was acknowledged that came again after it.
    before_kill: Vec<Duration>,
    received: u64,
    /// Who has what and has not answered.
    holders: HashMap<(u32, u64), String>,
    /// Came to one while another had it, before any instance had left the group.
    shared: u64,
    /// The same afterwards: a partition moves to another instance with what its members have in their hands.
    moved: u64,
    left: u64,
    /// SUBSCRIBEs that were not granted.
    refused: Vec<String>,
    /// When an instance was about to be killed, and when it was dead.
    killed: Option<(Instant, Instant)>,
}

impl Seen {
    /// Its PUBACK is written.
    fn answered(&mut self, of: (u32, u64)) {
        self.holders.remove(&of);
        self.answered.insert(of);
    }

    /// Has nothing in its hands any more: told before the proxy can know of it.
    fn leaves(&mut self, who: &str) {
        self.holders.retain(|_, holder| holder != who);
    }

    fn came(&mut self, who: &str, stamp: Stamp) {
        self.received += 1;
        let former = self.holders.insert((stamp.client, stamp.sequence), who.to_owned());
        match (former.is_some_and(|former| former != who), self.killed) {
            (false, _) => {}
            (true, None) => self.shared += 1,
            (true, Some(_)) => self.moved += 1,
        }
        let Some(at) = self.acknowledged.get(&(stamp.client, stamp.sequence)) else {
            return;
        };
        match self.killed {
            Some((begun, dead)) if *at + commits() > begun && *at < dead => self.before_kill.push(begun.saturating_duration_since(*at)),
            killed => {
                let after = killed.map(|(_, dead)| match at.checked_duration_since(dead) {
                    Some(after) => after.as_secs_f64(),
                    None => -dead.duration_since(*at).as_secs_f64(),
                });
                self.again.push((at.elapsed().as_secs_f64(), after));
            }
        }
    }
}

/// One who takes part: subscribes, works for a while, and is gone with messages in its hands.
async fn stay(
    address: SocketAddr,
    filter: &str,
    id: &str,
    work: usize,
    seen: &Mutex<Seen>,
    over: &mut watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut client = Client::connect_taking(address, Version::V5, id, Some(10)).await?;
    let granted = client.subscribe(filter, 1).await?;
    if granted != 1 {
        // Told in the end: a member that panicked here would be missed by nobody until then, and the rest be waited for in vain.
        let told = format!("{id}: SUBACK {granted:#x}");
        seen.lock().unwrap().refused.push(told.clone());
        return Err(std::io::Error::other(told));
    }
    let mut sent = Vec::new();
    let mut done = 0;
    while done < work {
        let event = tokio::select! {
            event = client.next() => event?,
            // Nothing has come for so long: what was answered is not kept until there are ten.
            () = tokio::time::sleep(Duration::from_millis(100)), if !sent.is_empty() => {
                fence((&mut client, id), seen, &mut sent, true).await?;
                continue;
            }
            () = async { drop(over.wait_for(|over| *over).await) } => break,
        };
        done += 1;
        let Event::Publish { payload, .. } = &event else { continue };
        let stamp = Stamp::read(payload).expect("of the load");
        seen.lock().unwrap().came(id, stamp);
        client.answer(&event)?;
        client.flush().await?;
        seen.lock().unwrap().answered((stamp.client, stamp.sequence));
        sent.push((stamp.client, stamp.sequence));
        if sent.len() == 10 {
            fence((&mut client, id), seen, &mut sent, true).await?;
        }
    }
    fence((&mut client, id), seen, &mut sent, false).await?;
    let mut seen = seen.lock().unwrap();
    // What has come since is not acknowledged.
    seen.leaves(id);
    seen.left += 1;
    Ok(())
}

/// Waits until the proxy has read all acknowledgements. What comes meanwhile is acknowledged if the client `stays`.
async fn fence((client, id): (&mut Client, &str), seen: &Mutex<Seen>, sent: &mut Vec<(u32, u64)>, stays: bool) -> std::io::Result<()> {
    let (mut held, now) = (Vec::new(), Instant::now());
    client.output.extend_from_slice(&[0xc0, 0]);
    client.flush().await?;
    loop {
        match client.next_within(DEADLINE).await? {
            Event::Publish { payload, id: packet, .. } => {
                seen.lock().unwrap().came(id, Stamp::read(&payload).expect("of the load"));
                held.push((packet, payload));
            }
            Event::Other => break,
            other => return Err(std::io::Error::other(format!("{other:?}"))),
        }
    }
    held.retain(|_| stays);
    for (packet, _) in &held {
        client.output.extend_from_slice(&[0x40, 2, (packet >> 8) as u8, *packet as u8]);
    }
    client.flush().await?;
    let mut seen = seen.lock().unwrap();
    for of in sent.drain(..) {
        seen.acknowledged.entry(of).or_insert(now);
    }
    for (_, payload) in held {
        let stamp = Stamp::read(&payload).expect("of the load");
        seen.answered((stamp.client, stamp.sequence));
        sent.push((stamp.client, stamp.sequence));
    }
    Ok(())
}

/// Waits until so many are answered, as long as there are more and more.
fn reaches(seen: &Mutex<Seen>, count: u64) {
    let (mut most, mut since) = (0, Instant::now());
    while most < count {
        let now = seen.lock().unwrap().answered.len() as u64;
        if now > most {
            (most, since) = (now, Instant::now());
        }
        assert!(since.elapsed() < DEADLINE, "{most} of {count} are answered, and no more");
        // The interval of this bounded poll.
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn members_come_and_go_on_two_instances_and_one_is_killed() {
    come_and_go("crew", 2, 4, "");
}

#[test]
fn members_come_and_go_on_three_instances_and_one_is_killed() {
    come_and_go("staff", 3, 4, "");
}

/// More instances than partitions, and each takes part.
#[test]
fn members_of_a_share_group_come_and_go_on_three_instances_and_one_is_killed() {
    come_and_go("pool", 3, 1, SHARE_GROUP);
}

fn come_and_go(topic: &'static str, instances: usize, partitions: u32, sessions: &str) {
    const MEMBERS: usize = 12;
    let kafka = shared_kafka();
    kafka.topic(topic, partitions);
    let rules = format!("{}\n{sessions}", rule(topic));
    let mut proxies: Vec<Proxy> = (0..instances).map(|_| Proxy::start(&kafka.bootstrap, &rules, "")).collect();
    let addresses: Vec<SocketAddr> = proxies.iter().map(|proxy| proxy.mqtt).collect();
    let each: u64 = if is_long() { 50_000 } else { 500 };
    let runtime = Runtime::new().unwrap();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let (over, heard) = watch::channel(false);
    let mut members = Vec::new();
    for number in 0..MEMBERS {
        let (seen, mut over, addresses) = (seen.clone(), heard.clone(), addresses.clone());
        let filter = format!("$share/team/{topic}/+/telemetry/rpm");
        members.push(runtime.spawn(async move {
            let mut visit = 0;
            while !*over.borrow() {
                let work = 100 + 37 * ((number + visit) % 5);
                let address = addresses[(number + visit) % instances];
                // A proxy that was killed takes nobody.
                let id = format!("{topic}-{number}-{visit}");
                if stay(address, &filter, &id, work, &seen, &mut over).await.is_err() {
                    seen.lock().unwrap().leaves(&id);
                    // How often that is tried, at the most.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                visit += 1;
            }
        }));
    }
    eventually("all instances are members", || {
        let all = proxies.iter().all(|proxy| proxy.metric(&["shared_memberships"]) == 1.0);
        all.then_some(())
    });
    let load = Load {
        rate: (!is_long()).then_some(1_500.0),
        patience: 2 * DEADLINE,
        ..crowd(addresses[0], topic, 20, each)
    };
    let total = u64::from(load.clients) * each;
    let publishers = runtime.spawn(async move { run(&load, &Arc::new(Progress::default())).await });
    reaches(&seen, total / 3);
    let begun = Instant::now();
    // Until it is dead it may take what is acknowledged.
    seen.lock().unwrap().killed = Some((begun, begun + DEADLINE));
    drop(proxies.pop());
    seen.lock().unwrap().killed = Some((begun, Instant::now()));
    let report = runtime.block_on(publishers).unwrap().unwrap();
    assert_eq!(report.acknowledged, total);
    // The group finds out after the session timeout.
    reaches(&seen, total);
    over.send_replace(true);
    runtime.block_on(async {
        for member in members {
            member.await.unwrap();
        }
    });
    let seen = seen.lock().unwrap();
    println!(
        "shared, {instances} instances: {total} messages, {} acknowledged, {} received by {MEMBERS} members that came and went {} times; {} came again that had been \
         acknowledged before the kill, {:?} at most, {} at other times; {} came to one while another had them, after the kill {}",
        seen.answered.len(),
        seen.received,
        seen.left,
        seen.before_kill.len(),
        seen.before_kill.iter().max().unwrap_or(&Duration::ZERO),
        seen.again.len(),
        seen.shared,
        seen.moved,
    );
    assert_eq!(seen.refused, Vec::<String>::new(), "each takes part");
    assert_eq!(seen.answered.len() as u64, total, "none is lost");
    assert_eq!(seen.shared, 0, "each is one member's");
    assert!(
        seen.again.is_empty(),
        "came again although acknowledged: {:?}",
        &seen.again[..seen.again.len().min(20)]
    );
}
