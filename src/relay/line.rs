//! The line of those who wait for a turn: fair between the networks that they come from, whoever of them sends how many.
//!
//! Networks take turns, so somebody who comes from one waits for at most one turn of each other, however many wait there. And each has a share
//! of the places only, so that others find some.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// Places of all networks together.
const PLACES: usize = 4096;
/// Of the places that are free a network may have one in so many, and one in any case. Alone it has 241, as many as two cores hash within some
/// five seconds, so a fleet behind one address does not wait in vain; and it takes more than a hundred networks to fill the line.
const SHARE: usize = 16;

/// The line, and the turns.
#[derive(Debug)]
pub struct Line(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    /// Turns that nobody has. Somebody waits only if there are none.
    free: usize,
    waiting: usize,
    /// The next place.
    next: u64,
    /// Those who wait, by their networks; none is empty.
    networks: HashMap<IpAddr, VecDeque<Waiting>>,
    /// The same networks, in the order in which their turns come.
    order: VecDeque<IpAddr>,
}

#[derive(Debug)]
struct Waiting {
    place: u64,
    tell: oneshot::Sender<()>,
}

/// A place in line, and later the turn; given back with its drop, whichever it is.
#[derive(Debug)]
pub struct Turn {
    line: Arc<Line>,
    network: IpAddr,
    place: u64,
}

impl Line {
    /// With so many turns at a time.
    pub fn new(turns: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Inner {
            free: turns,
            waiting: 0,
            next: 0,
            networks: HashMap::new(),
            order: VecDeque::new(),
        })))
    }

    /// Waits for a turn; `None`: all places are taken, or all that this network may have. Cancel-safe: who waits no longer has no place.
    pub async fn turn(self: &Arc<Self>, network: IpAddr) -> Option<Turn> {
        let (turn, told) = self.enter(network)?;
        // Whoever has a place is told.
        told.await.ok()?;
        Some(turn)
    }

    fn enter(self: &Arc<Self>, network: IpAddr) -> Option<(Turn, oneshot::Receiver<()>)> {
        let (tell, told) = oneshot::channel();
        let place = self.lock().enter(network, tell)?;
        let line = self.clone();
        Some((Turn { line, network, place }, told))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody waits who comes from there.
    #[cfg(test)]
    pub fn has(&self, network: IpAddr) -> bool {
        self.lock().networks.contains_key(&network)
    }

    /// How many wait.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.lock().waiting
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.line.lock().leave(self.network, self.place);
    }
}

impl Inner {
    fn enter(&mut self, network: IpAddr, tell: oneshot::Sender<()>) -> Option<u64> {
        let taken = self.networks.get(&network).map_or(0, VecDeque::len);
        let free = PLACES - self.waiting;
        if free == 0 || taken >= (free / SHARE).max(1) {
            return None;
        }
        let place = self.next;
        self.next += 1;
        if taken == 0 {
            self.order.push_back(network);
        }
        self.networks.entry(network).or_default().push_back(Waiting { place, tell });
        self.waiting += 1;
        self.call();
        Some(place)
    }

    /// A place that is given up, or a turn that is over.
    fn leave(&mut self, network: IpAddr, place: u64) {
        if !self.give_up(network, place) {
            self.free += 1;
            self.call();
        }
    }

    /// False: nobody waits there, so the turn had come.
    fn give_up(&mut self, network: IpAddr, place: u64) -> bool {
        let Some(theirs) = self.networks.get_mut(&network) else {
            return false;
        };
        // In the order of their places.
        let Ok(at) = theirs.binary_search_by_key(&place, |waiting| waiting.place) else {
            return false;
        };
        theirs.remove(at);
        self.waiting -= 1;
        if theirs.is_empty() {
            self.networks.remove(&network);
            self.order.retain(|other| *other != network);
        }
        true
    }

