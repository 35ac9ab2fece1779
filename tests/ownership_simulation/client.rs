//! An MQTT client that keeps its own session state and wanders from instance to instance, and its connections.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::kafka::Kafka;
use crate::mqtt::{QoS, RetainHandling};
use crate::ownership::{Millis, Offer, Place, Source, StoredSubscription, StoredWill};
use crate::random::Random;
use crate::wills::Wills;

const fn source(topic: u8, partition: u32) -> Source {
    Source {
        topic: [topic; 16],
        partition,
    }
}

/// To the clients at QoS 1 and 2, each record's payload being its offset.
pub const OUT1: Source = source(1, 0);
pub const OUT2: Source = source(2, 0);
/// From the clients.
pub const IN: [Source; 2] = [source(3, 0), source(3, 1)];
pub const WILLS: Source = source(4, 0);

/// Where a message goes: most into one partition, some into two.
pub fn targets(payload: u64) -> Vec<Source> {
    match payload % 7 {
        0 => IN.to_vec(),
        n => vec![IN[usize::from(n > 4)]],
    }
}

pub const FILTER: &str = "out/#";

/// Made under the claim at `claim`.
pub fn subscription(starts: &BTreeMap<Source, i64>, claim: i64) -> StoredSubscription {
    StoredSubscription {
        filter: FILTER.to_owned(),
        qos: QoS::ExactlyOnce,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::Always,
        id: u32::try_from(claim).ok(),
        starts: starts.clone(),
    }
}

#[derive(Clone, Debug)]
pub enum Up {
    Connect(Offer),
    Publish(u16, u64),
    PubRel(u16),
    Subscribe,
    Unsubscribe,
    PubAck(u16),
    PubRec(u16),
    PubComp(u16),
    Disconnect(Option<u32>),
}

#[derive(Clone, Debug)]
pub enum Down {
    ConnAck(Welcome),
    PubRec(u16),
    /// PUBREC with an error.
    Refused(u16),
    PubComp(u16),
    SubAck(BTreeMap<Source, i64>),
    UnsubAck,
    Publish(u16, Place),
    PubRel(u16),
}

/// CONNACK, and what only the simulation knows.
#[derive(Clone, Copy, Debug)]
pub struct Welcome {
    /// Session present.
    pub present: bool,
    /// It has a subscription.
    pub subscribed: bool,
    /// Offset of the claim.
    pub claim: i64,
    /// Of the last claim before that by which an operator has ended a session; -1 if there is none.
    pub discarded: i64,
    /// The same, and it may have come too late for that.
    pub maybe_discarded: i64,
}

/// A connection.
pub struct Link {
    pub client: Box<str>,
    pub instance: usize,
    pub up: VecDeque<Up>,
    pub down: VecDeque<Down>,
    /// One of the two has ended it.
    pub closed_at: Option<Millis>,
    /// Its instance was paused: others may have taken it for dead from there on.
    pub doubtful_at: Option<Millis>,
    /// The instance knows.
    pub noticed: bool,
}

impl Link {
    pub fn close(&mut self, now: Millis) {
        self.closed_at.get_or_insert(now);
    }

    /// The earliest time that anybody can have taken for its end.
    pub fn ended_at(&self, now: Millis) -> Millis {
        self.closed_at.into_iter().chain(self.doubtful_at).min().unwrap_or(now)
    }
}

/// What a client has got since its session began.
#[derive(Default)]
struct Life {
    got: BTreeMap<Source, Vec<i64>>,
    starts: Option<BTreeMap<Source, i64>>,
    /// By subscriptions that it has ended.
    former: BTreeSet<Place>,
    /// It has sent UNSUBSCRIBE and does not know whether that was read.
    leaving: bool,
    /// UNSUBACK has come, and it has not subscribed again.
    left: bool,
}

