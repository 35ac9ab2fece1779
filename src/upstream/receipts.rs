//! What came of the records of one connection. One lock and one wake for each (Kafka batch, connection).

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::accumulator::{Split, Verdict};
use crate::kafka::error::ErrorCode;

/// How a record ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Kafka has it, acknowledged by all in-sync replicas.
    Stored {
        /// Its partition.
        partition: i32,
        /// Its offset; -1 if the broker did not tell (a repeated request that it knew already).
        offset: i64,
    },
    /// Kafka refused it for good and does not have it.
    Refused(ErrorCode),
    /// It cannot be found out whether Kafka has it.
    Unknown,
    /// The delivery timeout was over. `sent`: Kafka may have it; otherwise it surely has not. Also told, with `sent: false`, as soon as the topic
    /// turns out to be made anew: it may be sent again, to the new one.
    Expired {
        /// Whether an attempt may have been stored.
        sent: bool,
    },
}

/// The outcome of one ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// As given to [`Appender::append`](super::Appender::append).
    pub ticket: u64,
    /// What came of it.
    pub outcome: Outcome,
}

/// Told of losses: a ticket, how many records in a row had it, and what became of them.
type Losses = dyn Fn(u64, u32, Outcome) + Send + Sync;

/// The receipts of one connection. Its owner waits on the `Notify` and takes what is there.
pub struct Receipts {
    notify: Arc<Notify>,
    list: Mutex<Vec<Receipt>>,
    /// Of records that nobody waits for.
    losses: Option<Box<Losses>>,
}

impl std::fmt::Debug for Receipts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receipts").field("list", &self.list).finish_non_exhaustive()
    }
}

impl Receipts {
    /// Receipts that ring `notify` when something has come.
    pub fn new(notify: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            notify,
            list: Mutex::default(),
            losses: None,
        })
    }

    /// For records that nobody waits for: `losses` is called at once, and only with those that Kafka does not have, or may not have. It is called by
    /// the broker's sender, so it must be quick.
    pub fn of_losses(losses: impl Fn(u64, u32, Outcome) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            notify: Arc::default(),
            list: Mutex::default(),
            losses: Some(Box::new(losses)),
        })
    }

    /// Moves all receipts to the end of `into`. Those of one batch are in the order of its records; batches come as they end, mostly but
    /// not always in order.
    pub fn take(&self, into: &mut Vec<Receipt>) {
        into.append(&mut self.list.lock().expect("no code that holds this lock panics"));
    }
}

impl Receipts {
    /// Adds a receipt of somebody who writes in the place of another, and rings.
    pub fn put(&self, receipt: Receipt) {
        if let Some(losses) = &self.losses {
            if !matches!(receipt.outcome, Outcome::Stored { .. }) {
                losses(receipt.ticket, 1, receipt.outcome);
            }
            return;
        }
        self.list.lock().expect("no code that holds this lock panics").push(receipt);
        self.notify.notify_one();
    }
}

/// Who waits for the records of one batch, grouped by connection as they came.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    groups: Vec<Group>,
    tickets: Vec<(u64, u32)>,
    /// Records that nobody waits for, by index: most batches are of one rule, so this is one entry however many there are.
    runs: Vec<Run>,
}

#[derive(Debug)]
struct Group {
    receipts: Arc<Receipts>,
    /// Index of its first ticket; its last is before the next group's first.
    start: usize,
}

/// Records in a row of which only a loss is told, and by one ticket.
#[derive(Debug)]
struct Run {
    receipts: Arc<Receipts>,
    ticket: u64,
    from: u32,
    /// Index behind the last.
    to: u32,
}

impl Waiters {
    /// Adds who waits for the record at `index` of the batch.
    pub(crate) fn push(&mut self, receipts: &Arc<Receipts>, ticket: u64, index: u32) {
        if receipts.losses.is_some() {
            return self.push_unawaited(receipts, ticket, index);
        }
        if self.groups.last().is_none_or(|g| !Arc::ptr_eq(&g.receipts, receipts)) {
            self.groups.push(Group {
                receipts: Arc::clone(receipts),
                start: self.tickets.len(),
            });
        }
        self.tickets.push((ticket, index));
    }

