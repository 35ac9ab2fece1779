//! One schedule: a storm of events, then calm until everybody is content, then three hours of silence. At the end all is counted.

use std::collections::{BTreeMap, BTreeSet};

use crate::client::{Client, IN, Link, OUT1, OUT2, Up, WILLS, targets};
use crate::instance::{Around, Instance};
use crate::kafka::{COMMAND, Kafka};
use crate::ownership::{ConnectionId, End, Entry, Millis, Offer};
use crate::random::Random;
use crate::wills::Wills;

/// `sessions.instance_timeout`.
const INSTANCE_TIMEOUT: Millis = 15_000;
/// What is on its way reaches Kafka within this, if its sender does not run any more.
const ON_ITS_WAY: Millis = 60_000;
/// An operator's command gives up after that.
const OPERATORS_PATIENCE: Millis = 30_000;
/// Bids in five hours for a session that cannot be read: at most one of each instance, when it is over.
const BIDS_FOR_DAMAGED: usize = 5;
/// Steps of calm within which everybody must be content.
const PATIENCE: usize = 20_000;

/// What can happen next.
#[derive(Clone, Copy)]
enum Event {
    Append(usize),
    Produce(usize),
    GiveUp(usize),
    Tail(usize),
    Answer(usize),
    Tick(usize),
    Checkpoint(usize),
    Packet(usize, ConnectionId),
    Feed(usize, ConnectionId),
    Notice(usize, ConnectionId),
    Group(usize),
    Receive(usize),
    Wish(usize),
    Connect(usize),
    Leave(usize),
    Goodbye(usize),
    Record,
    Crash,
    Stop,
    Pause,
    CutOff,
    Compact,
    Sleep,
    Operate,
}

pub struct World {
    random: Random,
    now: Millis,
    kafka: Kafka,
    instances: Vec<Instance>,
    /// Indices of those that stand for a place in the balancer.
    places: Vec<usize>,
    /// Commands of operators that run, each since when.
    commands: Vec<(usize, Millis)>,
    links: Vec<Link>,
    clients: Vec<Client>,
    wills: Wills,
    serial: u64,
    /// Kafka loses what it has acknowledged.
    loses: bool,
    /// Records of sessions are damaged.
    damages: bool,
    /// Whose session cannot be read gets a fresh one.
    fresh: bool,
    /// Operators end sessions.
    operates: bool,
    /// Faults have ceased.
    calm: bool,
    tell: bool,
    pub history: Vec<String>,
}

impl World {
    pub fn new(seed: u64, tell: bool) -> Self {
        let mut random = Random::new(seed);
        let places = random.between(2, 5) as usize;
        let clients = random.between(1, 3) as usize;
        let total = random.between(4, 14);
        let (loses, damages, fresh) = (random.one_in(3), random.one_in(6), random.one_in(2));
        let operates = random.one_in(3);
        let mut world = Self {
            random,
            now: 1_764_102_345_000,
            kafka: Kafka::default(),
            instances: Vec::new(),
            places: Vec::new(),
            commands: Vec::new(),
            links: Vec::new(),
            clients: (0..clients).map(|number| Client::new(number, total)).collect(),
            wills: Wills::default(),
            serial: 0,
            loses,
            damages,
            fresh,
            operates,
            calm: false,
            tell,
            history: Vec::new(),
        };
        for _ in 0..places {
            let index = world.start(false);
            world.places.push(index);
        }
        world
    }

    fn start(&mut self, operator: bool) -> usize {
        self.serial += 1;
        let kind = if operator { COMMAND } else { 'i' };
        self.instances
            .push(Instance::new(format!("{kind}{}", self.serial), self.fresh, operator));
        self.instances.len() - 1
    }