pub struct Client {
    pub number: usize,
    pub id: Box<str>,
    total: u64,
    next: u64,
    /// Packet id → payload, and whether PUBREC has come.
    flights: BTreeMap<u16, (u64, bool)>,
    pub link: Option<usize>,
    live: bool,
    asked: bool,
    offer: Option<Offer>,
    will: Option<u64>,
    incoming: BTreeSet<u16>,
    life: Life,
    pub done: BTreeSet<u64>,
    abandoned: BTreeSet<u64>,
    /// The session must be there until then.
    must_exist: Option<Millis>,
    /// It may be there.
    may_exist: bool,
    /// Of the session, once it is stored.
    expiry: u32,
    /// It left a CONNECT before its answer; it may come true at any time.
    pub gave_up: bool,
    /// One of those was a clean start: whatever it believes of its session, a late CONNECT may have discarded it. No protocol helps
    /// against that, so nothing but progress is asked for.
    gave_up_clean: bool,
    /// A record of its session was damaged.
    pub damaged: bool,
    /// One of those asked for a shorter life of the session than others.
    gave_up_short: bool,
    /// It has discarded its own state, and says so until it is answered.
    wants_clean: bool,
    has_state: bool,
    /// Of its last connection that was answered.
    claim: i64,
    /// It closes the connection it has just been granted.
    pub turns_away: bool,
}

impl Client {
    pub fn new(number: usize, total: u64) -> Self {
        Self {
            number,
            id: format!("client{number}@{number}").into(),
            total,
            next: 0,
            flights: BTreeMap::new(),
            link: None,
            live: false,
            asked: false,
            offer: None,
            will: None,
            incoming: BTreeSet::new(),
            life: Life::default(),
            done: BTreeSet::new(),
            abandoned: BTreeSet::new(),
            must_exist: None,
            may_exist: false,
            expiry: 0,
            gave_up: false,
            gave_up_clean: false,
            damaged: false,
            gave_up_short: false,
            wants_clean: false,
            has_state: false,
            claim: -1,
            turns_away: false,
        }
    }

    pub fn is_live(&self) -> bool {
        self.live
    }

    /// A record of its session is damaged: what is promised to the others is not to it.
    pub fn is_damaged(&mut self) {
        self.damaged = true;
        self.gave_up_clean = true;
        self.may_exist = true;
    }

    /// A CONNECT; calm ones are for good.
    pub fn connect(&mut self, random: &mut Random, calm: bool, wills: &mut Wills, now: Millis) -> Offer {
        // Its own state has expired, too (§3.1.2.11.2).
        if self.must_exist.is_some_and(|until| until <= now) {
            self.forget();
        }
        let clean_start = self.wants_clean || !calm && random.one_in(12);
        if clean_start {
            self.wants_clean = true;
            self.forget();
        }
        let throw_away = clean_start && random.one_in(2);
        if clean_start || !self.may_exist || self.expiry == 0 {
            self.expiry = random.pick(&[0, 30, 3600, 3600, 3600, 3600]);
        }
        if throw_away {
            self.expiry = 0;
        }
        if calm {
            self.expiry = 3600;
        }
        let delay = (!throw_away && random.one_in(3)).then(|| random.pick(&[0, 0, 20]));
        self.will = delay.map(|delay| wills.add(self.number, delay));
        let offer = Offer {
            clean_start,
            expiry: self.expiry,
            will: delay.zip(self.will).map(|(delay, number)| StoredWill {
                topic: "will".to_owned(),
                payload: number.to_le_bytes().to_vec(),
                qos: QoS::AtLeastOnce,
                retain: false,
                delay,
                payload_format: None,
                expiry: None,
                content_type: None,
                response_topic: None,
                correlation_data: None,
                user: Vec::new(),
                identity: None,
            }),
        };
        self.offer = Some(offer.clone());
        (self.live, self.asked) = (false, false);
        offer
    }

    /// The connection is gone.
    pub fn lost(&mut self, at: Millis, wills: &mut Wills) {
        self.link = None;
        let Some(offer) = self.offer.take() else { return };
        if self.live {
            self.must_exist = Some(at + Millis::from(offer.expiry) * 1000);
            if let Some(number) = self.will {
                wills.lost(number, at);
            }
        } else {
            self.gave_up = true;
            self.gave_up_short |= offer.expiry < 3600;
            self.gave_up_clean |= offer.clean_start;
            self.may_exist |= offer.expiry > 0;
        }
        self.live = false;
    }

