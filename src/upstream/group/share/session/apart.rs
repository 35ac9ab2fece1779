//! Acknowledgements that were refused together are taken apart.

use std::time::{Duration, Instant};

use super::{News, Part};
use crate::upstream::group::share::request::{AckBatch, AckKind};

impl Part {
    /// A renewal of what was acknowledged, or given up, meanwhile is none: were it urgent, nothing would be fetched on its account.
    pub(super) fn forget_needless(&mut self) {
        let held = &self.held;
        let is_needed = |ack: &AckBatch| ack.kind != AckKind::Renew || held.contains_key(&ack.first);
        self.acks.retain(is_needed);
        self.apart.iter_mut().for_each(|some| some.retain(is_needed));
        self.apart.retain(|some| !some.is_empty());
    }

    /// Records are acquired: a release of them that waits is one of before, when their locks had run out. Said now, it would give them to
    /// another beside who gets them here.
    pub(super) fn forget_releases(&mut self, first: i64, last: i64) {
        let others = |ack: AckBatch| {
            let below = AckBatch {
                last: ack.last.min(first - 1),
                ..ack
            };
            let above = AckBatch {
                first: ack.first.max(last + 1),
                ..ack
            };
            let left = if ack.kind == AckKind::Release {
                [below, above]
            } else {
                [
                    ack,
                    AckBatch {
                        last: ack.first - 1,
                        ..ack
                    },
                ]
            };
            left.into_iter().filter(|ack| ack.first <= ack.last)
        };
        for acks in self.apart.iter_mut().chain([&mut self.acks]) {
            *acks = std::mem::take(acks).into_iter().flat_map(others).collect();
        }
        self.apart.retain(|some| !some.is_empty());
    }

    /// Takes out what has run out.
    pub(super) fn lapse(&mut self, now: Instant, lock: Duration) -> Vec<News> {
        let (lease, mut over) = (self.lease, Vec::new());
        self.held.retain(|offset, since| {
            let stays = now < *since + lock;
            if !stays {
                over.push(News::Expired(lease, *offset));
            }
            stays
        });
        over
    }

    /// What was sent speaks of a record that is not ours any more.
    pub(super) fn refused(&mut self, news: &mut Vec<News>) {
        let sent = std::mem::take(&mut self.sent);
        match sent.as_slice() {
            [one] if one.first == one.last => match one.kind {
                AckKind::Renew => {
                    self.held.remove(&one.first);
                    news.push(News::Expired(self.lease, one.first));
                }
                _ => news.push(News::Late(1)),
            },
            _ => {
                let (first, second) = halves(sent.into_iter().flat_map(renewals_alone).collect());
                self.apart.extend([second, first]);
            }
        }
    }
}

/// A renewal for each offset: some may be acknowledged before it is sent.
fn renewals_alone(ack: AckBatch) -> Vec<AckBatch> {
    let single = |offset| AckBatch {
        first: offset,
        last: offset,
        ..ack
    };
    match ack.kind {
        AckKind::Renew => (ack.first..=ack.last).map(single).collect(),
        _ => vec![ack],
    }
}

/// The offsets of acknowledgements in two parts, each in order: at least one offset in each if there are two.
fn halves(acks: Vec<AckBatch>) -> (Vec<AckBatch>, Vec<AckBatch>) {
    let count: i64 = acks.iter().map(|ack| ack.last - ack.first + 1).sum();
    let (mut first, mut second, mut left) = (Vec::new(), Vec::new(), count / 2);
    for ack in acks {
        let own = (ack.last - ack.first + 1).min(left);
        left -= own;
        if own > 0 {
            let last = ack.first + own - 1;
            first.push(AckBatch { last, ..ack });
        }
        if ack.first + own <= ack.last {
            let begin = ack.first + own;
            second.push(AckBatch { first: begin, ..ack });
        }
    }
    (first, second)
}
