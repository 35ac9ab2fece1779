//! One process: a partition's machine, its tail, what it has asked of Kafka, and the little of a relay that joins it to connections.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::client::{Down, FILTER, Link, OUT1, OUT2, Up, WILLS, Welcome, subscription, targets};
use crate::kafka::Kafka;
use crate::mqtt::ReasonCode;
use crate::ownership::{
    Body, ConnectionId, End, Message, Millis, NewRecord, Outcome, Output, Pair, Partition, Place, Settings, Source, State, Steps,
    StoredSubscription, Tenure,
};

/// Records open towards a client.
const WINDOW: usize = 3;
/// Tickets of SUBSCRIBE and UNSUBSCRIBE.
const SUBSCRIBE: u32 = 1;
const UNSUBSCRIBE: u32 = 2;

pub struct Request {
    tenure: Tenure,
    message: Message,
    pair: Pair,
    pub payload: u64,
    /// Its sender has given up waiting.
    pub abandoned: bool,
}

/// What the relay knows of a connection.
#[derive(Default)]
struct Relay {
    live: bool,
    /// It has taken its seats, if it subscribes: its sources are read.
    seated: bool,
    payloads: BTreeMap<u16, u64>,
    subscribed: bool,
    starts: BTreeMap<Source, i64>,
    /// What the next SUBACK promises: everything from there on. A client that repeats it may have forgotten what it got before.
    promised: BTreeMap<Source, i64>,
    positions: BTreeMap<Source, i64>,
    open: BTreeSet<u16>,
    /// Its QoS 1 messages are not told: its position waits for the lowest without PUBACK. Otherwise they are, and it does not.
    waits: bool,
    unacked: BTreeMap<u16, i64>,
}

impl Relay {
    /// Below that everything at QoS 1 is settled, but for what is told.
    fn settled(&self) -> i64 {
        let next = self.positions.get(&OUT1).copied().unwrap_or(0);
        self.unacked.values().copied().min().unwrap_or(next)
    }

    /// It has had, and settled, all that the feeds have handed out.
    fn rests(&self, feeds: &BTreeMap<Source, i64>) -> bool {
        let has_had = |(source, feed): (&Source, &i64)| self.positions.get(source).is_some_and(|at| at >= feed);
        self.live && self.seated && self.subscribed && self.open.is_empty() && feeds.iter().all(has_had)
    }
}

pub struct Instance {
    pub name: String,
    pub partition: Partition,
    position: i64,
    /// Wanted or on their way to the log, in order.
    pub appends: VecDeque<(Millis, NewRecord)>,
    pub produces: Vec<Request>,
    answers: Vec<(Tenure, Message, Pair, Outcome)>,
    fetches: Vec<(u64, i64)>,
    ids: Vec<(Tenure, Option<u64>)>,
    routes: Vec<(Tenure, u64)>,
    relays: BTreeMap<ConnectionId, Relay>,
    pub paused: Option<Millis>,
    pub dead: bool,
    /// It ends when all is written.
    pub stops: bool,
    /// `sessions end`: it claims to end a session, and is no member of the group.
    pub operator: bool,
    /// It has said goodbye, and ends when that is written.
    pub has_ended: bool,
    /// The record that is being read.
    reads: Option<i64>,
    pub told: Option<BTreeSet<Box<str>>>,
}

/// All that an instance sees of the world.
pub struct Around<'a> {
    pub kafka: &'a mut Kafka,
    pub links: &'a mut Vec<Link>,
    pub now: Millis,
    pub history: Option<&'a mut Vec<String>>,
    /// How much of its queue has left already when it throws it away.
    pub left: usize,
}

impl Around<'_> {
    pub fn tell(&mut self, line: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(history) = &mut self.history {
            history.push(format!("{now} {}", line()));
        }
    }
}