    /// DISCONNECT, sometimes with another expiry.
    pub fn goodbye(&mut self, random: &mut Random, wills: &mut Wills, now: Millis) -> Up {
        let stored = self.offer.as_ref().is_some_and(|offer| offer.expiry > 0);
        let expiry = (stored && random.one_in(3)).then(|| random.pick(&[0, 10, 7200]));
        if let Some(number) = self.will {
            wills.goodbye(number);
        }
        self.lost(now, wills);
        if let Some(expiry) = expiry {
            let until = now + Millis::from(expiry) * 1000;
            self.must_exist = self.must_exist.map(|must| must.min(until));
        }
        Up::Disconnect(expiry)
    }

    /// What it would like to send next, if anything; calm ones stay subscribed.
    pub fn wish(&mut self, random: &mut Random, calm: bool) -> Result<Option<Up>, String> {
        let stored = self.offer.as_ref().is_some_and(|offer| offer.expiry > 0 || offer.will.is_some());
        if !self.live || !stored {
            return Ok(None);
        }
        if !self.asked {
            let subscribes = self.life.starts.is_none() && (calm || !self.life.left || random.one_in(4));
            let unsubscribes = !calm && (self.life.leaving && random.one_in(2) || self.life.starts.is_some() && random.one_in(12));
            if unsubscribes {
                self.asked = true;
                return self.life.leave(self.gave_up_clean).map(|()| Some(Up::Unsubscribe));
            }
            if subscribes {
                self.asked = true;
                (self.life.leaving, self.life.left) = (false, false);
                return Ok(Some(Up::Subscribe));
            }
        }
        Ok(self.publish())
    }

    fn publish(&mut self) -> Option<Up> {
        let packet = (1..=3).find(|packet| !self.flights.contains_key(packet))?;
        if self.next == self.total {
            return None;
        }
        let payload = self.number as u64 * 1000 + self.next;
        self.next += 1;
        self.flights.insert(packet, (payload, false));
        Some(Up::Publish(packet, payload))
    }

    /// Takes a packet; what it answers.
    pub fn take(&mut self, packet: Down, wills: &mut Wills, now: Millis) -> Result<Vec<Up>, String> {
        match packet {
            Down::ConnAck(welcome) => {
                let Welcome { present, subscribed, .. } = welcome;
                if present && welcome.discarded > self.claim && !self.gave_up {
                    return Err("a session came back that an operator had ended".to_owned());
                }
                // Another may have been begun by a CONNECT that it had given up: as with a clean start it cannot know. Nobody would release what
                // it took from the one before.
                if present && self.gave_up && self.may_be_discarded(welcome) {
                    self.gave_up_clean = true;
                    self.forget();
                    self.has_state = true;
                }
                if present && subscribed && self.life.left && !self.gave_up_clean {
                    return Err("a subscription came back that was ended".to_owned());
                }
                if present && !subscribed && self.life.starts.is_some() {
                    let must = self.must_exist.is_some_and(|until| now < until);
                    if must && !self.gave_up_clean && !self.gave_up_short {
                        return Err("a subscription was lost".to_owned());
                    }
                    // The session is another: begun by a clean start that it had given up, or by a CONNECT without an answer after the time
                    // of the former was over, be it that of a CONNECT that it had given up. Nobody will release what it took from that one.
                    if !self.gave_up_clean {
                        self.life.check(None)?;
                    }
                    self.forget();
                    self.has_state = true;
                }
                return self.connected(welcome, wills, now);
            }
            Down::PubRec(packet) => {
                let Some((_, received)) = self.flights.get_mut(&packet) else {
                    return Ok(vec![]);
                };
                *received = true;
                return Ok(vec![Up::PubRel(packet)]);
            }
            Down::Refused(packet) => {
                let flight = self.flights.remove(&packet);
                self.abandoned.extend(flight.map(|(payload, _)| payload));
            }
            Down::PubComp(packet) => {
                if self.flights.get(&packet).is_some_and(|(_, received)| *received)
                    && let Some((payload, _)) = self.flights.remove(&packet)
                {
                    self.done.insert(payload);
                }
            }
            Down::SubAck(starts) => {
                self.life.starts.get_or_insert(starts);
                self.asked = false;
            }
            Down::UnsubAck => {
                (self.life.leaving, self.life.left) = (false, true);
                self.asked = false;
            }
            Down::Publish(packet, place) => {
                let once = place.source == OUT2;
                if !once || self.incoming.insert(packet) {
                    let taken = self.life.take(place);
                    taken.or_else(|wrong| if self.gave_up_clean { Ok(()) } else { Err(wrong) })?;
                }
                return Ok(vec![if once { Up::PubRec(packet) } else { Up::PubAck(packet) }]);
            }
            Down::PubRel(packet) => {
                self.incoming.remove(&packet);
                return Ok(vec![Up::PubComp(packet)]);
            }
        }
        Ok(vec![])
    }