    /// Gives the turns that nobody has to those who are next. Who has gone in this very moment gives his back.
    fn call(&mut self) {
        while self.free > 0
            && let Some(network) = self.order.pop_front()
            && let Some(theirs) = self.networks.get_mut(&network)
            && let Some(next) = theirs.pop_front()
        {
            if theirs.is_empty() {
                self.networks.remove(&network);
            } else {
                self.order.push_back(network);
            }
            self.waiting -= 1;
            self.free -= 1;
            let _ = next.tell.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(number: u16) -> IpAddr {
        let [a, b] = number.to_be_bytes();
        [10, 0, a, b].into()
    }

    type Place = (Turn, oneshot::Receiver<()>);

    /// Those whose turns have come meanwhile, out of these.
    fn called(places: &mut Vec<Place>) -> Vec<Turn> {
        let come = places.extract_if(.., |(_, told)| told.try_recv().is_ok());
        come.map(|(turn, _)| turn).collect()
    }

    #[test]
    fn a_flood_from_one_network_delays_another_by_one_turn() {
        let line = Line::new(1);
        let mut places: Vec<Place> = (0..200).map(|_| line.enter(network(1)).unwrap()).collect();
        let first = called(&mut places);
        assert_eq!(first.len(), 1);
        places.extend((0..3).map(|_| line.enter(network(2)).unwrap()));
        places.push(line.enter(network(3)).unwrap());
        let mut came = Vec::new();
        let mut turns = first;
        for _ in 0..8 {
            turns.clear();
            turns = called(&mut places);
            let [turn] = &turns[..] else { panic!("{turns:?}") };
            came.push(turn.network);
        }
        assert_eq!(came, [1, 2, 3, 1, 2, 1, 2, 1].map(network));
    }

    #[test]
    fn those_of_one_network_are_served_as_they_came_and_as_many_at_a_time_as_may_be() {
        let line = Line::new(2);
        let mut places: Vec<Place> = (0..5).map(|_| line.enter(network(1)).unwrap()).collect();
        let mut came = Vec::new();
        while !places.is_empty() {
            let turns = called(&mut places);
            assert!((1..=2).contains(&turns.len()));
            came.extend(turns.iter().map(|turn| turn.place));
        }
        assert_eq!(came, [0, 1, 2, 3, 4]);
        assert_eq!(line.lock().free, 2);
    }

    #[test]
    fn a_network_has_a_share_of_the_places() {
        let line = Line::new(0);
        let fill = |number| std::iter::from_fn(|| line.enter(network(number))).collect::<Vec<_>>();
        let alone = fill(1);
        assert_eq!(alone.len(), 241);
        let others: Vec<_> = (2..=100).map(fill).collect();
        assert!(others.iter().all(|places| (1..=241).contains(&places.len())));
        assert!(line.enter(network(101)).is_some(), "a hundred networks have not filled it");
        let more: Vec<_> = (101..1000).map(fill).collect();
        assert_eq!(line.waiting(), PLACES);
        assert!(line.enter(network(1000)).is_none());
        drop((alone, more));
        assert!(line.enter(network(1000)).is_some());
        drop(others);
        assert_eq!(line.waiting(), 0);
    }

    #[test]
    fn who_leaves_has_neither_place_nor_turn_and_is_forgotten() {
        let line = Line::new(1);
        let turn = line.enter(network(1)).unwrap();
        let (left, mut stays) = (line.enter(network(2)).unwrap(), line.enter(network(3)).unwrap());
        drop(left);
        assert_eq!(line.waiting(), 1);
        drop(turn);
        assert!(stays.1.try_recv().is_ok(), "it is the next one");
        // Told, and gone before it heard of that.
        let next = line.enter(network(4)).unwrap();
        drop(stays);
        drop(next);
        let inner = line.lock();
        assert_eq!((inner.free, inner.waiting), (1, 0));
        assert!(inner.networks.is_empty() && inner.order.is_empty());
    }
}