    /// Splits the world into an instance and what is around it.
    fn at<T>(&mut self, instance: usize, act: impl FnOnce(&mut Instance, &mut Around<'_>) -> T) -> T {
        let left = self.random.below(3) as usize;
        let mut around = Around {
            kafka: &mut self.kafka,
            links: &mut self.links,
            now: self.now,
            history: self.tell.then_some(&mut self.history),
            left,
        };
        act(&mut self.instances[instance], &mut around)
    }

    fn tell(&mut self, line: impl FnOnce() -> String) {
        if self.tell {
            self.history.push(format!("{} {}", self.now, line()));
        }
    }

    pub fn run(&mut self) -> Result<(), String> {
        for _ in 0..self.random.between(100, 700) {
            self.step(false)?;
        }
        self.tell(|| "calm".to_owned());
        self.calm = true;
        self.calm_down()?;
        let bids = self.kafka.bids.clone();
        self.silence()?;
        for client in self.clients.iter().filter(|client| client.damaged) {
            let of = |bids: &BTreeMap<String, usize>| bids.get(&*client.id).copied().unwrap_or(0);
            let more = of(&self.kafka.bids) - of(&bids);
            if more > BIDS_FOR_DAMAGED {
                return Err(format!("a session that cannot be read was bid for {more} times"));
            }
        }
        for client in &self.clients {
            client.check(&self.kafka)?;
            client.check_order(&self.kafka)?;
        }
        let sent = self.kafka.topics.get(&WILLS).cloned().unwrap_or_default();
        let unsure = |client: usize| self.clients[client].gave_up || self.clients[client].damaged;
        self.wills.check(&sent, unsure, |client| self.clients[client].damaged)?;
        if self.clients.iter().any(|client| client.damaged) && !self.fresh {
            return Ok(());
        }
        // What cannot be read is its client's to claim, and that may not have come again since.
        let some_damaged = self.clients.iter().any(|client| client.damaged);
        let is_left = |entry: &Entry| !some_damaged || !entry.is_unreadable();
        let left = |instance: &&Instance| instance.runs() && instance.partition.index().walk(0).any(|(_, entry)| is_left(entry));
        match self.instances.iter().find(left) {
            Some(instance) => Err(format!("{} still knows of a session", instance.name)),
            None => Ok(()),
        }
    }

    /// Faults cease: everybody gets on.
    fn calm_down(&mut self) -> Result<(), String> {
        for instance in &mut self.instances {
            instance.paused = None;
        }
        for step in 0..PATIENCE {
            self.step(true)?;
            if self
                .clients
                .iter()
                .all(|client| client.is_live() && client.is_content(&self.kafka.topics) || client.damaged && !self.fresh)
            {
                return Ok(());
            }
            // A packet that was lost with a connection is repeated only on a new one.
            if step % 500 == 499 {
                (0..self.clients.len()).for_each(|client| self.leave(client));
            }
        }
        let moods: Vec<String> = self.clients.iter().map(Client::mood).collect();
        Err(format!("no progress: {moods:?}"))
    }

    /// All clients go; wills, expiry and cleaning take their time.
    fn silence(&mut self) -> Result<(), String> {
        for client in 0..self.clients.len() {
            self.leave(client);
        }
        self.settle_down()?;
        for minutes in [1, 1, 60, 1, 60, 1, 60, 1, 60, 1] {
            // Tails that are at the end stay there.
            for _ in 0..minutes * 60 / 50 + 1 {
                self.now += 50_000;
                for instance in 0..self.instances.len() {
                    if self.instances[instance].runs() {
                        self.catch_up(instance, 50_000);
                    }
                }
            }
            self.settle_down()?;
        }
        Ok(())
    }

    /// Runs whatever is on its way, and the clocks.
    fn settle_down(&mut self) -> Result<(), String> {
        for _ in 0..200 {
            let mut busy = false;
            self.end_commands();
            for instance in 0..self.instances.len() {
                let events = self.own_events(instance, true);
                busy |= self.instances[instance].runs() && !self.instances[instance].is_quiet(&self.kafka);
                for (_, event) in events {
                    self.happen(event)?;
                }
            }
            if !busy {
                return Ok(());
            }
        }
        Err("no end of work".to_owned())
    }

    /// Reads what came while a step of that length passed.
    fn catch_up(&mut self, instance: usize, step: Millis) {
        while self.instances[instance].reads(&self.kafka) {
            let now = self.now;
            // It has read all along; time has only been told in large steps. Never before the step: clocks do not run back here.
            self.now -= step.min(45_000);
            self.at(instance, |instance, around| instance.tail(around));
            self.now = now;
        }
        self.at(instance, |instance, around| instance.tail(around));
    }

    /// What an instance may do or what may happen to its requests.
    fn own_events(&self, index: usize, calm: bool) -> Vec<(u64, Event)> {
        let instance = &self.instances[index];
        let mut events = Vec::new();
        let fresh = |(at, _): &&(Millis, _)| instance.runs() || at + ON_ITS_WAY >= self.now;
        if instance.appends.front().filter(fresh).is_some() {
            events.push((4, Event::Append(index)));
        }
        if !instance.produces.is_empty() {
            events.push((3, Event::Produce(index)));
            if !calm {
                events.push((1, Event::GiveUp(index)));
            }
        }
        if !instance.runs() {
            return events;
        }
        events.push((if instance.reads(&self.kafka) { 6 } else { 1 }, Event::Tail(index)));
        if instance.has_answers() {
            events.push((4, Event::Answer(index)));
        }
        events.push((1, Event::Tick(index)));
        if instance.partition.has_connections() {
            events.push((1, Event::Checkpoint(index)));
        }
        if self.is_news(index) {
            events.push((1, Event::Group(index)));
        }
        for (number, link) in self.links.iter().enumerate() {
            let id = ConnectionId(number as u64);
            if link.instance != index || link.noticed {
                continue;
            }
            if !link.up.is_empty() {
                events.push((3, Event::Packet(index, id)));
            }
            if link.closed_at.is_some() {
                events.push((2, Event::Notice(index, id)));
            }
        }
        events.extend(instance.hungry(&self.kafka).into_iter().map(|id| (2, Event::Feed(index, id))));
        events
    }

    fn step(&mut self, calm: bool) -> Result<(), String> {
        self.now += match self.random.below(if calm { 60 } else { 150 }) {
            0 => self.random.below(3000),
            1..=3 => self.random.below(300),
            _ => self.random.below(6),
        };
        self.end_commands();
        let mut events = Vec::new();
        for index in 0..self.instances.len() {
            events.extend(self.own_events(index, calm));
        }
        for (index, client) in self.clients.iter().enumerate() {
            match client.link {
                None => events.push((2, Event::Connect(index))),
                Some(link) => {
                    let open = self.links[link].closed_at.is_none();
                    if !self.links[link].down.is_empty() || !open {
                        events.push((3, Event::Receive(index)));
                    }
                    if client.is_live() {
                        events.push((2, Event::Wish(index)));
                    }
                    let impatient = !client.is_live() && self.instances[self.links[link].instance].paused.is_some();
                    if !calm && (self.random.one_in(25) || impatient && self.random.one_in(4)) {
                        events.push((2, Event::Leave(index)));
                    }
                    if !calm && client.is_live() && self.random.one_in(50) {
                        events.push((2, Event::Goodbye(index)));
                    }
                }
            }
        }
        if !calm {
            self.trouble(&mut events);
        }
        let total = events.iter().map(|(weight, _)| weight).sum();
        let mut at = self.random.below(total);
        let chosen = events.iter().find(|(weight, _)| {
            let found = at < *weight;
            at = at.wrapping_sub(*weight);
            found
        });
        chosen.map_or(Ok(()), |(_, event)| self.happen(*event))
    }

    fn trouble(&mut self, events: &mut Vec<(u64, Event)>) {
        let random = &mut self.random;
        let may = [
            (8, 2, Event::Record),
            (30, 1, Event::Crash),
            (60, 1, Event::Stop),
            (if self.loses { 12 } else { u64::MAX }, 2, Event::CutOff),
            (16, 2, Event::Pause),
            (20, 2, Event::Compact),
            (60, 2, Event::Sleep),
            (if self.operates { 12 } else { u64::MAX }, 2, Event::Operate),
        ];
        events.extend(
            may.into_iter()
                .filter(|(rare, ..)| random.one_in(*rare))
                .map(|(_, weight, event)| (weight, event)),
        );
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Append(i) => {
                self.at(i, |instance, around| instance.append(around));
                self.damage();
                let instance = &mut self.instances[i];
                instance.dead |= instance.stops && instance.appends.is_empty();
            }
            Event::Produce(i) => {
                let at = self.random.below(self.instances[i].produces.len() as u64) as usize;
                // In the calm nothing is lost any more, or the silence may be too short for what is tried again.
                let lost = self.random.one_in(20) && !self.calm;
                let rare = if targets(self.instances[i].produces[at].payload).len() > 1 {
                    4
                } else {
                    40
                };
                let doomed = self.random.one_in(rare) && !self.calm;
                self.at(i, |instance, around| instance.produce(at, lost, doomed, around))?;
            }
            Event::GiveUp(i) => {
                if self.random.one_in(8) && !self.instances[i].produces.is_empty() {
                    let at = self.random.below(self.instances[i].produces.len() as u64) as usize;
                    self.instances[i].give_up(at);
                }
            }
            Event::Tail(i) => self.at(i, |instance, around| instance.tail(around)),
            Event::Answer(i) => self.at(i, |instance, around| instance.take_answer(around)),
            Event::Tick(i) => self.at(i, |instance, around| instance.tick(around)),
            Event::Checkpoint(i) => self.at(i, |instance, around| instance.checkpoint(around)),
            Event::Packet(i, id) => self.at(i, |instance, around| instance.packet(id, around)),
            Event::Feed(i, id) => self.at(i, |instance, around| instance.feed(id, around)),
            Event::Notice(i, id) => self.at(i, |instance, around| instance.end(id, End::Lost { expiry: None }, around)),
            Event::Group(i) => {
                let members = self.members();
                let custodian = self.custodian() == Some(i);
                self.instances[i].members(custodian.then_some(members), self.now);
            }
            Event::Receive(c) => self.receive(c)?,
            Event::Wish(c) => {
                let wish = self.clients[c].wish(&mut self.random, self.calm)?;
                if let (Some(link), Some(up)) = (self.clients[c].link, wish) {
                    self.tell(|| format!("client {c} sends {up:?}"));
                    self.links[link].up.push_back(up);
                }
            }
            Event::Connect(c) => self.connect(c),
            Event::Leave(c) => self.leave(c),
            Event::Goodbye(c) => {
                if let Some(link) = self.clients[c].link {
                    let at = self.links[link].ended_at(self.now);
                    let up = self.clients[c].goodbye(&mut self.random, &mut self.wills, at);
                    self.links[link].up.push_back(up);
                }
            }
            Event::Record => {
                let source = self.random.pick(&[OUT1, OUT2]);
                let records = self.kafka.topics.entry(source).or_default();
                records.push(records.len() as u64);
            }
            Event::Crash => self.crash(),
            Event::Stop => self.stop(),
            Event::CutOff => {
                let (source, count) = (self.random.pick(&IN), self.random.between(1, 4));
                self.tell(|| format!("{source} loses {count} records"));
                self.kafka.cut_off(source, count as usize);
            }
            Event::Pause => self.pause(),
            Event::Compact => {
                let upto = self.random.below(self.kafka.end as u64 + 1) as i64;
                self.kafka.compact(upto, self.now);
            }
            Event::Sleep => self.sleep()?,
            Event::Operate => self.operate(),
        }
        Ok(())
    }