    fn push_unawaited(&mut self, receipts: &Arc<Receipts>, ticket: u64, index: u32) {
        match self.runs.last_mut() {
            Some(run) if run.to == index && run.ticket == ticket && Arc::ptr_eq(&run.receipts, receipts) => run.to += 1,
            _ => self.runs.push(Run {
                receipts: Arc::clone(receipts),
                ticket,
                from: index,
                to: index + 1,
            }),
        }
    }

    /// Tells everyone.
    pub(crate) fn settle(&self, partition: i32, verdict: Verdict) {
        for (at, group) in self.groups.iter().enumerate() {
            let end = self.groups.get(at + 1).map_or(self.tickets.len(), |next| next.start);
            let receipts = self.tickets[group.start..end].iter().map(|&(ticket, index)| Receipt {
                ticket,
                outcome: outcome(partition, index, verdict),
            });
            group
                .receipts
                .list
                .lock()
                .expect("no code that holds this lock panics")
                .extend(receipts);
            group.receipts.notify.notify_one();
        }
        if matches!(verdict, Verdict::Stored(_)) {
            return;
        }
        for run in &self.runs {
            if let Some(losses) = &run.receipts.losses {
                losses(run.ticket, run.to - run.from, outcome(partition, run.from, verdict));
            }
        }
    }
}

impl Split for Waiters {
    fn held(&self) -> usize {
        let waiting = self.tickets.capacity() * size_of::<(u64, u32)>() + self.groups.capacity() * size_of::<Group>();
        waiting + self.runs.capacity() * size_of::<Run>()
    }

    fn split_off(&mut self, at: u32) -> Self {
        // Tickets stand in the order of their records.
        let first = self.tickets.partition_point(|(_, index)| *index < at);
        let mut tickets = self.tickets.split_off(first);
        tickets.iter_mut().for_each(|(_, index)| *index -= at);
        let behind = self.groups.partition_point(|group| group.start < first);
        let mut groups = self.groups.split_off(behind);
        groups.iter_mut().for_each(|group| group.start -= first);
        // The last of those in front may go on behind the cut.
        let goes_on = !tickets.is_empty() && groups.first().is_none_or(|group| group.start > 0);
        if let Some(group) = self.groups.last().filter(|_| goes_on) {
            let receipts = Arc::clone(&group.receipts);
            groups.insert(0, Group { receipts, start: 0 });
        }
        let runs = split_runs(&mut self.runs, at);
        Self { groups, tickets, runs }
    }
}

/// Those behind the cut, counted from there.
fn split_runs(runs: &mut Vec<Run>, at: u32) -> Vec<Run> {
    let first = runs.partition_point(|run| run.to <= at);
    let mut behind = runs.split_off(first);
    if let Some(across) = behind.first_mut().filter(|run| run.from < at) {
        runs.push(Run {
            receipts: Arc::clone(&across.receipts),
            to: at,
            ..*across
        });
        across.from = at;
    }
    for run in &mut behind {
        run.from -= at;
        run.to -= at;
    }
    behind
}

