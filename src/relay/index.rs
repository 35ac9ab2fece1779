//! Who wants a record: the subscription index of one Kafka topic.
//!
//! Filters without wildcards lie in a hash map, so a record that nobody wants costs one look-up; filters with
//! `+` or `#` lie in a trie over levels. The index knows no session and no socket: a subscriber is a value.
//!
//! The subscribers of a filter lie in a set, since a whole fleet may subscribe to one: were each looked for among all, a fleet that
//! comes or goes would hold the index, and so everybody's deliveries, for as long as the square of its size.

use std::{collections::HashMap, hash::Hash};

use rustc_hash::FxHashSet;

/// The subscriptions of one Kafka topic by their filters (§4.7). `S` is what is handed back at a match.
#[derive(Debug)]
pub struct Index<S> {
    exact: HashMap<Box<str>, FxHashSet<S>>,
    wild: Node<S>,
    wild_count: usize,
}

#[derive(Debug)]
struct Node<S> {
    children: HashMap<Box<str>, Node<S>>,
    plus: Option<Box<Node<S>>>,
    /// Subscribers whose filter ends here.
    here: FxHashSet<S>,
    /// Subscribers whose filter ends here with `#`: they match this level and all below.
    rest: FxHashSet<S>,
}

impl<S> Default for Node<S> {
    fn default() -> Self {
        Self {
            children: HashMap::new(),
            plus: None,
            here: FxHashSet::default(),
            rest: FxHashSet::default(),
        }
    }
}

impl<S> Default for Index<S> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            wild: Node::default(),
            wild_count: 0,
        }
    }
}

impl<S: Eq + Hash> Index<S> {
    /// Adds a subscriber under a filter; an equal one that is there already is replaced.
    pub fn insert(&mut self, filter: &str, subscriber: S) {
        let list = match filter.contains(['+', '#']) {
            false => self.exact.entry(filter.into()).or_default(),
            true => self.wild.list(filter),
        };
        if list.replace(subscriber).is_none() {
            self.wild_count += usize::from(filter.contains(['+', '#']));
        }
    }

    /// Takes a subscriber out; nothing happens if it is not there.
    pub fn remove(&mut self, filter: &str, subscriber: &S) {
        if filter.contains(['+', '#']) {
            let levels: Vec<&str> = filter.split('/').collect();
            self.wild_count -= usize::from(self.wild.remove(&levels, subscriber));
        } else if let Some(list) = self.exact.get_mut(filter) {
            take(list, subscriber);
            if list.is_empty() {
                self.exact.remove(filter);
            }
        }
    }

    /// Calls `found` for each subscription that matches a topic name; a subscriber with two filters is found twice.
    pub fn matches<'s>(&'s self, topic: &str, found: &mut impl FnMut(&'s S)) {
        if let Some(list) = self.exact.get(topic) {
            list.iter().for_each(&mut *found);
        }
        if self.wild_count > 0 {
            // [MQTT-4.7.2-1]: a filter that starts with a wildcard does not match a name that starts with `$`.
            self.wild.matches(Some(topic), topic.starts_with('$'), found);
        }
    }
}

impl<S: Eq + Hash> Node<S> {
    fn list(&mut self, filter: &str) -> &mut FxHashSet<S> {
        let mut node = self;
        for level in filter.split('/') {
            match level {
                "#" => return &mut node.rest,
                "+" => node = node.plus.get_or_insert_default(),
                name => node = node.children.entry(name.into()).or_default(),
            }
        }
        &mut node.here
    }

    /// True if the subscriber was there. Branches that become empty are taken down on the way back.
    fn remove(&mut self, levels: &[&str], subscriber: &S) -> bool {
        let Some((first, below)) = levels.split_first() else {
            return take(&mut self.here, subscriber);
        };
        match *first {
            "#" => take(&mut self.rest, subscriber),
            "+" => {
                let Some(child) = self.plus.as_mut() else { return false };
                let found = child.remove(below, subscriber);
                if child.is_bare() {
                    self.plus = None;
                }
                found
            }
            name => {
                let Some(child) = self.children.get_mut(name) else { return false };
                let found = child.remove(below, subscriber);
                if child.is_bare() {
                    self.children.remove(name);
                }
                found
            }
        }
    }