impl Instance {
    pub fn new(name: String, fresh_if_damaged: bool, operator: bool) -> Self {
        let settings = Settings {
            instance: name.as_str().into(),
            fresh_if_damaged,
            operator,
        };
        Self {
            name,
            partition: Partition::new(settings),
            position: 0,
            appends: VecDeque::new(),
            produces: Vec::new(),
            answers: Vec::new(),
            fetches: Vec::new(),
            ids: Vec::new(),
            routes: Vec::new(),
            relays: BTreeMap::new(),
            paused: None,
            dead: false,
            stops: false,
            operator,
            has_ended: false,
            reads: None,
            told: None,
        }
    }

    pub fn runs(&self) -> bool {
        !self.dead && self.paused.is_none()
    }

    pub fn has_answers(&self) -> bool {
        !(self.answers.is_empty() && self.fetches.is_empty() && self.ids.is_empty() && self.routes.is_empty())
    }

    pub fn is_quiet(&self, kafka: &Kafka) -> bool {
        self.appends.is_empty() && self.produces.is_empty() && !self.has_answers() && self.position == kafka.end
    }

    pub fn reads(&self, kafka: &Kafka) -> bool {
        kafka.next(self.position).is_some()
    }

    /// One record of the tail, or the news that there is none.
    pub fn tail(&mut self, around: &mut Around<'_>) {
        match around.kafka.next(self.position) {
            Some(stored) => {
                self.position = stored.offset + 1;
                let now = around.now;
                stored.read(|record| self.partition.read(record, now));
                self.reads = Some(stored.offset);
            }
            None => {
                self.position = around.kafka.end;
                self.partition.at_end(self.position, around.now, around.now);
            }
        }
        self.drain(around);
        self.reads = None;
    }

    /// What an operator has asked for is done: the end of the session is read back, and its will sent.
    pub fn is_done(&self) -> bool {
        self.has_ended && self.appends.is_empty() && !self.partition.owns_any()
    }

    pub fn tick(&mut self, around: &mut Around<'_>) {
        self.partition.tick(around.now);
        self.drain(around);
    }

    /// As by SIGTERM: all connections end, and the process when all is written.
    pub fn stop(&mut self, around: &mut Around<'_>) {
        around.tell(|| format!("{} stops", self.name));
        self.stops = true;
        for id in self.relays.keys().copied().collect::<Vec<_>>() {
            self.end(id, End::Shutdown, around);
        }
    }

    /// Time for a checkpoint. What nobody sits in is not read; those who have just come sit down after it, unless something was sent to them.
    pub fn checkpoint(&mut self, around: &mut Around<'_>) {
        let end = |source: &Source| around.kafka.topics.get(source).map_or(0, Vec::len) as i64;
        let is_read = self.relays.values().any(|relay| relay.seated);
        let sources = [OUT1, OUT2].into_iter().filter(|_| is_read);
        let feeds = sources.map(|source| (source, end(&source))).collect();
        let relays = &self.relays;
        let rests = |id: ConnectionId| relays.get(&id).is_some_and(|relay| relay.rests(&feeds));
        self.partition.checkpoint(&feeds, rests, around.now);
        for relay in self.relays.values_mut() {
            relay.seated = relay.live && relay.subscribed;
        }
        self.drain(around);
    }

    /// The next append reaches the log.
    pub fn append(&mut self, around: &mut Around<'_>) {
        let Some((_, record)) = self.appends.pop_front() else { return };
        around.tell(|| {
            let value = String::from_utf8_lossy(record.value.as_deref().unwrap_or(b"-")).into_owned();
            format!("{} appends {} {value}", self.name, record.key)
        });
        let offset = around.kafka.append(record, around.now);
        around.tell(|| format!("  at {offset}"));
    }

