//! What is known of names, and who leads a partition.

use tokio::sync::mpsc;

use super::*;

fn broker(id: i32) -> Arc<Broker> {
    let (fetcher, _) = mpsc::unbounded_channel();
    let (questions, _) = mpsc::unbounded_channel();
    Broker::new(id, format!("localhost:{id}"), fetcher, questions)
}

impl Topic {
    /// One of these partitions, without an id, that nobody leads.
    pub(crate) fn of(name: &str, partitions: i32) -> Self {
        let name: Arc<str> = name.into();
        Self {
            id: TopicId::default(),
            partitions: (0..partitions).map(|at| Partition::new(name.clone(), Uuid::nil(), at)).collect(),
            appeared: false,
            name,
        }
    }
}

/// Metadata and the answers to fetches tell of leaders, each in a task of its own.
#[test]
fn a_partition_never_has_the_id_of_one_leader_and_the_broker_of_another() {
    let partition = Partition::new("t".into(), Uuid::from_u128(7), 0);
    let told = AtomicI32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (partition, told, brokers) = (&partition, &told, [broker(1), broker(2)]);
            scope.spawn(move || {
                let tell = |at: usize| _ = partition.told_leader(Some(&brokers[at % 2]), 0);
                (0..50_000).for_each(tell);
                told.fetch_add(1, Relaxed);
            });
        }
        while told.load(Relaxed) < 2 {
            let slot = partition.lock();
            let broker = slot.broker.as_ref().map(|broker| broker.id);
            assert_eq!(broker, partition.leader());
        }
    });
}