    fn is_bare(&self) -> bool {
        self.children.is_empty() && self.plus.is_none() && self.here.is_empty() && self.rest.is_empty()
    }

    /// `topic` is what lies below this node; `None` when the name ended here.
    fn matches<'s>(&'s self, topic: Option<&str>, dollar: bool, found: &mut impl FnMut(&'s S)) {
        if !dollar {
            self.rest.iter().for_each(&mut *found);
        }
        let Some(topic) = topic else {
            return self.here.iter().for_each(found);
        };
        let (level, below) = match topic.split_once('/') {
            Some((level, below)) => (level, Some(below)),
            None => (topic, None),
        };
        if let Some(child) = self.children.get(level) {
            child.matches(below, false, found);
        }
        if let Some(child) = self.plus.as_ref().filter(|_| !dollar) {
            child.matches(below, false, found);
        }
    }
}

/// True if the subscriber was there. A set that has become small gives memory back.
fn take<S: Eq + Hash>(list: &mut FxHashSet<S>, subscriber: &S) -> bool {
    let found = list.remove(subscriber);
    if list.len() < list.capacity() / 4 {
        list.shrink_to(list.len() * 2);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(index: &Index<u32>, topic: &str) -> Vec<u32> {
        let mut all = vec![];
        index.matches(topic, &mut |s| all.push(*s));
        all.sort_unstable();
        all
    }

    #[test]
    fn filters_match_as_the_specification_says() {
        let mut index = Index::default();
        for (i, filter) in ["a/b", "a/+", "a/#", "#", "+/b", "+", "/+", "a/+/c", "$SYS/#", "+/+"]
            .iter()
            .enumerate()
        {
            index.insert(filter, i as u32);
        }
        assert_eq!(found(&index, "a/b"), [0, 1, 2, 3, 4, 9]);
        assert_eq!(found(&index, "a"), [2, 3, 5], "a/# matches its parent level");
        assert_eq!(found(&index, "/x"), [3, 6, 9]);
        assert_eq!(found(&index, "a/b/c"), [2, 3, 7]);
        assert_eq!(found(&index, "$SYS/x"), [8], "[MQTT-4.7.2-1]");
        assert_eq!(found(&index, "a/"), [1, 2, 3, 9], "an empty level is a level");
    }

    /// A subscriber that counts how often it is compared.
    #[derive(Debug, Eq)]
    struct Watched(u32);

    thread_local! {
        static COMPARED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }

    impl PartialEq for Watched {
        fn eq(&self, other: &Self) -> bool {
            COMPARED.set(COMPARED.get() + 1);
            self.0 == other.0
        }
    }

    impl Hash for Watched {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }

    #[test]
    fn a_fleet_that_comes_and_goes_costs_no_square_of_its_size() {
        const FLEET: u32 = 10_000;
        let mut index = Index::default();
        for filter in ["all", "all/#", "+"] {
            (0..FLEET).for_each(|n| index.insert(filter, Watched(n)));
            (0..FLEET).for_each(|n| index.remove(filter, &Watched(n)));
        }
        assert!(COMPARED.get() < 20 * u64::from(FLEET), "{} comparisons", COMPARED.get());
        assert!(index.exact.is_empty() && index.wild_count == 0 && index.wild.is_bare());
        assert_eq!(index.wild.rest.capacity(), 0);
    }

    #[test]
    fn removal_leaves_nothing_behind() {
        let mut index = Index::default();
        let filters = ["a/b", "a/+/c", "a/#", "#", "+"];
        for filter in filters {
            index.insert(filter, 7);
            index.insert(filter, 7);
        }
        assert_eq!(found(&index, "a/b"), [7, 7, 7]);
        for filter in filters {
            index.remove(filter, &8);
            index.remove(filter, &7);
        }
        assert!(index.exact.is_empty());
        assert_eq!(index.wild_count, 0);
        assert!(index.wild.is_bare());
        assert_eq!(found(&index, "a/b"), Vec::<u32>::new());
    }
}
