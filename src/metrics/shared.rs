//! What is counted of shared subscriptions.

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use prometheus_client::registry::Registry;

/// The counters of all shared subscriptions.
#[derive(Clone, Debug, Default)]
pub struct SharedCounters {
    /// Those that have subscribers here, each a member of a consumer group or a share group.
    pub memberships: Gauge,
    /// Messages that their subscriber did not acknowledge before it was gone; others get them.
    pub redelivered: Counter,
    /// Commits that Kafka did not take, and acknowledgements to share groups that came too late.
    pub commit_failures: Counter,
    /// Messages of QoS 2 that a stored session wrote down after the group had given them to another member.
    pub doubled: Counter,
}

impl SharedCounters {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        registry.register(
            "shared_memberships",
            "Shared subscriptions with subscribers here: memberships in consumer groups or share groups",
            new.memberships.clone(),
        );
        registry.register(
            "shared_redelivered",
            "Messages of shared subscriptions that others get, since their subscriber was gone before it acknowledged them",
            new.redelivered.clone(),
        );
        registry.register(
            "shared_commit_failures",
            "Commits of shared subscriptions that Kafka did not take, and acknowledgements to share groups that came too late",
            new.commit_failures.clone(),
        );
        registry.register(
            "shared_doubled",
            "Messages of QoS 2 that a stored session wrote down after their partition, or their lock, went elsewhere: another member has them, too",
            new.doubled.clone(),
        );
        new
    }
}