    /// A produce request reaches Kafka; its answer may be lost. What is `doomed` Kafka refuses from now on, if a client has sent it: a topic
    /// may take smaller records now.
    pub fn produce(&mut self, at: usize, lost: bool, doomed: bool, around: &mut Around<'_>) -> Result<(), String> {
        let request = self.produces.swap_remove(at);
        if doomed && matches!(request.message, Message::Packet(_)) {
            around.kafka.refused.insert((request.pair.source, request.payload));
        }
        let outcome = around.kafka.produce(request.pair, request.payload).map_err(str::to_owned)?;
        around.tell(|| {
            format!(
                "{} produces {} by {}: {outcome:?}{}",
                self.name,
                request.payload,
                request.pair,
                if lost { ", answer lost" } else { "" }
            )
        });
        if !request.abandoned {
            let outcome = if lost { Outcome::Unknown } else { outcome };
            self.answers.push((request.tenure, request.message, request.pair, outcome));
        }
        Ok(())
    }

    /// A produce request is given up, though it may still arrive.
    pub fn give_up(&mut self, at: usize) {
        let request = &mut self.produces[at];
        if !std::mem::replace(&mut request.abandoned, true) {
            let answer = (request.tenure.clone(), request.message, request.pair, Outcome::Unknown);
            self.answers.push(answer);
        }
    }

    /// One of the answers that wait is taken.
    pub fn take_answer(&mut self, around: &mut Around<'_>) {
        let now = around.now;
        if let Some((tenure, message, pair, outcome)) = self.answers.pop() {
            self.partition.produced(&tenure, message, &pair, outcome, now);
        } else if let Some((tenure, will)) = self.ids.pop() {
            let id = around.kafka.producer_id();
            self.partition.producer_id(&tenure, will, id, 0, now);
        } else if let Some((tenure, number)) = self.routes.pop() {
            self.partition.will_routed(&tenure, number, vec![WILLS], now);
        } else if let Some((serial, offset)) = self.fetches.pop() {
            match around.kafka.at(offset) {
                Some(stored) => stored.read(|record| self.partition.fetched(serial, Some(record), now)),
                None => self.partition.fetched(serial, None, now),
            }
        }
        self.drain(around);
    }

    /// Who is a member of the group; `None` unless it is the custodian.
    pub fn members(&mut self, members: Option<BTreeSet<Box<str>>>, now: u64) {
        self.told.clone_from(&members);
        self.partition.members(members, now);
    }

    /// The next packet of a connection.
    pub fn packet(&mut self, id: ConnectionId, around: &mut Around<'_>) {
        let now = around.now;
        let link = &mut around.links[id.0 as usize];
        let live = self.relays.get(&id).is_some_and(|relay| relay.live);
        match link.up.front() {
            Some(Up::Connect(_)) => {}
            Some(_) if live => {}
            _ => return,
        }
        let Some(packet) = link.up.pop_front() else { return };
        if let Up::Connect(offer) = packet {
            let waits = id.0.is_multiple_of(2);
            self.relays.insert(id, Relay { waits, ..Relay::default() });
            let (client, end) = (link.client.clone(), around.kafka.end);
            around.tell(|| format!("{} takes CONNECT {} of {client}: {offer:?}", self.name, id.0));
            self.partition.connect(id, &client, offer, end, now);
            return self.drain(around);
        }
        around.tell(|| format!("{} takes {packet:?} of {}", self.name, id.0));
        let Some(relay) = self.relays.get_mut(&id) else { return };
        match packet {
            Up::Publish(packet, payload) => {
                relay.payloads.insert(packet, payload);
                self.partition.publish(id, packet, targets(payload), now);
            }
            Up::PubRel(packet) => self.partition.pubrel(id, packet, now),
            Up::PubAck(packet) if relay.unacked.contains_key(&packet) => {
                relay.open.remove(&packet);
                relay.unacked.remove(&packet);
                self.partition.position(id, OUT1, relay.settled(), now);
            }
            Up::PubAck(packet) | Up::PubComp(packet) => {
                relay.open.remove(&packet);
                self.partition.settled(id, packet, now);
            }
            Up::PubRec(packet) => self.partition.pubrec(id, packet, now),
            Up::Subscribe => self.subscribe(id, around),
            Up::Unsubscribe => {
                relay.subscribed = false;
                self.partition.unsubscribe(id, UNSUBSCRIBE, &[FILTER], now);
            }
            Up::Disconnect(expiry) => self.end(id, End::Goodbye { expiry }, around),
            Up::Connect(_) => {}
        }
        self.drain(around);
    }

