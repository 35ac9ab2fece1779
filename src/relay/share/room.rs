//! The memory of a partition that a shared subscription reads: a permit for what was fetched and cannot be handed out yet.
//!
//! What finds no memory is thrown away and fetched again, once somebody wants more of the partition and its turn has come.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;

use crate::relay::{
    patience::{Patience, SLICE},
    permits::{Permit, Permits, Wait},
    sweep_cache::SweepCache,
};

/// What one partition has of it.
pub(super) struct Room {
    permits: Arc<Permits>,
    patience: Patience,
    turn: Option<Turn>,
    line: Option<Wait>,
    /// So much found no memory, or had to make way.
    needed: Option<usize>,
}

/// It has a permit.
struct Turn {
    permit: Permit,
    /// Then it goes to those who wait.
    until: Instant,
    stage: Stage,
}

/// How far a turn has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing was asked for yet.
    Begun,
    /// Nothing has come yet, which may take so long.
    Asked(Duration),
    /// Something was there to be kept.
    Came,
}

impl Room {
    /// None yet.
    pub(super) fn new(sweeps: &SweepCache) -> Self {
        Self {
            permits: sweeps.permits().clone(),
            patience: sweeps.patience(),
            turn: None,
            line: None,
            needed: None,
        }
    }

    /// Whether `bytes` may be kept. If not, they must be thrown away.
    pub(super) fn keep(&mut self, bytes: usize) -> bool {
        if let Some(turn) = &mut self.turn
            && turn.permit.resize(bytes)
        {
            if turn.stage != Stage::Came {
                (turn.stage, turn.until) = (Stage::Came, Instant::now() + SLICE);
            }
            return true;
        }
        self.turn = None;
        self.turn = self.permits.try_acquire(bytes).map(|permit| Turn {
            permit,
            until: Instant::now() + SLICE,
            stage: Stage::Came,
        });
        self.needed = self.turn.is_none().then_some(bytes);
        self.turn.is_some()
    }

    /// Nothing is kept.
    pub(super) fn clear(&mut self) {
        self.turn = None;
    }

    /// Gets in line for what found no memory. False: nothing did.
    pub(super) fn queue_up(&mut self) -> bool {
        if let Some(bytes) = self.needed.take() {
            self.line = Some(Box::pin(self.permits.clone().acquire(bytes)));
        }
        self.line.is_some()
    }

    /// Whether it is in line.
    pub(super) fn waits(&self) -> bool {
        self.line.is_some()
    }

    /// Its turn has come.
    pub(super) fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(line) = &mut self.line else { return Poll::Pending };
        line.as_mut().poll(context).map(|permit| {
            self.turn = Some(Turn {
                permit,
                until: Instant::now() + SLICE,
                stage: Stage::Begun,
            });
            self.line = None;
        })
    }

    /// What it has its turn for is asked for. Meanwhile there may have been nobody left who wants it: then others do not wait for that.
    pub(super) fn ask(&mut self) {
        if let Some(turn) = self.turn.as_mut().filter(|turn| turn.stage == Stage::Begun) {
            let patience = self.patience.get();
            (turn.stage, turn.until) = (Stage::Asked(patience), Instant::now() + patience);
        }
    }

    /// When it has to make way for those who wait, if it has anything.
    pub(super) fn leaves_at(&self) -> Option<Instant> {
        self.turn.as_ref().map(|turn| turn.until)
    }

    /// Others have their turn; `bytes` were thrown away.
    pub(super) fn make_way(&mut self, bytes: usize) {
        if let Some(Stage::Asked(had)) = self.turn.take().map(|turn| turn.stage) {
            self.patience.was_too_short(had);
        }
        self.needed = (bytes > 0).then_some(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use prometheus_client::metrics::gauge::Gauge;

    use super::*;
    use crate::relay::settings::SweepSettings;

    /// All there is, and a room in line for as much.
    async fn queued() -> (Arc<SweepCache>, Room) {
        let settings = SweepSettings {
            memory: 4 * 1024,
            ..SweepSettings::default()
        };
        let sweeps = SweepCache::new(settings, 1024, Duration::from_secs(30), Gauge::default());
        let mut room = Room::new(&sweeps);
        line_up(&sweeps, &mut room).await;
        (sweeps, room)
    }

    /// Its turn comes, behind somebody else's.
    async fn line_up(sweeps: &SweepCache, room: &mut Room) {
        let other = sweeps.permits().try_acquire(1024).unwrap();
        assert!(!room.keep(1024) && room.queue_up() && room.waits());
        drop(other);
        poll_fn(|context| room.poll_turn(context)).await;
        assert!(!room.waits());
    }

    /// How long its turn lasts, from between these two moments on.
    fn lasts(room: &Room, since: Instant) -> std::ops::RangeInclusive<Duration> {
        let until = room.leaves_at().unwrap();
        until - Instant::now()..=until - since
    }

    #[tokio::test]
    async fn a_turn_in_which_nothing_is_asked_for_is_short() {
        let begun = Instant::now();
        let (sweeps, mut room) = queued().await;
        assert!(lasts(&room, begun).contains(&SLICE));
        room.make_way(0);
        // It was not too short for a fetch.
        line_up(&sweeps, &mut room).await;
        let asked = Instant::now();
        room.ask();
        assert!(lasts(&room, asked).contains(&Duration::from_secs(1)));
        // Only the first time it is asked for.
        let until = room.leaves_at();
        room.ask();
        assert_eq!(room.leaves_at(), until);
    }

    #[tokio::test]
    async fn a_turn_that_ended_before_anything_came_is_followed_by_a_longer_one() {
        let (sweeps, mut room) = queued().await;
        let (begun, first) = (Instant::now(), Duration::from_secs(1));
        room.ask();
        assert!(lasts(&room, begun).contains(&first));
        room.make_way(0);
        assert!(room.leaves_at().is_none() && sweeps.permits().try_acquire(1024).is_some());
        let again = Instant::now();
        line_up(&sweeps, &mut room).await;
        room.ask();
        assert!(lasts(&room, again).contains(&(2 * first)));
        // From what has come on it is a slice.
        let came = Instant::now();
        assert!(room.keep(512) && lasts(&room, came).contains(&SLICE));
        let until = room.leaves_at();
        assert!(room.keep(1024) && room.leaves_at() == until);
        room.make_way(1024);
        let third = Instant::now();
        assert!(room.queue_up());
        poll_fn(|context| room.poll_turn(context)).await;
        room.ask();
        assert!(lasts(&room, third).contains(&(2 * first)), "something came");
    }
}
