//! A group coordinator as a model: Kafka's classic group protocol on plain values, with time as an argument.
//!
//! It is written from the protocol's description (KIP-345, KIP-394, KIP-429, KIP-814), shares no line with the client, and is used twice: by the
//! fake broker on sockets and by the simulation of the state machine.
#![allow(dead_code)] // Each test binary uses its part.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Who waits for an answer: chosen by the caller.
pub type Token = u64;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    #[default]
    Empty,
    /// Members are coming.
    Preparing,
    /// All have come; the assignment is missing.
    Completing,
    Stable,
}

#[derive(Clone, Debug)]
pub struct Member {
    pub instance: Option<String>,
    session: Duration,
    rebalance: Duration,
    metadata: Vec<u8>,
    pub assignment: Vec<u8>,
    alive_until: Instant,
    join: Option<Token>,
    sync: Option<Token>,
}

/// A delayed answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Join {
        code: i16,
        generation: i32,
        member: String,
        leader: String,
        /// For the leader: id, instance, metadata.
        members: Vec<(String, Option<String>, Vec<u8>)>,
        skip: bool,
    },
    Sync {
        code: i16,
        assignment: Vec<u8>,
    },
}

/// What a JoinGroup says.
#[derive(Clone, Debug)]
pub struct Join {
    pub member: String,
    pub instance: Option<String>,
    pub session: Duration,
    pub rebalance: Duration,
    pub metadata: Vec<u8>,
}

#[derive(Debug, Default)]
pub struct Group {
    pub state: State,
    pub generation: i32,
    pub members: BTreeMap<String, Member>,
    /// By `group.instance.id`.
    statics: BTreeMap<String, String>,
    pub leader: Option<String>,
    /// Those that have a name and have not joined under it, and until when they are waited for (KIP-394).
    named: BTreeMap<String, Instant>,
    deadline: Option<Instant>,
    next: u32,
    /// Answers that are ready.
    pub replies: Vec<(Token, Reply)>,
    pub offsets: BTreeMap<(String, i32), (i64, String)>,
    /// Heartbeats that came.
    pub beats: usize,
    /// Members allowed.
    pub most: Option<usize>,
}

fn refused(code: i16, member: &str) -> Reply {
    Reply::Join {
        code,
        generation: -1,
        member: member.to_owned(),
        leader: String::new(),
        members: Vec::new(),
        skip: false,
    }
}

impl Group {
    pub fn join(&mut self, token: Token, join: Join, now: Instant) {
        if self
            .most
            .is_some_and(|most| self.members.len() >= most && !self.members.contains_key(&join.member))
        {
            return self.replies.push((token, refused(81, &join.member)));
        }
        if join.member.is_empty() {
            return self.join_unnamed(token, join, now);
        }
        if join
            .instance
            .as_ref()
            .is_some_and(|i| self.statics.get(i).is_some_and(|m| *m != join.member))
        {
            return self.replies.push((token, refused(82, &join.member)));
        }
        if !self.members.contains_key(&join.member) {
            if self.named.remove(&join.member).is_some() {
                let member = join.member.clone();
                return self.add(token, member, join, now);
            }
            return self.replies.push((token, refused(25, &join.member)));
        }
        self.rejoin(token, join, now);
    }

    fn join_unnamed(&mut self, token: Token, join: Join, now: Instant) {
        self.next += 1;
        let name = format!("member-{}", self.next);
        let Some(instance) = join.instance.clone() else {
            self.named.insert(name.clone(), now + join.session);
            return self.replies.push((token, refused(79, &name)));
        };
        let Some(old) = self.statics.insert(instance, name.clone()) else {
            return self.add(token, name, join, now);
        };
        // A static member has come back: it takes the place of its former self.
        let mut member = self.members.remove(&old).expect("static members are members");
        self.fence(&old, &mut member);
        member.metadata = join.metadata;
        member.alive_until = now + member.session;
        self.members.insert(name.clone(), member);
        let led = self.leader.as_deref() == Some(&*old);
        if led {
            self.leader = Some(name.clone());
        }
        if self.state == State::Stable {
            let reply = self.joined(&name, led);
            return self.replies.push((token, reply));
        }
        self.members.get_mut(&name).expect("inserted").join = Some(token);
        self.prepare(now);
    }