    fn members(&self) -> BTreeSet<Box<str>> {
        let is_member = |instance: &&Instance| {
            !instance.dead && !instance.operator && instance.paused.is_none_or(|at| at + INSTANCE_TIMEOUT > self.now)
        };
        self.instances
            .iter()
            .filter(is_member)
            .map(|instance| instance.name.as_str().into())
            .collect()
    }

    fn custodian(&self) -> Option<usize> {
        let members = self.members();
        self.instances.iter().position(|instance| members.contains(instance.name.as_str()))
    }

    /// The group has something to tell an instance.
    fn is_news(&self, index: usize) -> bool {
        let told = &self.instances[index].told;
        match self.custodian() == Some(index) {
            true => told.as_ref() != Some(&self.members()),
            false => told.is_some(),
        }
    }

    fn connect(&mut self, client: usize) {
        let place = self.random.pick(&self.places);
        let offer = self.clients[client].connect(&mut self.random, self.calm, &mut self.wills, self.now);
        self.links.push(Link {
            client: self.clients[client].id.clone(),
            instance: place,
            up: [Up::Connect(offer)].into(),
            down: Default::default(),
            closed_at: None,
            doubtful_at: self.instances[place].paused,
            noticed: false,
        });
        self.clients[client].link = Some(self.links.len() - 1);
    }

