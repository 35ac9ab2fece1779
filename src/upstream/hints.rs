//! What brokers say of leaders beside metadata.

use std::sync::Arc;

use kafka_protocol::messages::BrokerId;

use super::{cluster::Core, topics::Partition};

impl Core {
    /// A broker that does not lead a partition any more may say who does (KIP-951). Whether that was news: as long as epochs grow, so that two
    /// brokers that are late do not send us to and fro.
    pub(crate) fn hear_of_leader(&self, partition: &Arc<Partition>, leader: BrokerId, epoch: i32) -> bool {
        if epoch <= partition.leader_epoch() {
            return false;
        }
        let Some(broker) = self.broker(leader.0) else { return false };
        partition.told_leader(Some(&broker), epoch);
        // Senders give over what they hold.
        self.changed.send_modify(|n| *n += 1);
        true
    }
}
