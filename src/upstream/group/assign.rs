//! Who gets which partition: a pure function, run by the member that leads a generation.
//!
//! Sticky, balanced and cooperative (KIP-429): who has a partition keeps it as far as balance allows, and what must move is left out of
//! one generation, so that its owner sees it is to be given up, gives it up and asks for the next. A partition goes to a member only
//! if no other says that it has it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::event::TopicPartition;

/// A member as the one that leads sees it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Candidate {
    /// The coordinator's name for it.
    pub(super) member: String,
    /// What it wants all partitions of.
    pub(super) topics: BTreeSet<Arc<str>>,
    /// What it says it has.
    pub(super) owned: Vec<TopicPartition>,
    /// The generation that gave it that; -1 if none.
    pub(super) generation: i32,
}

impl Candidate {
    /// One that cannot be understood: it gets nothing.
    pub(super) fn unreadable(member: &str) -> Self {
        Self {
            member: member.to_owned(),
            topics: BTreeSet::new(),
            owned: Vec::new(),
            generation: -1,
        }
    }
}

/// Who says that it has a partition.
struct Claim {
    /// The one who got it last; `None` if two say so of the same generation.
    keeper: Option<usize>,
    generation: i32,
}

/// The partitions of each candidate, by its index. `counts` are the partitions of each topic; topics that are not in it have none.
pub(super) fn assign(candidates: &[Candidate], counts: &BTreeMap<Arc<str>, i32>) -> Vec<BTreeSet<TopicPartition>> {
    let claims = claims(candidates, counts);
    let mut target = Target::keep(candidates, counts, &claims);
    target.give(counts);
    target.balance();
    let mut given = vec![BTreeSet::new(); candidates.len()];
    for (at, topics) in target.has.into_iter().enumerate() {
        for (topic, partitions) in topics {
            for partition in partitions {
                let one = TopicPartition {
                    topic: Arc::clone(&topic),
                    partition,
                };
                if claims.get(&one).is_none_or(|claim| claim.keeper == Some(at)) {
                    given[at].insert(one);
                }
            }
        }
    }
    given
}

fn claims(candidates: &[Candidate], counts: &BTreeMap<Arc<str>, i32>) -> BTreeMap<TopicPartition, Claim> {
    let mut claims: BTreeMap<TopicPartition, Claim> = BTreeMap::new();
    for (at, candidate) in candidates.iter().enumerate() {
        let exists = |one: &&TopicPartition| counts.get(&one.topic).is_some_and(|count| (0..*count).contains(&one.partition));
        let owned: BTreeSet<&TopicPartition> = candidate.owned.iter().filter(exists).collect();
        for one in owned {
            let generation = candidate.generation;
            let claim = Claim {
                keeper: Some(at),
                generation,
            };
            match claims.get_mut(one) {
                None => drop(claims.insert(one.clone(), claim)),
                Some(other) if other.generation < generation => *other = claim,
                Some(other) if other.generation == generation => other.keeper = None,
                Some(_) => {}
            }
        }
    }
    claims
}

/// Who shall have what in the end, whatever must be given up before.
struct Target<'a> {
    candidates: &'a [Candidate],
    has: Vec<BTreeMap<Arc<str>, BTreeSet<i32>>>,
    /// Of that, what nobody says that it has: moving it costs nothing.
    loose: Vec<BTreeMap<Arc<str>, BTreeSet<i32>>>,
    load: Vec<usize>,
}

impl<'a> Target<'a> {
    /// Everybody keeps what it has.
    fn keep(candidates: &'a [Candidate], counts: &BTreeMap<Arc<str>, i32>, claims: &BTreeMap<TopicPartition, Claim>) -> Self {
        let mut target = Self {
            candidates,
            has: vec![BTreeMap::new(); candidates.len()],
            loose: vec![BTreeMap::new(); candidates.len()],
            load: vec![0; candidates.len()],
        };
        for (one, claim) in claims {
            let keeper = claim.keeper.filter(|at| candidates[*at].topics.contains(&one.topic));
            if let Some(at) = keeper.filter(|_| counts.contains_key(&one.topic)) {
                target.put(at, &one.topic, one.partition);
            }
        }
        target
    }