    /// Discards its session state.
    fn forget(&mut self) {
        let flights = std::mem::take(&mut self.flights);
        self.abandoned.extend(flights.into_values().map(|(payload, _)| payload));
        self.incoming.clear();
        self.life = Life::default();
        self.has_state = false;
    }

    /// An operator may have ended the session that it was told of last; or it could not be read, and a fresh one may have taken its place.
    fn may_be_discarded(&self, welcome: Welcome) -> bool {
        welcome.maybe_discarded > self.claim || self.damaged
    }

    fn connected(&mut self, welcome: Welcome, wills: &mut Wills, now: Millis) -> Result<Vec<Up>, String> {
        let Some(offer) = &self.offer else { return Ok(vec![]) };
        let present = welcome.present;
        if present && offer.clean_start {
            return Err("a clean start found a session".to_owned());
        }
        if present && !self.may_exist {
            return Err("a session came back that was discarded".to_owned());
        }
        let must = self.must_exist.is_some_and(|until| now < until);
        let may_be_lost = self.may_be_discarded(welcome) || self.gave_up_clean || self.gave_up_short;
        if !present && !offer.clean_start && must && !may_be_lost {
            return Err("a session was lost".to_owned());
        }
        self.may_exist = offer.expiry > 0 || self.gave_up || self.damaged;
        self.must_exist = None;
        self.claim = welcome.claim;
        self.live = true;
        self.wants_clean = false;
        if present && !self.has_state {
            // [MQTT-3.2.2-4]: what it discarded is still there (its DISCONNECT was not read); it begins anew.
            (self.wants_clean, self.turns_away) = (true, true);
        }
        self.has_state = true;
        wills.returned(self.number, present, now);
        if let Some(number) = self.will {
            wills.answered(number);
        }
        if !present {
            if !self.gave_up_clean {
                self.life.check(None)?;
            }
            self.forget();
            self.has_state = true;
        }
        if !present || self.turns_away {
            return Ok(vec![]);
        }
        let again = |(packet, (payload, received)): (&u16, &(u64, bool))| match received {
            true => Up::PubRel(*packet),
            false => Up::Publish(*packet, *payload),
        };
        let mut again: Vec<(u64, Up)> = self.flights.iter().map(|flight| (flight.1.0, again(flight))).collect();
        again.sort_by_key(|(payload, _)| *payload);
        Ok(again.into_iter().map(|(_, up)| up).collect())
    }

    /// Whether it has done and got all there is.
    pub fn is_content(&self, topics: &BTreeMap<Source, Vec<u64>>) -> bool {
        let all = self.next == self.total && self.flights.is_empty() && self.incoming.is_empty();
        let has_all = |(source, start): (&Source, &i64)| {
            let end = topics.get(source).map_or(0, Vec::len) as i64;
            (*start..end).all(|offset| self.life.has(Place { source: *source, offset }))
        };
        all && self
            .life
            .starts
            .as_ref()
            .is_some_and(|starts| self.gave_up_clean || starts.iter().all(has_all))
    }

    /// What it still waits for.
    pub fn mood(&self) -> String {
        let Self {
            next,
            total,
            flights,
            incoming,
            live,
            ..
        } = self;
        let (starts, got) = (&self.life.starts, &self.life.got);
        format!("live {live}, {next} of {total}, flights {flights:?}, incoming {incoming:?}, starts {starts:?}, got {got:?}")
    }

