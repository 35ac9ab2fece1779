//! Subscribers that cannot keep up, among many that can: the others see nothing of it, those behind get everything in order, and the
//! proxy's memory stays small.
//!
//! What the others see is told against as many at another instance, which serves nobody that is behind.

use crate::away::{resident, ticks};
use crate::chaos::is_long;
use crate::kafka_to_measure;
use crate::load::publish::{Load, Progress, Report, run};
use crate::load::subscribe::{Audience, seat};
use crate::load::{
    client::{Client, Event, Version},
    ledger,
};
use crate::publish::{crowd, rule};
use crate::scales::{Enough, Fleet, Followed, Period, allow_all_descriptors, median, p99s, period, slower};
use crate::stage::{DEADLINE, Proxy, eventually};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The most that others may be delayed by, in milliseconds at the 99th percentile. The short form is of a debug build, for which two cores are
/// hardly enough, and what is missing is not always missed by both instances alike: the more so the slower both are.
fn allowed_delay(without: &[f64]) -> f64 {
    if is_long() { 5.0 } else { 20.0 + median(without.to_vec()) / 4.0 }
}

/// The same over all of a time and not in the median of its moments, which would not show a stall that is rare and long. Nor does it show that
/// the machine itself stalls now and then.
fn allowed_stall(without: &[f64]) -> f64 {
    10.0 * allowed_delay(without)
}

fn audience(proxy: &Proxy, filter: &str, clients: u32, name: &str, receive_maximum: Option<u16>) -> Audience {
    Audience {
        address: proxy.mqtt,
        version: Version::V5,
        clients,
        filter: filter.to_owned(),
        qos: 1,
        receive_maximum,
        name: name.to_owned(),
        patience: 2 * DEADLINE,
    }
}

/// An audience of each instance, from now on.
fn fleets(runtime: &Runtime, [one, other]: &[Audience; 2]) -> [Fleet; 2] {
    let (one, other) = runtime.block_on(async { tokio::try_join!(seat(one), seat(other)) }).unwrap();
    [one, other].map(|seated| Fleet::follow(runtime, seated.into_clients()))
}

/// Publishers at a fixed rate, until the test has had enough.
struct Stream {
    load: Load,
    progress: Arc<Progress>,
    since: tokio::time::Instant,
    task: JoinHandle<std::io::Result<Report>>,
}

impl Stream {
    fn begin(runtime: &Runtime, load: Load) -> Self {
        let progress = Arc::new(Progress::default());
        let task = runtime.spawn({
            let (load, progress) = (load.clone(), Arc::clone(&progress));
            async move { run(&load, &progress).await }
        });
        let since = tokio::time::Instant::now();
        Self {
            load,
            progress,
            since,
            task,
        }
    }

    /// Ends it and both fleets, each of whose subscribers must have got all of it once and in order.
    fn end(self, runtime: &Runtime, fleets: [Fleet; 2]) -> [Vec<Followed>; 2] {
        let each = self.progress.end_soon(&self.load, self.since);
        let total = u64::from(self.load.clients) * each;
        assert_eq!(runtime.block_on(self.task).unwrap().unwrap().acknowledged, total);
        fleets.map(|fleet| {
            let followed = fleet.end(runtime, Enough { messages: total, due: 0 });
            for one in &followed {
                one.ledger.exact(self.load.clients, each).unwrap();
            }
            followed
        })
    }
}

/// Messages of 4,000 bytes that only those get who will be stuck: more than a mailbox holds.
const FILL: u16 = 100;

/// What came of a time in which some were stuck.
struct Turn {
    period: Period,
    /// Kilobytes that the instance holds more than before.
    grown: u64,
    /// What the stuck needed to be at the tail again.
    released: Duration,
    /// Processor time of the instance that has them, and of the other, in ticks of 10 ms.
    busy: [u64; 2],
}

impl Turn {
    fn of(runtime: &Runtime, stuck: &Audience, length: Duration, proxies: [&Proxy; 2]) -> Self {
        let with = proxies[0];
        let before = resident(with.id());
        let waiting = runtime.block_on(seat(stuck)).unwrap().into_clients();
        runtime.block_on(fill(with, FILL)).unwrap();
        eventually("all of them are behind", || {
            (with.metric(&["subscribers_behind"]) >= f64::from(stuck.clients)).then_some(())
        });
        let since = proxies.map(|proxy| ticks(proxy.id()));
        // So long they are stuck.
        let period = period(|| std::thread::sleep(length));
        Self {
            period,
            busy: [0, 1].map(|side| ticks(proxies[side].id()) - since[side]),
            grown: resident(with.id()).saturating_sub(before),
            released: release(runtime, with, waiting, FILL),
        }
    }
}

