//! An instance sleeps while its clients go elsewhere, and wakes up with their packets in its sockets.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::Duration;

use super::flow::{Habits, Pump, Valve, WINDOW, judge_all};
use super::once::{Device, Fleet, chance, publish_once, publish_packet, texts};
use super::{instance, runtime};
use crate::chaos::is_long;
use crate::load::client::{Client, Event, Version};
use crate::shared_kafka;
use crate::stage::{DEADLINE, Proxy, eventually};

const SEED: u64 = 1;

/// A process that does not run while this lives.
/// Stopped while none of its threads is at work: one that is stopped between its look whether it slept and its write does that write when it goes on, and
/// no process can promise otherwise.
struct Paused(u32);

impl Paused {
    fn new(process: u32) -> Self {
        eventually("all its threads have stopped where they wait", || {
            Self::stop(process);
            let waits = std::fs::read_dir(format!("/proc/{process}/task")).unwrap().all(|thread| {
                let call = std::fs::read_to_string(thread.unwrap().path().join("syscall")).unwrap();
                // The number of the system call, or that it is in none.
                !call.starts_with("-1 ")
            });
            if !waits {
                signal("-CONT", process);
            }
            waits.then_some(())
        });
        Self(process)
    }

    fn stop(process: u32) {
        signal("-STOP", process);
        eventually("all its threads have stopped", || {
            let mut threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
            let stopped = |status: String| status.lines().any(|line| line.starts_with("State:\tT"));
            threads
                .all(|thread| std::fs::read_to_string(thread.unwrap().path().join("status")).is_ok_and(stopped))
                .then_some(())
        });
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        signal("-CONT", self.0);
    }
}

fn signal(signal: &str, process: u32) {
    let command = format!("kill {signal} {process}");
    let status = std::process::Command::new("bash").args(["-c", &command]).status().unwrap();
    assert!(status.success(), "{command}");
}

/// What the connection gets until it ends.
async fn last_words(mut client: Client) -> Vec<Event> {
    let mut words = Vec::new();
    while let Ok(event) = client.next_within(DEADLINE).await {
        words.push(event.clone());
        if matches!(event, Event::Disconnect(_)) {
            break;
        }
    }
    words
}

/// A pause that no instance takes for a moment in which its host was busy: twice what it does.
const NOTICED: Duration = Duration::from_secs(1);

/// Whether one may say it who is no owner any more, and has not noticed that it slept. At QoS 1 nothing rests on that: PUBACK says that the message is in Kafka, and a message may
/// come twice. At QoS 2 what rests on a record that was read back before the instance fell asleep is known to the next owner, too, and
/// binds it: PUBREC and PUBLISH of what was under way then, and PUBREL, since its PUBREC had come by then. Nothing else: it would let a client
/// forget what the next owner knows nothing of.
fn may_be_late(event: &Event, under_way: &BTreeSet<(u16, String)>) -> bool {
    match event {
        Event::Disconnect(_) | Event::PubAck(_, 0) | Event::Publish { qos: 1, .. } | Event::PubRel(_) => true,
        Event::PubRec(id, 0) => under_way.iter().any(|open| open.0 == *id),
        Event::Publish { payload, .. } => under_way.iter().any(|open| open.1.as_bytes() == payload),
        _ => false,
    }
}

/// A publisher and a subscriber of each quality of service.
struct Clients {
    pumps: Vec<Pump>,
    valves: Vec<Valve>,
}

impl Clients {
    async fn begin(proxy: &Proxy) -> Self {
        let mut clients = Self {
            pumps: Vec::new(),
            valves: Vec::new(),
        };
        for qos in [1, 2] {
            let (pump, valve) = (format!("pump{qos}"), format!("valve{qos}"));
            let valve = Valve::begin((proxy.mqtt, Version::V5), &valve, "paused/+", qos, SEED, Habits::FAITHFUL).await;
            clients.valves.push(valve);
            clients
                .pumps
                .push(Pump::new(proxy.mqtt, "paused", &pump, qos, SEED, Habits::FAITHFUL));
        }
        clients
    }

    /// Connects them there; the connections that go on without them.
    async fn go_to(&mut self, proxy: &Proxy) -> Vec<Client> {
        let mut former = Vec::new();
        for pump in &mut self.pumps {
            former.extend(pump.go_to(proxy.mqtt).await);
        }
        for valve in &mut self.valves {
            former.extend(valve.go_to(proxy.mqtt).await);
        }
        former
    }

    /// So many more messages of each, which are not acknowledged yet.
    async fn publish(&mut self, count: usize) {
        for pump in &mut self.pumps {
            pump.begin(count).await;
        }
    }

    /// One more of each, and everything is acknowledged and has come.
    async fn settle(&mut self) {
        for pump in &mut self.pumps {
            pump.settle().await;
            let last = pump.say().await;
            for valve in &mut self.valves {
                valve.take_until(&last).await;
            }
        }
    }
}

