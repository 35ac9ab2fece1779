//! The group of instances: who is alive, and who looks after which partition.
//!
//! The members of one consumer group over the partitions of `mqtt-sessions` tell each other their instance ids. The one that a partition
//! is assigned to looks after sessions in it whose owner is no member any more. Nothing is claimed before this instance is a member:
//! others would take its sessions for orphans.

use std::{
    collections::BTreeSet,
    pin::pin,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::watch;

use super::{Around, Orders, instance_name, order::Order};
use crate::upstream::{GroupEvent, GroupSettings};

/// What the custodian knows of the group.
struct Custodian<'a> {
    orders: &'a [Orders],
    around: &'a Around,
    members: BTreeSet<Box<str>>,
    /// Partitions that this instance looks after.
    mine: BTreeSet<i32>,
    /// Since when the coordinator is not reached.
    lost: Option<Instant>,
}

/// A member until it is told to leave.
pub(super) async fn run(around: &Around, orders: &[Orders], mut leave: watch::Receiver<bool>) {
    let timeout = around.settings.instance_timeout;
    let mut group = around.cluster.join(GroupSettings {
        group: format!("{}-instances", around.settings.topic),
        topics: vec![around.settings.topic.clone()],
        user_data: Bytes::copy_from_slice(&around.id.to_be_bytes()),
        session_timeout: timeout,
        rebalance_timeout: timeout.max(Duration::from_secs(10)),
        heartbeat_interval: (timeout / 5).min(Duration::from_secs(3)),
        ..GroupSettings::default()
    });
    let mut custodian = Custodian {
        orders,
        around,
        members: BTreeSet::new(),
        mine: BTreeSet::new(),
        lost: None,
    };
    let mut left = pin!(leave.wait_for(|leave| *leave));
    loop {
        let patience = custodian.lost.map(|since| timeout.saturating_sub(since.elapsed()));
        let given_up = async {
            match patience {
                Some(patience) => tokio::time::sleep(patience).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = &mut left => break,
            event = group.next() => match event {
                Some(event) => custodian.take(event),
                // The client was shut down.
                None => return,
            },
            () = given_up => custodian.step_down(),
        }
    }
    custodian.forsake();
    group.leave().await;
}

/// The instance id of a member, from what it says of itself.
fn member(id: &[u8]) -> Option<Box<str>> {
    Some(instance_name(u128::from_be_bytes(id.try_into().ok()?)))
}

impl Custodian<'_> {
    fn take(&mut self, event: GroupEvent) {
        match event {
            GroupEvent::Generation { members, .. } => {
                self.members = members.iter().filter_map(|id| member(id)).collect();
                if self.members.is_empty() {
                    // It gets no partition, so it is not told who is a member, and looks after nothing any more: without their names all
                    // sessions would look like orphans.
                    self.forsake();
                }
                self.lost = None;
                self.tell_all(|| Order::Member);
                self.around.beginning.send_modify(|now| now.member = true);
                self.mine.iter().for_each(|partition| self.tell(*partition));
            }
            GroupEvent::Assigned(partitions) => {
                for assigned in partitions {
                    self.mine.insert(assigned.tenure.of.partition);
                    self.tell(assigned.tenure.of.partition);
                }
            }
            GroupEvent::Revoked(revocation) => {
                let gone: Vec<i32> = revocation.partitions().iter().map(|of| of.partition).collect();
                self.lose(&gone);
                revocation.release();
            }
            GroupEvent::Lost {
                partitions,
                membership,
                why,
            } => {
                let gone: Vec<i32> = partitions.iter().map(|of| of.partition).collect();
                self.lose(&gone);
                if membership {
                    tracing::warn!(why, "the membership in the group of instances is lost for now");
                    self.lost.get_or_insert_with(Instant::now);
                }
            }
            GroupEvent::Refused { error, why } => {
                tracing::error!(
                    error = error.name(),
                    why,
                    "the group of instances refuses this one: stored sessions wait for it"
                );
            }
            // Only a static member can be.
            GroupEvent::Fenced => {}
        }
    }

    fn order(&self, partition: i32, order: Order) {
        if let Some(orders) = usize::try_from(partition).ok().and_then(|at| self.orders.get(at)) {
            let _ = orders.send(order);
        }
    }

    /// Who is a member, to the partition that is looked after by it.
    fn tell(&self, partition: i32) {
        self.order(partition, Order::Members(Some(self.members.clone())));
    }

    fn tell_all(&self, order: impl Fn() -> Order) {
        for orders in self.orders {
            let _ = orders.send(order());
        }
    }

    fn lose(&mut self, partitions: &[i32]) {
        for partition in partitions {
            self.mine.remove(partition);
            self.order(*partition, Order::Members(None));
        }
    }

    fn forsake(&mut self) {
        let mine: Vec<i32> = self.mine.iter().copied().collect();
        self.lose(&mine);
    }

    /// The others have taken this instance for dead long since.
    fn step_down(&mut self) {
        self.lost = None;
        self.tell_all(|| Order::StepDown);
    }
}