/// A tenth of the subscribers of an instance do not take what comes, first at the one and then at the other.
#[test]
fn a_tenth_of_a_thousand_subscribers_is_stuck_and_the_others_do_not_notice() {
    const ALL: u32 = 1_000;
    const STUCK: u32 = ALL / 10;
    const MOMENT: Duration = Duration::from_millis(400);
    allow_all_descriptors();
    let kafka = kafka_to_measure();
    kafka.topic("seats", 1);
    let proxies = [(); 2].map(|()| Proxy::start(&kafka.bootstrap, &rule("seats"), ""));
    let (turns, seconds, rate) = if is_long() { (4, 60, 10.0) } else { (2, 10, 5.0) };
    let runtime = Runtime::new().unwrap();
    let moving = |side: usize| {
        audience(
            &proxies[side],
            "seats/+/telemetry/rpm",
            ALL - STUCK,
            &format!("seats-{side}-"),
            None,
        )
    };
    let fleets = fleets(&runtime, &[moving(0), moving(1)]);
    let load = Load {
        payload: 1_000,
        rate: Some(rate),
        ..crowd(proxies[0].mqtt, "seats", 5, u64::MAX)
    };
    let stream = Stream::begin(&runtime, load);
    let stuck: Vec<Turn> = (0..turns)
        .map(|turn| {
            let (with, without) = (&proxies[turn % 2], &proxies[(turn + 1) % 2]);
            // They take ten messages and do not acknowledge them.
            let waiting = audience(with, "seats/+/telemetry/#", STUCK, &format!("seats-stuck{turn}-"), Some(10));
            Turn::of(&runtime, &waiting, Duration::from_secs(seconds), [with, without])
        })
        .collect();
    let grown = stuck.iter().map(|turn| turn.grown).max().unwrap();
    let released = stuck.iter().map(|turn| turn.released).max().unwrap();
    let busy = [0, 1].map(|side| stuck.iter().map(|turn| turn.busy[side]).sum::<u64>());
    let fleets = stream.end(&runtime, fleets);
    let of = |turn: usize, slice| {
        let (with, without) = (&fleets[turn % 2], &fleets[(turn + 1) % 2]);
        slower(&stuck[turn].period, slice, with, without)
    };
    let without = (0..turns).flat_map(|turn| p99s(&stuck[turn].period, MOMENT, &fleets[(turn + 1) % 2]));
    let without: Vec<f64> = without.collect();
    // What one of the two is always slower by, whoever has the stuck ones, falls out of the mean of both.
    let of_side = |side: usize| {
        median(
            (side..turns)
                .step_by(2)
                .flat_map(|turn| of(turn, Duration::from_millis(400)))
                .collect(),
        )
    };
    let sides = [of_side(0), of_side(1)];
    let whole: Vec<f64> = (0..turns).flat_map(|turn| of(turn, Duration::from_secs(seconds))).collect();
    println!(
        "stuck: {STUCK} of {ALL} for {seconds} s, {turns} times; p99 of the others above that of the other instance's by {sides:.1?} ms (medians of its \
         moments), {whole:.1?} ms (all of each time), there {:.1} ms; {} and {} ms of processor time; the stuck got the same within {released:.1?}; {grown} KiB more \
         resident",
        median(without.clone()),
        10 * busy[0],
        10 * busy[1],
    );
    assert!(grown < 64 * 1024, "{grown} KiB more with {STUCK} stuck");
    assert!(f64::midpoint(sides[0], sides[1]) <= allowed_delay(&without), "{sides:?}");
    assert!(whole.iter().sum::<f64>() / turns as f64 <= allowed_stall(&without), "{whole:?}");
}

/// Lets the stuck go on until they are at the tail; gives how long that took. Each has got everything in order.
fn release(runtime: &Runtime, proxy: &Proxy, waiting: Vec<Client>, filled: u16) -> Duration {
    let start = Instant::now();
    let waiting = Fleet::follow(runtime, waiting);
    eventually("all are at the tail", || {
        (proxy.metric(&["subscribers_behind"]) == 0.0).then_some(())
    });
    let released = start.elapsed();
    // What is due from now on comes at the tail; each stays for one of those.
    let due = ledger_time();
    for one in waiting.end(runtime, Enough { messages: 0, due }) {
        assert!(one.ledger.is_unbroken(), "{}", one.ledger);
        assert_eq!(one.ledger.foreign, u64::from(filled), "{}", one.ledger);
    }
    released
}

/// As stamps have it.
fn ledger_time() -> u64 {
    crate::load::publish::epoch().as_micros() as u64
}