    fn subscribe(&mut self, id: ConnectionId, around: &mut Around<'_>) {
        let Some(relay) = self.relays.get_mut(&id) else { return };
        if !std::mem::replace(&mut relay.subscribed, true) {
            // What a former subscription has begun to deliver is told as open, with a position behind it.
            for (packet, offset) in std::mem::take(&mut relay.unacked) {
                self.partition.sent(id, packet, Place { source: OUT1, offset }, around.now);
            }
            for source in [OUT1, OUT2] {
                let end = around.kafka.topics.get(&source).map_or(0, Vec::len) as i64;
                relay.positions.insert(source, end);
                relay.starts.insert(source, end);
                self.partition.position(id, source, end, around.now);
            }
        }
        relay.seated = true;
        relay.promised.clone_from(&relay.positions);
        let claim = around.kafka.claimed(&around.links[id.0 as usize].client, self.position);
        let granted = vec![subscription(&relay.starts, claim.map_or(-1, |(claim, _)| claim))];
        self.partition.subscribe(id, SUBSCRIBE, granted, around.now);
    }

    /// A connection has ended.
    pub fn end(&mut self, id: ConnectionId, end: End, around: &mut Around<'_>) {
        let is_let_in = self.relays.remove(&id).is_some_and(|relay| relay.live);
        let end = if is_let_in { end } else { End::Refused };
        self.has_ended |= self.operator && matches!(end, End::Goodbye { .. });
        let link = &mut around.links[id.0 as usize];
        link.close(around.now);
        link.noticed = true;
        self.partition.disconnected(id, end, around.now);
        around.tell(|| format!("{} notices the end of {}: {end:?}", self.name, id.0));
        self.drain(around);
    }

    /// Connections that could be given a record.
    pub fn hungry(&self, kafka: &Kafka) -> Vec<ConnectionId> {
        let wants = |relay: &Relay| {
            let more = |(source, at): (&Source, &i64)| kafka.topics.get(source).is_some_and(|records| (records.len() as i64) > *at);
            relay.live && relay.subscribed && relay.open.len() < WINDOW && relay.positions.iter().any(more)
        };
        self.relays.iter().filter(|(_, relay)| wants(relay)).map(|(id, _)| *id).collect()
    }

    /// Gives a connection the next record of one of its sources.
    pub fn feed(&mut self, id: ConnectionId, around: &mut Around<'_>) {
        let Some(relay) = self.relays.get_mut(&id) else { return };
        let more = |(source, at): (&Source, &i64)| {
            let records = around.kafka.topics.get(source)?;
            ((records.len() as i64) > *at).then_some(Place {
                source: *source,
                offset: *at,
            })
        };
        let Some(place) = relay.positions.iter().find_map(more) else {
            return;
        };
        let Some(packet) = (1..=9).find(|packet| !relay.open.contains(packet)) else {
            return;
        };
        relay.seated = true;
        relay.open.insert(packet);
        relay.positions.insert(place.source, place.offset + 1);
        let now = around.now;
        let mut settled = place.offset + 1;
        if place.source == OUT2 {
            self.partition.send(id, packet, place, now);
        } else {
            if relay.waits {
                relay.unacked.insert(packet, place.offset);
                settled = relay.settled();
            } else {
                self.partition.sent(id, packet, place, now);
            }
            around.links[id.0 as usize].down.push_back(Down::Publish(packet, place));
        }
        self.partition.position(id, place.source, settled, now);
        self.drain(around);
    }

    fn drain(&mut self, around: &mut Around<'_>) {
        while let Some(output) = self.partition.poll() {
            self.obey(output, around);
        }
    }

