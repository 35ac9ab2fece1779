//! A sweep that gets nothing although the feed has read further: compaction may have taken all that lay between.

use std::{
    future::pending,
    pin::Pin,
    time::{Duration, Instant},
};

use tokio::time::sleep_until;

use super::Behind;

/// How long a sweep waits for its next fetch before it is asked whether there is any: much less than it may keep a permit that others want.
const FIRST: Duration = Duration::from_millis(200);

/// How long until that is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// A question where what there is to read goes on; `None`: where it was asked for, or nobody knows.
pub(super) type Question = Pin<Box<dyn Future<Output = Option<i64>> + Send>>;

/// What is doubted: that there is something to read at a place. Kept while other partitions have the permit: a sweep may have less time than it
/// takes to doubt.
pub(super) struct Doubt {
    pub(super) position: i64,
    asks_at: Instant,
    question: Option<Question>,
}

impl Doubt {
    /// The answer, asked for after a while. Cancel-safe.
    pub(super) async fn answer(doubt: &mut Option<Self>, ask: impl Fn(i64) -> Question) -> Option<i64> {
        let Some(doubt) = doubt else { return pending().await };
        let question = match &mut doubt.question {
            Some(question) => question,
            none => {
                sleep_until(doubt.asks_at.into()).await;
                none.insert(ask(doubt.position))
            }
        };
        question.await
    }
}

impl Behind {
    /// The lowest place where a sweep waits for the log is the one to be doubted, until it gets something, or nobody waits there any more.
    pub(super) fn doubt(&mut self) {
        let waiting = self.sweeps.iter().filter(|sweep| sweep.wants_fetch() && sweep.reads());
        let at = waiting.map(|sweep| sweep.cursor).min();
        let doubted = self.doubt.as_ref().map(|doubt| doubt.position);
        let waits = |position| self.members.values().any(|member| !member.full && member.position == position);
        match at {
            Some(position) if doubted.is_none_or(|doubted| position < doubted || !waits(doubted)) => {
                self.doubt = Some(Doubt {
                    position,
                    asks_at: Instant::now() + FIRST,
                    question: None,
                });
            }
            None if doubted.is_some_and(|doubted| !waits(doubted)) => self.doubt = None,
            _ => {}
        }
    }

    /// There is nothing to read from the doubted place up to `end`; `None`: that is not known, and asked again later. True: somebody can move on.
    pub(super) fn settle(&mut self, end: Option<i64>) -> bool {
        let Some(doubt) = &mut self.doubt else { return false };
        match end {
            Some(end) => self.gap = Some((doubt.position, end)),
            None => (doubt.asks_at, doubt.question) = (Instant::now() + AGAIN, None),
        }
        end.is_some()
    }

    /// Leaves out what is not there; whoever comes to `tail` by that is not behind any more.
    pub(super) fn leave_out(&mut self, tail: i64) {
        let Some((position, end)) = self.gap.take() else { return };
        self.doubt = None;
        for member in self.members.values_mut() {
            if (position..end).contains(&member.position) {
                member.position = end.min(tail);
            }
        }
        self.members.retain(|_, member| member.stays_behind(tail));
        // Those who are left are elsewhere.
        self.sweeps.retain(|sweep| !(position..end).contains(&sweep.cursor));
    }
}