    fn put(&mut self, at: usize, topic: &Arc<str>, partition: i32) {
        self.has[at].entry(Arc::clone(topic)).or_default().insert(partition);
        self.load[at] += 1;
    }

    /// The one with the least among those who want the topic; the first of several.
    fn idlest(&self, topic: &str) -> Option<usize> {
        let wants = (0..self.candidates.len()).filter(|at| self.candidates[*at].topics.contains(topic));
        wants.min_by_key(|at| (self.load[*at], &self.candidates[*at].member))
    }

    /// What nobody has goes to those with the least. Topics that few want come first, since their partitions have less choice.
    fn give(&mut self, counts: &BTreeMap<Arc<str>, i32>) {
        let wanted = |topic: &Arc<str>| self.candidates.iter().filter(|c| c.topics.contains(topic)).count();
        let mut topics: Vec<(usize, &Arc<str>, i32)> = counts.iter().map(|(topic, count)| (wanted(topic), topic, *count)).collect();
        topics.sort();
        for (_, topic, count) in topics {
            let taken: BTreeSet<i32> = self.has.iter().filter_map(|has| has.get(topic)).flatten().copied().collect();
            for partition in (0..count).filter(|partition| !taken.contains(partition)) {
                let Some(at) = self.idlest(topic) else { break };
                self.put(at, topic, partition);
                self.loose[at].entry(Arc::clone(topic)).or_default().insert(partition);
            }
        }
    }

    /// Moves partitions from who has more to who has two less, until there is none. Each move makes the sum of the squares of the
    /// loads smaller, so it ends. What costs nothing goes first.
    fn balance(&mut self) {
        while let Some((from, to, topic)) = self.widest(&self.loose) {
            let partition = take(&mut self.loose[from], &topic);
            self.loose[to].entry(Arc::clone(&topic)).or_default().insert(partition);
            self.shift(from, to, &topic, partition);
        }
        while let Some((from, to, topic)) = self.widest(&self.has) {
            let last = self.has[from][&topic]
                .last()
                .copied()
                .expect("topics without partitions are not kept");
            self.shift(from, to, &topic, last);
        }
    }

    fn shift(&mut self, from: usize, to: usize, topic: &Arc<str>, partition: i32) {
        let partitions = self.has[from].get_mut(topic).expect("found there");
        partitions.remove(&partition);
        if partitions.is_empty() {
            self.has[from].remove(topic);
        }
        self.load[from] -= 1;
        self.put(to, topic, partition);
    }

    /// The move of one `of` these that evens out the most, if any does.
    fn widest(&self, of: &[BTreeMap<Arc<str>, BTreeSet<i32>>]) -> Option<(usize, usize, Arc<str>)> {
        let mut order: Vec<usize> = (0..self.candidates.len()).collect();
        order.sort_by_key(|at| (std::cmp::Reverse(self.load[*at]), &self.candidates[*at].member));
        order.into_iter().find_map(|from| {
            let reach = of[from]
                .keys()
                .filter_map(|topic| self.idlest(topic).map(|to| (self.load[to], to, topic)));
            let (least, to, topic) = reach.min()?;
            (self.load[from] >= least + 2).then(|| (from, to, Arc::clone(topic)))
        })
    }
}

/// The last partition of a topic that is in there.
fn take(from: &mut BTreeMap<Arc<str>, BTreeSet<i32>>, topic: &Arc<str>) -> i32 {
    let partitions = from.get_mut(topic).expect("found there");
    let last = partitions.pop_last().expect("topics without partitions are not kept");
    if partitions.is_empty() {
        from.remove(topic);
    }
    last
}