    fn obey(&mut self, output: Output, around: &mut Around<'_>) {
        if let Err(wrong) = self.judge(&output, around) {
            around.tell(|| format!("{} has no right to {output:?}: {wrong}", self.name));
            panic!("{} has no right to {output:?}: {wrong}", self.name);
        }
        if !matches!(output, Output::Append(_)) {
            around.tell(|| format!("{} wants {output:?}", self.name));
        }
        let mut down = |id: ConnectionId, packet| around.links[id.0 as usize].down.push_back(packet);
        match output {
            Output::Append(records) => self.appends.extend(records.into_iter().map(|record| (around.now, record))),
            Output::Fetch { serial, offset } => self.fetches.push((serial, offset)),
            Output::ProducerId { tenure, will } => self.ids.push((tenure, will)),
            Output::RouteWill { tenure, number, .. } => self.routes.push((tenure, number)),
            Output::PubRec(id, packet) => down(id, Down::PubRec(packet)),
            Output::PubComp(id, packet) => down(id, Down::PubComp(packet)),
            Output::PubRel(id, packet) => down(id, Down::PubRel(packet)),
            Output::Publish(id, packet, place) => down(id, Down::Publish(packet, place)),
            Output::Refused(id, packet) => down(id, Down::Refused(packet)),
            Output::Answered(id, UNSUBSCRIBE) => down(id, Down::UnsubAck),
            Output::Answered(id, _) => {
                let starts = self.relays.get(&id).map(|relay| relay.promised.clone()).unwrap_or_default();
                down(id, Down::SubAck(starts));
            }
            Output::Connected { connection, .. } if self.operator => {
                self.relays.entry(connection).or_default().live = true;
                around.links[connection.0 as usize].up.push_back(Up::Disconnect(None));
            }
            Output::Connected {
                connection,
                present,
                stored,
            } => {
                let relay = self.relays.entry(connection).or_default();
                relay.live = true;
                let subscribed = present.as_ref().is_some_and(|body| !body.subscriptions.is_empty());
                let client = &around.links[connection.0 as usize].client;
                let claim = around.kafka.claimed(client, self.position).filter(|_| stored);
                let claim = claim.map_or(self.position, |(claim, _)| claim);
                let welcome = Welcome {
                    present: present.is_some(),
                    subscribed,
                    claim,
                    discarded: around.kafka.discarded(client, claim, false).unwrap_or(-1),
                    maybe_discarded: around.kafka.discarded(client, claim, true).unwrap_or(-1),
                };
                around.links[connection.0 as usize].down.push_back(Down::ConnAck(welcome));
                let mut down = |id: ConnectionId, packet| around.links[id.0 as usize].down.push_back(packet);
                let Some(body) = present else { return };
                relay.subscribed = !body.subscriptions.is_empty();
                relay.starts = body.subscriptions.first().map(|first| first.starts.clone()).unwrap_or_default();
                relay.positions.clone_from(&body.steps.positions);
                relay.open.extend(body.steps.outbound.keys().chain(body.steps.flight.keys()));
                let mut again: Vec<_> = body.steps.flight.iter().map(|(packet, place)| (*place, *packet)).collect();
                let unreleased = body.steps.outbound.iter().filter(|(_, outgoing)| !outgoing.released);
                again.extend(unreleased.map(|(packet, outgoing)| (outgoing.place, *packet)));
                again.sort();
                again
                    .iter()
                    .for_each(|(place, packet)| down(connection, Down::Publish(*packet, *place)));
                let released = body.steps.outbound.iter().filter(|(_, outgoing)| outgoing.released);
                released.for_each(|(packet, _)| down(connection, Down::PubRel(*packet)));
            }
            // For people.
            Output::Unreadable { .. } => {}
            Output::Refuse { connection, .. } | Output::Close { connection, .. } => {
                self.end(connection, End::Lost { expiry: None }, around);
            }
            Output::Produce {
                tenure,
                message,
                pair,
                will,
                ..
            } => {
                let payload = match (message, &will) {
                    (_, Some(will)) => u64::from_le_bytes(will.payload.as_slice().try_into().expect("a number")),
                    (Message::Packet(packet), None) => self.payload(&tenure, packet, around),
                    (Message::Will(_), None) => unreachable!("a will comes with its message"),
                };
                self.produces.push(Request {
                    tenure,
                    message,
                    pair,
                    payload,
                    abandoned: false,
                });
            }
            Output::Reset => {
                self.position = 0;
                self.appends.truncate(around.left);
                self.fetches.clear();
                self.ids.clear();
                self.routes.clear();
            }
        }
    }