    fn receive(&mut self, client: usize) -> Result<(), String> {
        let Some(link) = self.clients[client].link else { return Ok(()) };
        match self.links[link].down.pop_front() {
            Some(packet) => {
                self.tell(|| format!("client {client} takes {packet:?}"));
                let answers = self.clients[client].take(packet, &mut self.wills, self.now)?;
                self.links[link].up.extend(answers);
                if std::mem::take(&mut self.clients[client].turns_away) {
                    self.leave(client);
                }
            }
            None => {
                if self.links[link].closed_at.is_some() {
                    let at = self.links[link].ended_at(self.now);
                    self.clients[client].lost(at, &mut self.wills);
                }
            }
        }
        Ok(())
    }

    fn leave(&mut self, client: usize) {
        let Some(link) = self.clients[client].link else { return };
        self.links[link].close(self.now);
        let at = self.links[link].ended_at(self.now);
        self.clients[client].lost(at, &mut self.wills);
        self.tell(|| format!("client {client} leaves {link}"));
    }

    fn crash(&mut self) {
        let at = self.random.below(self.places.len() as u64) as usize;
        self.kill(self.places[at]);
        self.places[at] = self.start(false);
    }

    fn kill(&mut self, index: usize) {
        let left = self.random.below(self.instances[index].appends.len() as u64 + 1) as usize;
        let name = self.instances[index].name.clone();
        self.tell(|| format!("{name} crashes"));
        let random = &mut self.random;
        let instance = &mut self.instances[index];
        instance.dead = true;
        instance.appends.truncate(left);
        instance.produces.retain(|_| random.one_in(2));
        for link in self.links.iter_mut().filter(|link| link.instance == index) {
            link.close(self.now);
            link.noticed = true;
        }
    }