    /// Judges what it got and what Kafka has of it.
    pub fn check(&self, kafka: &Kafka) -> Result<(), String> {
        if self.gave_up_clean {
            return Ok(());
        }
        let topics = &kafka.topics;
        self.life.check(Some(topics))?;
        for payload in (0..self.next).map(|n| self.number as u64 * 1000 + n) {
            // Nothing is promised of what was refused; only nobody may say that it is there.
            let lost = targets(payload).iter().any(|source| kafka.lost.contains(&(*source, payload)));
            let refused = targets(payload).iter().any(|source| kafka.refused.contains(&(*source, payload)));
            for source in targets(payload).into_iter().filter(|_| !refused || self.done.contains(&payload)) {
                let count = topics
                    .get(&source)
                    .map_or(0, |all| all.iter().filter(|known| **known == payload).count());
                let missing = count == 0 && self.done.contains(&payload) && !lost;
                let doubled = count > 1 && !kafka.unfenced.contains(&(source, payload));
                if doubled || missing {
                    return Err(format!("message {payload} is in Kafka {count} times"));
                }
                if count == 0 && !lost && !self.abandoned.contains(&payload) && !self.flights.values().any(|(open, _)| *open == payload) {
                    return Err(format!("message {payload} was given up"));
                }
            }
        }
        Ok(())
    }

    /// Records of a client in the order of their first sending, in each partition.
    pub fn check_order(&self, kafka: &Kafka) -> Result<(), String> {
        let topics = &kafka.topics;
        // What Kafka has lost comes again behind what it has kept.
        for source in IN.into_iter().filter(|_| !self.gave_up_clean && kafka.lost.is_empty()) {
            let own = |payload: &&u64| **payload / 1000 == self.number as u64 && !self.abandoned.contains(payload);
            let payloads: Vec<u64> = topics.get(&source).into_iter().flatten().filter(own).copied().collect();
            if !payloads.is_sorted() {
                return Err(format!("messages of client {} are out of order: {payloads:?}", self.number));
            }
        }
        Ok(())
    }
}

impl Life {
    fn has(&self, place: Place) -> bool {
        self.former.contains(&place) || self.got.get(&place.source).is_some_and(|got| got.contains(&place.offset))
    }

    /// A message has come; at QoS 2 under a packet id that was free.
    fn take(&mut self, place: Place) -> Result<(), String> {
        let known = self.former.contains(&place);
        if known && place.source == OUT2 {
            return Err(format!("a QoS 2 message came twice: {place}"));
        }
        if self.left && !known {
            return Err(format!("{place} came behind UNSUBACK"));
        }
        if self.leaving {
            // [MQTT-3.10.4-2]: it may come, or not.
            self.former.insert(place);
        } else if !known {
            self.got.entry(place.source).or_default().push(place.offset);
        }
        Ok(())
    }

    /// The subscription is to end: what has come by it is all there was up to there.
    fn leave(&mut self, unsure: bool) -> Result<(), String> {
        let starts = self.starts.take().unwrap_or_default();
        if !unsure {
            self.check(None)?;
            for (source, got) in &self.got {
                let from = starts.get(source).copied().unwrap_or(i64::MAX);
                let upto = got.iter().copied().max().unwrap_or(0);
                let missing = (from..upto).find(|&offset| !self.has(Place { source: *source, offset }));
                if let Some(offset) = missing {
                    return Err(format!("{source}@{offset} was left out"));
                }
            }
        }
        for (source, got) in std::mem::take(&mut self.got) {
            self.former.extend(got.into_iter().map(|offset| Place { source, offset }));
        }
        (self.leaving, self.left) = (true, false);
        Ok(())
    }

    fn check(&self, topics: Option<&BTreeMap<Source, Vec<u64>>>) -> Result<(), String> {
        let none = Vec::new();
        let twice = self.got.get(&OUT2).unwrap_or(&none);
        let once: BTreeSet<&i64> = twice.iter().collect();
        if once.len() != twice.len() {
            return Err(format!("a QoS 2 message came twice: {twice:?}"));
        }
        for (source, got) in &self.got {
            let mut seen = BTreeSet::new();
            let first: Vec<&i64> = got.iter().filter(|offset| seen.insert(**offset)).collect();
            if !first.is_sorted() {
                return Err(format!("messages came out of order: {got:?}"));
            }
            let end = topics.map_or(0, |topics| topics.get(source).map_or(0, Vec::len)) as i64;
            let start = self.starts.as_ref().and_then(|starts| starts.get(source)).copied();
            let is_former = |offset: i64| self.former.contains(&Place { source: *source, offset });
            let missing = (start.unwrap_or(end)..end).find(|offset| !seen.contains(offset) && !is_former(*offset));
            if let Some(offset) = missing {
                return Err(format!("{source}@{offset} never came"));
            }
        }
        Ok(())
    }
}