    /// Two promises, looked at as an answer leaves: nobody else has claimed the client in what this instance has read, and the record that the
    /// answer rests on is there. CONNACK of a throw-away client leaves before it is claimed.
    fn judge(&self, output: &Output, around: &Around<'_>) -> Result<(), String> {
        if let (Output::Close { connection, reason }, Some(at)) = (output, self.reads) {
            let client = &around.links[connection.0 as usize].client;
            let is_right = match reason {
                ReasonCode::SessionTakenOver => !around.kafka.is_operators(client, at),
                ReasonCode::AdministrativeAction => around.kafka.is_operators(client, at),
                _ => true,
            };
            return if is_right {
                Ok(())
            } else {
                Err("the client is told another reason".to_owned())
            };
        }
        let (Output::Connected {
            connection: id,
            stored: true,
            ..
        }
        | Output::Answered(id, _)
        | Output::PubRec(id, _)
        | Output::PubComp(id, _)
        | Output::PubRel(id, _)
        | Output::Publish(id, ..)) = output
        else {
            return Ok(());
        };
        let client = &around.links[id.0 as usize].client;
        let claim = match around.kafka.claimed(client, self.position) {
            Some((claim, owner)) if owner == self.name => claim,
            other => return Err(format!("the last claim is {other:?}")),
        };
        if let Output::Connected { present: Some(found), .. } = output {
            self.judge_found(found, client, claim, around)?;
        }
        let written = around
            .kafka
            .written(client, claim, self.position)
            .and_then(|record| record.value.as_deref());
        let Some(value) = written else {
            return Err("nothing of its own is read back".to_owned());
        };
        let (steps, state) = match (State::parse(value), Steps::parse(value)) {
            (Ok((_, State::Goes(body))), _) => (body.steps.clone(), Some(body)),
            (_, Ok((_, steps))) => (steps, None),
            // It was damaged.
            _ => return Ok(()),
        };
        let holds = match output {
            Output::Connected { .. } => state.is_some_and(|body| body.connected),
            Output::Answered(_, ticket) => state.is_none_or(|body| body.subscriptions.is_empty() == (*ticket == UNSUBSCRIBE)),
            Output::PubRec(_, packet) => steps.inbound.contains_key(packet),
            Output::PubComp(_, packet) => !steps.inbound.contains_key(packet),
            Output::PubRel(_, packet) => steps.outbound.get(packet).is_some_and(|outgoing| outgoing.released),
            Output::Publish(_, packet, place) => steps.outbound.get(packet).is_some_and(|outgoing| outgoing.place == *place),
            _ => true,
        };
        if holds {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(value).into_owned())
        }
    }

    /// What an operator has ended is not found again: neither by the first who claims after that, nor what was subscribed before.
    fn judge_found(&self, found: &Body, client: &str, claim: i64, around: &Around<'_>) -> Result<(), String> {
        let Some(ended) = around.kafka.discarded(client, claim, false) else {
            return Ok(());
        };
        let is_old = |subscription: &StoredSubscription| subscription.id.is_some_and(|made| i64::from(made) < ended);
        if found.subscriptions.iter().any(is_old) || !around.kafka.is_claimed_between(client, ended, claim) {
            return Err(format!("an operator has ended it at {ended}"));
        }
        Ok(())
    }

    /// The PUBLISH waits in its connection.
    fn payload(&self, tenure: &Tenure, packet: u16, around: &Around<'_>) -> u64 {
        let relay = self
            .relays
            .iter()
            .filter(|(id, _)| around.links[id.0 as usize].client == tenure.client);
        let payload = relay.filter_map(|(_, relay)| relay.payloads.get(&packet)).next_back();
        *payload.expect("only what was published is produced")
    }
}