/// Publishes for the stuck alone, without a stamp.
async fn fill(proxy: &Proxy, messages: u16) -> std::io::Result<()> {
    let mut client = Client::connect(proxy.mqtt, Version::V5, "seats-fill").await?;
    for id in 1..=messages {
        client.publish("seats/v0/telemetry/fill", 1, id, &[b'z'; 4_000])?;
        client.flush().await?;
        while !matches!(client.next_within(DEADLINE).await?, Event::PubAck(acked, 0) if acked == id) {}
    }
    client.goodbye().await
}

/// Counts how often a PINGREQ is answered, one after the other, until it is over.
async fn round_trips(mut client: Client, mut over: watch::Receiver<bool>) -> std::io::Result<u64> {
    let mut trips = 0;
    loop {
        client.output.extend_from_slice(&[0xc0, 0]);
        client.flush().await?;
        tokio::select! {
            _ = over.wait_for(|over| *over) => return Ok(trips),
            pong = client.next() => assert_eq!(pong?, Event::Other),
        }
        trips += 1;
    }
}

#[test]
fn one_far_behind_moves_at_the_speed_of_its_own_acknowledgements_and_the_others_do_not_notice() {
    let kafka = kafka_to_measure();
    kafka.topic("alone", 1);
    let proxies = [(); 2].map(|()| Proxy::start(&kafka.bootstrap, &rule("alone"), ""));
    let [proxy, other] = &proxies;
    let each: u64 = if is_long() { 20_000 } else { 2_000 };
    let runtime = Runtime::new().unwrap();
    let load = crowd(proxy.mqtt, "alone", 50, each);
    let total = u64::from(load.clients) * each;
    let slow = runtime
        .block_on(seat(&audience(proxy, "alone/+/telemetry/rpm", 1, "alone-slow-", Some(10))))
        .unwrap();
    let progress = Arc::new(Progress::default());
    let report = runtime.block_on(run(&load, &progress)).unwrap();
    assert_eq!((report.acknowledged, progress.done.load(Relaxed)), (total, total));
    eventually("it is behind", || (proxy.metric(&["subscribers_behind"]) == 1.0).then_some(()));
    // Others at the tail of the same partition, at both instances.
    let others = |side: usize| audience(&proxies[side], "alone/+/telemetry/live", 20, &format!("alone-{side}-"), None);
    let fleets = fleets(&runtime, &[others(0), others(1)]);
    let live = Load {
        rate: Some(100.0),
        topic: "alone/v{}/telemetry/live".to_owned(),
        name: "alone-live-".to_owned(),
        ..crowd(other.mqtt, "alone", 5, u64::MAX)
    };
    let stream = Stream::begin(&runtime, live);
    let pinger = runtime.block_on(Client::connect(other.mqtt, Version::V5, "alone-pinger")).unwrap();
    let (over, heard) = watch::channel(false);
    let (fetched, before) = (proxy.metric(&["kafka_fetched_bytes"]), resident(proxy.id()));
    let pings = runtime.spawn(round_trips(pinger, heard));
    let catching_up = runtime.spawn(slow.receive(total));
    let mut most = before;
    let caught_up = period(|| {
        while !catching_up.is_finished() {
            most = most.max(resident(proxy.id()));
            // Between two looks, for as long as it needs.
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    over.send_replace(true);
    let trips = runtime.block_on(pings).unwrap().unwrap();
    let received = runtime.block_on(catching_up).unwrap().unwrap();
    received[0].ledger.exact(50, each).unwrap();
    let read = proxy.metric(&["kafka_fetched_bytes"]) - fetched;
    let written = proxy.metric(&["kafka_produced_bytes"]);
    let [beside, without] = stream.end(&runtime, fleets);
    let moment = Duration::from_millis(100);
    let more = slower(&caught_up, moment, &beside, &without);
    let without = p99s(&caught_up, moment, &without);
    let seconds = (caught_up.end - caught_up.start) as f64 / 1e6;
    println!(
        "far behind: {total} messages with a receive maximum of 10 in {seconds:.1} s, {:.0} a second and {:.1} for each round trip to another instance; \
         {:.1} times their bytes were read; p99 of others above that of the other instance's by {:.1} ms (median of {} moments, there {:.1} ms); {} KiB more resident",
        total as f64 / seconds,
        total as f64 / trips as f64,
        read / written,
        median(more.clone()),
        more.len(),
        median(without.clone()),
        most - before,
    );
    assert!(trips < total, "{trips} round trips to another instance while {total} messages came");
    assert!(read < 3.0 * written, "{written} bytes written, {read} read");
    assert!(most - before < 64 * 1024, "{before} KiB before, {most} KiB while it catches up");
    assert!(median(more.clone()) <= allowed_delay(&without), "{more:?}");
    let stored = ledger::read_topic(&kafka.bootstrap, "alone").unwrap();
    assert_eq!(stored.missing(50, each), 0);
}