    fn fence(&mut self, name: &str, member: &mut Member) {
        if let Some(token) = member.join.take() {
            self.replies.push((token, refused(82, name)));
        }
        if let Some(token) = member.sync.take() {
            let assignment = Vec::new();
            self.replies.push((token, Reply::Sync { code: 82, assignment }));
        }
    }

    fn add(&mut self, token: Token, name: String, join: Join, now: Instant) {
        if let Some(instance) = &join.instance {
            self.statics.insert(instance.clone(), name.clone());
        }
        let member = Member {
            instance: join.instance,
            session: join.session,
            rebalance: join.rebalance,
            metadata: join.metadata,
            assignment: Vec::new(),
            alive_until: now + join.session,
            join: Some(token),
            sync: None,
        };
        self.members.insert(name, member);
        self.prepare(now);
    }

    fn rejoin(&mut self, token: Token, join: Join, now: Instant) {
        let leads = self.leader.as_ref() == Some(&join.member);
        let state = self.state;
        let member = self.members.get_mut(&join.member).expect("looked up");
        member.alive_until = now + member.session;
        let same = member.metadata == join.metadata;
        let stays = match state {
            State::Completing => same,
            State::Stable => same && !leads,
            State::Preparing | State::Empty => false,
        };
        if stays {
            let reply = self.joined(&join.member, false);
            return self.replies.push((token, reply));
        }
        member.metadata = join.metadata;
        // One who asks twice has forgotten the first.
        member.join = Some(token);
        self.prepare(now);
    }

    /// A new generation is needed.
    fn prepare(&mut self, now: Instant) {
        if self.state != State::Preparing {
            for member in self.members.values_mut() {
                if let Some(token) = member.sync.take() {
                    let assignment = Vec::new();
                    self.replies.push((token, Reply::Sync { code: 27, assignment }));
                }
            }
            self.state = State::Preparing;
            self.deadline = self.members.values().map(|m| m.rebalance).max().map(|most| now + most);
        }
        self.complete(now);
    }

    /// Begins the generation if all are there.
    fn complete(&mut self, now: Instant) {
        if self.state != State::Preparing
            || !self.named.is_empty() && !self.is_late(now)
            || self
                .members
                .values()
                .any(|m| m.join.is_none() && !(m.instance.is_some() && self.is_late(now)))
        {
            return;
        }
        let patience = self.members.values().map(|m| m.rebalance).max();
        if !self.members.is_empty() && self.members.values().all(|m| m.join.is_none()) {
            // Only static members, and none of them has come: they are waited for until their sessions end.
            self.deadline = patience.map(|most| now + most);
            return;
        }
        self.generation += 1;
        if self.members.is_empty() {
            (self.state, self.deadline, self.leader) = (State::Empty, None, None);
            return;
        }
        if self
            .leader
            .as_ref()
            .is_none_or(|leader| self.members.get(leader).is_none_or(|m| m.join.is_none()))
        {
            let joined = self.members.iter().find(|(_, m)| m.join.is_some());
            self.leader = joined.map(|(name, _)| name.clone());
        }
        self.state = State::Completing;
        self.deadline = patience.map(|most| now + most);
        for name in self.members.keys().cloned().collect::<Vec<_>>() {
            let member = self.members.get_mut(&name).expect("its own key");
            member.alive_until = now + member.session;
            if let Some(token) = member.join.take() {
                let reply = self.joined(&name, false);
                self.replies.push((token, reply));
            }
        }
    }

    fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|by| now >= by)
    }

    fn joined(&self, name: &str, skip: bool) -> Reply {
        let leader = self.leader.clone().unwrap_or_default();
        let members = self.members.iter().filter(|_| leader == name);
        Reply::Join {
            code: 0,
            generation: self.generation,
            member: name.to_owned(),
            members: members.map(|(n, m)| (n.clone(), m.instance.clone(), m.metadata.clone())).collect(),
            leader,
            skip,
        }
    }

    pub fn sync(&mut self, token: Token, name: &str, generation: i32, assignments: Vec<(String, Vec<u8>)>, now: Instant) {
        let code = self.check(name, generation, now);
        let refuse = |code| {
            let assignment = Vec::new();
            (token, Reply::Sync { code, assignment })
        };
        match (code, self.state) {
            (0, State::Preparing) => self.replies.push(refuse(27)),
            (0, State::Stable) => {
                let assignment = self.members[name].assignment.clone();
                self.replies.push((token, Reply::Sync { code: 0, assignment }));
            }
            (0, _) => {
                self.members.get_mut(name).expect("checked").sync = Some(token);
                if self.leader.as_deref() == Some(name) {
                    self.assign(assignments);
                }
            }
            (code, _) => self.replies.push(refuse(code)),
        }
    }

    fn assign(&mut self, assignments: Vec<(String, Vec<u8>)>) {
        self.members.values_mut().for_each(|m| m.assignment.clear());
        for (name, assignment) in assignments {
            self.members.get_mut(&name).expect("the leader names members").assignment = assignment;
        }
        self.state = State::Stable;
        self.deadline = None;
        for member in self.members.values_mut() {
            if let Some(token) = member.sync.take() {
                let assignment = member.assignment.clone();
                self.replies.push((token, Reply::Sync { code: 0, assignment }));
            }
        }
    }

    /// Whether a member may speak for a generation; a sign of life.
    fn check(&mut self, name: &str, generation: i32, now: Instant) -> i16 {
        let ours = self.generation;
        match self.members.get_mut(name) {
            None => 25,
            Some(_) if generation != ours => 22,
            Some(member) => {
                member.alive_until = now + member.session;
                0
            }
        }
    }

    /// Whether another has taken that `group.instance.id`.
    pub fn is_fenced(&self, instance: Option<&str>, member: &str) -> bool {
        let holder = instance.and_then(|instance| self.statics.get(instance));
        holder.is_some_and(|holder| holder != member)
    }

    pub fn heartbeat(&mut self, name: &str, generation: i32, now: Instant) -> i16 {
        self.beats += 1;
        match (self.check(name, generation, now), self.state) {
            (0, State::Preparing) => 27,
            (code, _) => code,
        }
    }

    /// Whether that member may commit now.
    pub fn may_commit(&mut self, name: &str, generation: i32, now: Instant) -> i16 {
        match (self.check(name, generation, now), self.state) {
            (0, State::Completing) => 27,
            (code, _) => code,
        }
    }

    /// A member joins that is not heard of any more; its name. The others wait for it until it [leaves](Self::leave), or its session ends
    /// after an hour.
    pub fn join_and_die(&mut self, now: Instant) -> String {
        let session = Duration::from_secs(3600);
        let join = |member: &str| Join {
            member: member.to_owned(),
            instance: None,
            session,
            rebalance: session,
            metadata: Vec::new(),
        };
        // Nobody waits for its answers.
        self.join(Token::MAX, join(""), now);
        let name = format!("member-{}", self.next);
        self.join(Token::MAX, join(&name), now);
        name
    }

    pub fn leave(&mut self, name: &str, now: Instant) -> i16 {
        if self.named.remove(name).is_some() {
            self.complete(now);
            return 0;
        }
        if !self.members.contains_key(name) {
            return 25;
        }
        self.remove(name, now);
        0
    }

    fn remove(&mut self, name: &str, now: Instant) {
        let member = self.members.remove(name).expect("only members are removed");
        if let Some(instance) = &member.instance {
            self.statics.remove(instance);
        }
        if let Some(token) = member.join {
            self.replies.push((token, refused(25, name)));
        }
        if let Some(token) = member.sync {
            let assignment = Vec::new();
            self.replies.push((token, Reply::Sync { code: 25, assignment }));
        }
        if self.leader.as_deref() == Some(name) {
            self.leader = None;
        }
        self.prepare(now);
    }

    /// Throws out who is too late.
    pub fn tick(&mut self, now: Instant) {
        self.named.retain(|_, until| now < *until);
        let late = self.is_late(now);
        let out: Vec<String> = self
            .members
            .iter()
            .filter(|(_, m)| {
                let dead = m.alive_until <= now && m.join.is_none() && m.sync.is_none();
                let missing = late
                    && match self.state {
                        State::Preparing => m.join.is_none() && m.instance.is_none(),
                        State::Completing => m.sync.is_none(),
                        _ => false,
                    };
                dead || missing
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in out {
            self.remove(&name, now);
        }
        self.complete(now);
    }

    /// When something is due next.
    pub fn deadline(&self) -> Option<Instant> {
        let dead = self
            .members
            .values()
            .filter(|m| m.join.is_none() && m.sync.is_none())
            .map(|m| m.alive_until);
        dead.chain(self.named.values().copied()).chain(self.deadline).min()
    }
}