/// After a pause that it notices, the sleeper says nothing but the end to anybody.
///
/// Some messages are on their way when the instance falls asleep, others come to its sockets meanwhile, and all clients go to another. It
/// wakes up before or after others have taken it for dead, with everything done or in the middle of it.
async fn round(number: usize, clients: &mut Clients, proxies: &[Proxy; 2], dice: &mut u64) {
    let (sleeper, other) = (&proxies[number % 2], &proxies[(number + 1) % 2]);
    drop(clients.go_to(sleeper).await);
    clients.settle().await;
    clients.publish(WINDOW / 2).await;
    let under_way: BTreeSet<_> = clients.pumps.iter().flat_map(Pump::open).collect();
    // The moment is what is tested: somewhere in the exchange.
    tokio::time::sleep(Duration::from_millis(chance(dice, 12))).await;
    let mut paused = Some(Paused::new(sleeper.id()));
    clients.publish(WINDOW).await;
    let former = clients.go_to(other).await;
    assert_eq!(former.len(), 4, "round {number}: who sleeps ends no connection");
    let pause = match number % 3 {
        0 => Duration::ZERO,
        1 => NOTICED,
        // Beyond `instance_timeout`, so that the others have given it up.
        _ => Duration::from_secs(if is_long() { 30 } else { 4 }),
    };
    // The pause is the weather.
    tokio::time::sleep(pause).await;
    if number % 2 == 1 {
        // All is repeated to the other, and nothing was heard of it yet.
        for valve in &mut clients.valves {
            valve.connect().await;
        }
        clients.publish(0).await;
        paused.take();
    }
    clients.settle().await;
    drop(paused);
    for client in former {
        let words = last_words(client).await;
        let silent = |event: &Event| matches!(event, Event::Disconnect(_));
        let noticed = pause >= NOTICED;
        let right = words
            .iter()
            .all(|event| silent(event) || !noticed && may_be_late(event, &under_way));
        assert!(right, "round {number}: {words:?}");
    }
    clients.settle().await;
}

/// More than one and a half keep alives go by in which the process does not run; what the client has said meanwhile lies in the socket. Twenty clients: it is
/// a matter of chance what a process that wakes up looks at first.
#[test]
fn a_client_that_speaks_is_not_taken_for_gone_by_a_process_that_slept() {
    const CONNECT: &[u8] = b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x01\x00\x03";
    let kafka = shared_kafka();
    let proxy = Proxy::start(&kafka.bootstrap, &crate::publish::rule("slept"), "");
    let mut clients: Vec<TcpStream> = Vec::new();
    for number in 0..20 {
        let mut client = TcpStream::connect(proxy.mqtt).unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        client.write_all(&[CONNECT, format!("s{number:02}").as_bytes()].concat()).unwrap();
        let mut connack = [0; 4];
        client.read_exact(&mut connack).unwrap();
        assert_eq!(connack, [0x20, 2, 0, 0]);
        clients.push(client);
    }
    let asleep = Paused::new(proxy.id());
    clients.iter_mut().for_each(|client| client.write_all(&[0xc0, 0]).unwrap());
    // As long as the process shall sleep, by its keep alive of a second.
    std::thread::sleep(Duration::from_secs(3));
    drop(asleep);
    for client in &mut clients {
        let mut pingresp = [0; 2];
        client.read_exact(&mut pingresp).expect("it is still there");
        assert_eq!(pingresp, [0xd0, 0]);
    }
}

#[test]
fn a_late_owner_says_nothing_that_rests_on_its_ownership_and_nothing_is_lost_or_at_qos_2_doubled() {
    let kafka = shared_kafka();
    kafka.topic("paused", 1);
    let proxies = [(); 2].map(|()| instance(&kafka, "paused", ""));
    runtime().block_on(async {
        let mut clients = Clients::begin(&proxies[0]).await;
        let mut dice = SEED;
        for number in 0..6 {
            round(number, &mut clients, &proxies, &mut dice).await;
        }
        // What would come again comes before these.
        clients.valves.iter_mut().for_each(Valve::leave);
        clients.settle().await;
        judge_all(&kafka, "paused", &clients.pumps, &clients.valves, SEED);
    });
}

/// Both instances have the PUBLISH: the sleeper first, in its socket. Of that it has written nothing, so it says nothing.
#[test]
fn a_late_owner_answers_nobody_and_each_message_is_in_kafka_once() {
    let kafka = shared_kafka();
    kafka.topic("silent", 1);
    let proxies = vec![instance(&kafka, "silent", ""), instance(&kafka, "silent", "")];
    let places = [proxies[0].mqtt, proxies[1].mqtt];
    let ids = [proxies[0].id(), proxies[1].id()];
    let mut fleet = Fleet::of(proxies);
    let long = if is_long() { 30 } else { 4 };
    let all = texts(6);
    runtime().block_on(async {
        for (round, text) in all.iter().enumerate() {
            fleet.front = Some(places[round % 2]);
            let mut client = Device::new(&fleet, "pump").leave().await;
            let paused = Mutex::new(Some(Paused::new(ids[round % 2])));
            client.output.extend_from_slice(&publish_packet("silent/1", 7, text, false));
            client.flush().await.unwrap();
            fleet.front = Some(places[(round + 1) % 2]);
            if round % 3 == 2 {
                // The pause is the weather: beyond `instance_timeout`, so that the others have given it up.
                tokio::time::sleep(Duration::from_secs(long)).await;
            }
            // In every other round the sleeper wakes up between PUBREC and PUBREL.
            let mut between = |step: usize, _| {
                if round % 2 == 1 && step == 2 {
                    paused.lock().unwrap().take();
                }
                false
            };
            // It may be disconnected more than once: a group with a sleeping member takes its time to change.
            publish_once(&mut Device::new(&fleet, "pump"), "silent/1", 7, text, &mut between).await;
            drop(paused);
            let mut words = Vec::new();
            while let Ok(event) = client.next_within(DEADLINE).await {
                words.push(event);
            }
            let silent = words.iter().all(|event| matches!(event, Event::Disconnect(_)));
            assert!(silent, "round {round}: {words:?}");
        }
    });
    assert_eq!(kafka.consume("silent", "%s"), all);
}
