//! The line of those who wait for a turn: fair between the networks that they come from, whoever of them sends how many.
//!
//! Networks take turns, so somebody who comes from one waits for at most one turn of each other, however many wait there. And each has a share
//! of the places only, so that others find some. Who has had a turn, and needs another, is not refused any more.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// Places of all networks together.
const PLACES: usize = 4096;
/// Of the places that are free a network may have one in so many, and one in any case: it takes more than eighty of them to fill the line.
const SHARE: usize = 16;
/// As long as half of all places are free a network may have so many for each turn, about what a core hashes within five seconds: a fleet behind
/// one address is not refused while there is time for it.
const EACH_TURN: usize = 128;
/// But no more than one in so many of those that are free.
const LARGEST_SHARE: usize = 4;

/// The line, and the turns.
#[derive(Debug)]
pub struct Line(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    /// Turns at a time.
    turns: usize,
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

/// A place, and the word that the turn has come.
type Place = (Turn, oneshot::Receiver<()>);

async fn called((turn, told): Place) -> Turn {
    // Never an error: whoever has a place is told.
    let _ = told.await;
    turn
}

impl Line {
    /// With so many turns at a time.
    pub fn new(turns: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Inner {
            turns,
            free: turns,
            waiting: 0,
            next: 0,
            networks: HashMap::new(),
            order: VecDeque::new(),
        })))
    }

    /// Waits for a turn. Cancel-safe: who waits no longer has no place.
    ///
    /// # Errors
    /// All places are taken, or all that this network may have: a word for logs.
    pub async fn turn(self: &Arc<Self>, network: IpAddr) -> Result<Turn, &'static str> {
        let place = self.enter(network)?;
        Ok(called(place).await)
    }

    /// Waits for a turn of somebody who has had one, whether there is a place or not: they are no more than may wait for servers and keys in between.
    pub async fn another_turn(self: &Arc<Self>, network: IpAddr) -> Turn {
        called(self.enter_again(network)).await
    }

    fn enter(self: &Arc<Self>, network: IpAddr) -> Result<Place, &'static str> {
        let inner = self.lock();
        inner.look_for_place(network)?;
        Ok(self.place(inner, network))
    }

    fn enter_again(self: &Arc<Self>, network: IpAddr) -> Place {
        self.place(self.lock(), network)
    }

    fn place(self: &Arc<Self>, mut inner: MutexGuard<'_, Inner>, network: IpAddr) -> Place {
        let (tell, told) = oneshot::channel();
        let (line, place) = (self.clone(), inner.enter(network, tell));
        (Turn { line, network, place }, told)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.line.lock().leave(self.network, self.place);
    }
}

impl Inner {
    /// Whether somebody new from there may have a place.
    fn look_for_place(&self, network: IpAddr) -> Result<(), &'static str> {
        let free = PLACES.saturating_sub(self.waiting);
        if free == 0 {
            return Err("too_many_logins");
        }
        if self.taken(network) >= self.share(free) {
            return Err("too_many_logins_of_address");
        }
        Ok(())
    }

    /// How many of one network may wait while so many places are free.
    fn share(&self, free: usize) -> usize {
        let share = (free / SHARE).max(1);
        if free < PLACES / 2 {
            return share;
        }
        self.turns.saturating_mul(EACH_TURN).min(free / LARGEST_SHARE).max(share)
    }

    fn taken(&self, network: IpAddr) -> usize {
        self.networks.get(&network).map_or(0, VecDeque::len)
    }

    fn enter(&mut self, network: IpAddr, tell: oneshot::Sender<()>) -> u64 {
        let place = self.next;
        self.next += 1;
        if self.taken(network) == 0 {
            self.order.push_back(network);
        }
        self.networks.entry(network).or_default().push_back(Waiting { place, tell });
        self.waiting += 1;
        self.call();
        place
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

/// What tests see of it.
#[cfg(test)]
impl Line {
    /// Whether somebody waits who comes from there.
    pub fn has(&self, network: IpAddr) -> bool {
        self.lock().networks.contains_key(&network)
    }

    /// Places that were ever given.
    pub fn given(&self) -> u64 {
        self.lock().next
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.lock().waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(number: u16) -> IpAddr {
        let [a, b] = number.to_be_bytes();
        [10, 0, a, b].into()
    }

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

    /// As many as this network may have.
    fn fill(line: &Arc<Line>, number: u16) -> Vec<Place> {
        std::iter::from_fn(|| line.enter(network(number)).ok()).collect()
    }

    #[test]
    fn with_more_cores_a_network_alone_has_more_places() {
        for (turns, places) in [(1, 241), (2, 256), (4, 512), (6, 768), (8, 819), (100, 819)] {
            let line = Line::new(turns);
            let at_work: Vec<_> = (0..turns).map(|_| line.enter(network(0)).unwrap()).collect();
            let alone = fill(&line, 1);
            assert_eq!(alone.len(), places, "{turns} turns");
            assert_eq!(line.enter(network(1)).unwrap_err(), "too_many_logins_of_address");
            let others: Vec<_> = (2..=80).map(|number| fill(&line, number)).collect();
            assert!(line.enter(network(81)).is_ok(), "eighty networks have not filled it, {turns} turns");
            drop((at_work, alone, others));
            assert_eq!((line.waiting(), line.lock().free), (0, turns));
        }
    }

    #[test]
    fn who_has_had_a_turn_has_a_place_for_another_whatever_others_have() {
        let line = Line::new(0);
        let all: Vec<_> = (1..1000).map(|number| fill(&line, number)).collect();
        assert_eq!(line.waiting(), PLACES);
        let again = line.enter_again(network(1));
        assert_eq!(line.waiting(), PLACES + 1);
        assert_eq!(line.enter(network(1000)).unwrap_err(), "too_many_logins");
        drop(again);
        drop(all);
        assert_eq!(line.waiting(), 0);
    }

    #[test]
    fn a_network_has_a_share_of_the_places() {
        let line = Line::new(0);
        let fill = |number| fill(&line, number);
        let alone = fill(1);
        assert_eq!(alone.len(), 241);
        let others: Vec<_> = (2..=100).map(fill).collect();
        assert!(others.iter().all(|places| (1..=241).contains(&places.len())));
        assert!(line.enter(network(101)).is_ok(), "a hundred networks have not filled it");
        let more: Vec<_> = (101..1000).map(fill).collect();
        assert_eq!(line.waiting(), PLACES);
        assert_eq!(line.enter(network(1000)).unwrap_err(), "too_many_logins");
        drop((alone, more));
        assert!(line.enter(network(1000)).is_ok());
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