fn outcome(partition: i32, index: u32, verdict: Verdict) -> Outcome {
    match verdict {
        Verdict::Stored(base) if base < 0 => Outcome::Stored { partition, offset: -1 },
        Verdict::Stored(base) => Outcome::Stored {
            partition,
            offset: base + i64::from(index),
        },
        Verdict::Refused(code) => Outcome::Refused(code),
        Verdict::Unknown => Outcome::Unknown,
        Verdict::Expired { sent } => Outcome::Expired { sent },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_gets_its_own() {
        let (one, two) = (Receipts::new(Arc::default()), Receipts::new(Arc::default()));
        let mut waiters = Waiters::default();
        waiters.push(&one, 10, 0);
        waiters.push(&one, 11, 1);
        waiters.push(&two, 7, 3);
        waiters.push(&one, 12, 4);
        waiters.settle(2, Verdict::Stored(100));
        let mut got = Vec::new();
        one.take(&mut got);
        let offsets: Vec<_> = got.iter().map(|r| (r.ticket, r.outcome)).collect();
        assert_eq!(
            offsets,
            [10, 11, 12]
                .into_iter()
                .zip([100, 101, 104].map(|offset| Outcome::Stored { partition: 2, offset }))
                .collect::<Vec<_>>()
        );
        got.clear();
        two.take(&mut got);
        assert_eq!(
            got,
            [Receipt {
                ticket: 7,
                outcome: Outcome::Stored { partition: 2, offset: 103 }
            }]
        );
    }

    /// Who is told of losses alone hears of each once, wherever a batch is split, and of nothing that is stored.
    #[test]
    fn of_records_that_nobody_waits_for_losses_are_told() {
        let lost = Arc::new(Mutex::new(Vec::new()));
        let told = lost.clone();
        let quiet = Receipts::of_losses(move |ticket, records, outcome| told.lock().unwrap().push((ticket, records, outcome)));
        let asked = Receipts::new(Arc::default());
        let code = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
        let whole = || {
            let mut waiters = Waiters::default();
            for index in 0..10 {
                match index {
                    4 => waiters.push(&asked, 1, index),
                    8.. => waiters.push(&quiet, 8, index),
                    _ => waiters.push(&quiet, 7, index),
                }
            }
            waiters
        };
        let unsplit = whole();
        assert_eq!(unsplit.runs.len(), 3);
        unsplit.settle(0, Verdict::Stored(100));
        quiet.put(Receipt {
            ticket: 7,
            outcome: Outcome::Stored { partition: 0, offset: 3 },
        });
        assert!(lost.lock().unwrap().is_empty());
        unsplit.settle(0, Verdict::Refused(code));
        let refused = Outcome::Refused(code);
        assert_eq!(*lost.lock().unwrap(), [(7, 4, refused), (7, 3, refused), (8, 2, refused)]);
        for cut in 1..10 {
            lost.lock().unwrap().clear();
            let mut front = whole();
            let back = front.split_off(cut);
            front.settle(0, Verdict::Refused(code));
            let sum = |ticket| {
                let lost = lost.lock().unwrap();
                lost.iter().filter(|told| told.0 == ticket).map(|told| told.1).sum::<u32>()
            };
            let in_front = |from: u32, to: u32| to.min(cut).saturating_sub(from);
            assert_eq!((sum(7), sum(8)), (in_front(0, 4) + in_front(5, 8), in_front(8, 10)), "cut at {cut}");
            back.settle(0, Verdict::Unknown);
            assert_eq!((sum(7), sum(8)), (7, 2), "cut at {cut}");
        }
        quiet.put(Receipt {
            ticket: 9,
            outcome: refused,
        });
        assert_eq!(lost.lock().unwrap().last(), Some(&(9, 1, refused)));
    }

    #[test]
    fn each_part_of_a_split_batch_has_its_own() {
        let (one, two) = (Receipts::new(Arc::default()), Receipts::new(Arc::default()));
        let given = [(&one, 10, 0), (&one, 11, 1), (&two, 20, 3), (&two, 21, 4), (&one, 12, 6)];
        for cut in 1..8 {
            let mut front = Waiters::default();
            given
                .iter()
                .for_each(|(receipts, ticket, index)| front.push(receipts, *ticket, *index));
            let back = front.split_off(cut);
            front.settle(0, Verdict::Stored(100));
            back.settle(0, Verdict::Stored(200));
            let offset = |index: u32| if index < cut { 100 + index } else { 200 + index - cut };
            for receipts in [&one, &two] {
                let mut got = Vec::new();
                receipts.take(&mut got);
                let told: Vec<_> = got.iter().map(|r| (r.ticket, r.outcome)).collect();
                let wanted = given.iter().filter(|(to, ..)| Arc::ptr_eq(to, receipts));
                let wanted: Vec<_> = wanted
                    .map(|(_, ticket, index)| {
                        (
                            *ticket,
                            Outcome::Stored {
                                partition: 0,
                                offset: offset(*index).into(),
                            },
                        )
                    })
                    .collect();
                assert_eq!(told, wanted, "cut at {cut}");
            }
        }
    }
}
