//! The group of instances: who is alive, and who looks after which partition.
//!
//! The members of one consumer group over the partitions of `mqtt-sessions`, and of `mqtt-retained` if rules keep retained messages, tell each
//! other their instance ids. The one that a partition
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
use crate::{
    relay::retained::Retained,
    upstream::{Assigned, GroupEvent, GroupSettings, TopicPartition},
};

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
        topics: std::iter::once(&around.settings.topic)
            .chain(&around.settings.retained)
            .cloned()
            .collect(),
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
                for Assigned { tenure, .. } in partitions {
                    match self.retained(&tenure.of) {
                        Some(retained) => retained.look_after(tenure.of.partition, true),
                        None => {
                            self.mine.insert(tenure.of.partition);
                            self.tell(tenure.of.partition);
                        }
                    }
                }
            }
            GroupEvent::Revoked(revocation) => {
                self.lose(revocation.partitions());
                revocation.release();
            }
            GroupEvent::Lost {
                partitions,
                membership,
                why,
            } => {
                self.lose(&partitions);
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

    /// Who looks after the partition, if it is one of the retained topic.
    fn retained(&self, of: &TopicPartition) -> Option<&Retained> {
        let own = self.around.settings.retained.as_deref() == Some(&of.topic);
        self.around.retained.as_deref().filter(|_| own)
    }

    fn lose(&mut self, partitions: &[TopicPartition]) {
        for of in partitions {
            match self.retained(of) {
                Some(retained) => retained.look_after(of.partition, false),
                None => {
                    self.mine.remove(&of.partition);
                    self.order(of.partition, Order::Members(None));
                }
            }
        }
    }

    fn forsake(&mut self) {
        for partition in std::mem::take(&mut self.mine) {
            self.order(partition, Order::Members(None));
        }
    }

    /// The others have taken this instance for dead long since.
    fn step_down(&mut self) {
        self.lost = None;
        self.tell_all(|| Order::StepDown);
    }
}
