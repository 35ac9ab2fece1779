//! Publishers and persistent subscribers behind a TCP balancer, who go from instance to instance while messages flow.

use std::collections::BTreeSet;
use std::time::Instant;

use super::once::{Device, Fleet, chance, publish_once, publish_packet, take, texts};
use super::{instance, runtime};
use crate::balancer::Balancer;
use crate::chaos::is_long;
use crate::load::client::Event;
use crate::shared_kafka;
use crate::stage::DEADLINE;

/// One message of QoS 1, said again until it is answered.
async fn publish_at_least_once(device: &mut Device<'_>, topic: &str, payload: &str, cut: &mut impl FnMut() -> bool) {
    for tries in 0..50 {
        device.connected().await;
        // QoS 1 instead of 2, and the same otherwise.
        let mut packet = publish_packet(topic, 9, payload, tries > 0);
        packet[0] ^= 0x06;
        if cut() {
            let (client, _) = device.connected().await;
            client.output.extend_from_slice(&packet);
            // It may be dead already.
            let _ = client.flush().await;
            device.hop();
        } else if device.ask(&packet, |event| *event == Event::PubAck(9, 0)).await.is_some() {
            return;
        }
    }
    panic!("{payload} makes no progress");
}

/// Takes messages of QoS 1 until the last has come; the first occurrence of each, in order.
async fn take_at_least_once(device: &mut Device<'_>, count: usize, cut: &mut impl FnMut() -> bool) -> Vec<String> {
    let (mut got, mut known) = (Vec::new(), BTreeSet::new());
    let mut last = Instant::now();
    while got.len() < count {
        assert!(last.elapsed() < 2 * DEADLINE, "{} of {count} messages have come", got.len());
        let (client, _) = device.connected().await;
        let Ok(event) = client.next_within(DEADLINE).await else {
            device.hop();
            continue;
        };
        if let Event::Publish { payload, qos: 1, .. } = &event {
            let text = String::from_utf8(payload.to_vec()).unwrap();
            if known.insert(text.clone()) {
                last = Instant::now();
                got.push(text);
            }
        }
        if cut() || client.answer(&event).is_err() || client.flush().await.is_err() {
            device.hop();
        }
    }
    got
}

#[test]
fn clients_hop_between_two_and_three_instances_and_nothing_is_lost_doubled_or_out_of_order() {
    let kafka = shared_kafka();
    let (count, wanted) = if is_long() { (2_500, 10_000) } else { (25, 100) };
    let mut hops = 0;
    for (instances, at_least, once) in [(2, "hopstwo1", "hopstwo2"), (3, "hopsthree1", "hopsthree2")] {
        // One group of instances serves both topics.
        for topic in [at_least, once] {
            kafka.topic(topic, 1);
        }
        for (topic, qos) in [(at_least, 1), (once, 2)] {
            let proxies: Vec<_> = (0..instances).map(|_| instance(&kafka, topic, "")).collect();
            let balancer = Balancer::start(&proxies.iter().collect::<Vec<_>>());
            let mut fleet = Fleet::of(proxies);
            fleet.front = Some(balancer.mqtt);
            hops += hop(&fleet, topic, qos, count);
        }
        assert_eq!(kafka.consume(once, "%s"), texts(count));
        let mut known = BTreeSet::new();
        let firsts: Vec<_> = kafka
            .consume(at_least, "%s")
            .into_iter()
            .filter(|text| known.insert(text.clone()))
            .collect();
        assert_eq!(firsts, texts(count));
    }
    println!("{hops} hops");
    assert!(hops >= wanted, "{hops} hops, {wanted} are wanted");
}

/// Messages flow from one to the other, both of which hop at every third step; how often they did.
fn hop(fleet: &Fleet, topic: &str, qos: u8, count: usize) -> usize {
    let (mut dice, mut other_dice) = (7, 8);
    runtime().block_on(async {
        let (mut valve, mut pump) = (Device::new(fleet, "valve"), Device::new(fleet, "pump"));
        let (client, _) = valve.connected().await;
        assert_eq!(client.subscribe(&format!("{topic}/+"), qos).await.unwrap(), qos);
        let to = format!("{topic}/1");
        let publishing = async {
            for text in texts(count) {
                match qos {
                    1 => publish_at_least_once(&mut pump, &to, &text, &mut || chance(&mut dice, 3) == 0).await,
                    _ => publish_once(&mut pump, &to, 7, &text, &mut |_, _| chance(&mut dice, 3) == 0).await,
                }
            }
        };
        let taking = async {
            match qos {
                1 => take_at_least_once(&mut valve, count, &mut || chance(&mut other_dice, 3) == 0).await,
                _ => take(&mut valve, count, &mut |_, _| chance(&mut other_dice, 3) == 0).await,
            }
        };
        let ((), got) = tokio::join!(publishing, taking);
        assert_eq!(got, texts(count), "at QoS {qos}");
        valve.at + pump.at
    })
}