    /// `sessions end`: it reads all there is, and claims the session if there is one, as for a clean start.
    fn operate(&mut self) {
        let at = self.random.below(self.clients.len() as u64) as usize;
        let client = self.clients[at].id.clone();
        let index = self.start(true);
        while self.instances[index].reads(&self.kafka) {
            self.at(index, |instance, around| instance.tail(around));
        }
        self.at(index, |instance, around| instance.tail(around));
        if !self.instances[index].partition.knows(&client) {
            self.instances[index].dead = true;
            return;
        }
        self.tell(|| format!("an operator ends the session of client {at}"));
        let offer = Offer {
            clean_start: true,
            expiry: 0,
            will: None,
        };
        self.links.push(Link {
            client,
            instance: index,
            up: [Up::Connect(offer)].into(),
            down: Default::default(),
            closed_at: None,
            doubtful_at: None,
            noticed: false,
        });
        self.commands.push((index, self.now));
    }

    /// Commands end when all is done, or cannot be, or takes too long. Some are broken off.
    fn end_commands(&mut self) {
        for (index, since) in std::mem::take(&mut self.commands) {
            let instance = &self.instances[index];
            let is_refused = !instance.has_ended && self.links.iter().any(|link| link.instance == index && link.noticed);
            let is_broken_off = !self.calm && self.random.one_in(100);
            if instance.is_done() {
                self.instances[index].dead = true;
            } else if is_refused || is_broken_off || since + OPERATORS_PATIENCE <= self.now {
                self.kill(index);
            } else {
                self.commands.push((index, since));
            }
        }
    }

    /// An instance is stopped in good order, and another takes its place.
    fn stop(&mut self) {
        let at = self.random.below(self.places.len() as u64) as usize;
        let index = self.places[at];
        if self.instances[index].runs() {
            self.at(index, |instance, around| instance.stop(around));
            // Also of those who have connected and whose CONNECT it has not read.
            for link in self.links.iter_mut().filter(|link| link.instance == index && !link.noticed) {
                link.close(self.now);
                link.noticed = true;
            }
            let instance = &mut self.instances[index];
            instance.dead = instance.appends.is_empty();
            self.places[at] = self.start(false);
        }
    }

    /// What has just been written may be damaged.
    fn damage(&mut self) {
        if !self.damages || self.calm || !self.random.one_in(60) {
            return;
        }
        let behind_headers = self.random.one_in(2);
        let Some(id) = self.kafka.damage(behind_headers) else { return };
        self.tell(|| "which is damaged".to_owned());
        if let Some(client) = self.clients.iter_mut().find(|client| *client.id == *id) {
            client.is_damaged();
        }
    }

    fn pause(&mut self) {
        let index = self.random.pick(&self.places);
        let (now, instance) = (self.now, &mut self.instances[index]);
        instance.paused = if instance.paused.is_some() { None } else { Some(now) };
        if instance.paused.is_some() {
            let open = |link: &&mut Link| link.instance == index && link.closed_at.is_none();
            self.links.iter_mut().filter(open).for_each(|link| {
                link.doubtful_at.get_or_insert(now);
            });
        }
        let line = format!("{} {}", instance.name, if instance.paused.is_some() { "pauses" } else { "goes on" });
        self.tell(|| line);
    }

    /// A long time passes. Whoever runs goes on reading; whoever is paused sleeps through it.
    fn sleep(&mut self) -> Result<(), String> {
        let steps = self.random.pick(&[1, 1, 2, 15]);
        for _ in 0..steps {
            let step = self.random.between(20_000, 50_000);
            self.now += step;
            for index in 0..self.instances.len() {
                if self.instances[index].runs() {
                    self.catch_up(index, step);
                    self.at(index, |instance, around| instance.tick(around));
                }
            }
            for _ in 0..self.random.below(40) {
                let mut events = Vec::new();
                for index in 0..self.instances.len() {
                    events.extend(self.own_events(index, true));
                }
                if !events.is_empty() {
                    let at = self.random.below(events.len() as u64) as usize;
                    self.happen(events[at].1)?;
                }
            }
        }
        self.tell(|| format!("{steps} long steps have passed"));
        Ok(())
    }
}
