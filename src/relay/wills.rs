//! The will of a connection that ended abnormally (§3.1.2.5): mapped and produced like any PUBLISH, after its socket is closed.

use tokio::time::timeout;

use super::{desk::Desk, inbound::Wait};
use crate::session::OwnedWill;

impl Desk {
    /// Publishes the will, if one is due. Bounded by the delivery timeout; what cannot be stored is logged.
    ///
    /// In this release a session ends with its connection, so the will is sent at once, whatever its delay
    /// [MQTT-3.1.3-9]: the delay ends when the session does.
    pub(super) async fn send_will(mut self, client: &str) {
        let Some(will) = self.take_will() else { return };
        let limit = self.shared.settings.delivery_timeout;
        if timeout(limit, self.place_will(&will, client)).await.is_err() {
            tracing::warn!(
                client,
                topic = will.publish().topic,
                "a will could not be stored: Kafka was not reachable in time"
            );
        }
    }

    async fn place_will(&mut self, will: &OwnedWill, client: &str) {
        let mut done = 0;
        while let Some(wait) = self.place_from(&will.publish(), client, &mut done) {
            match wait {
                Wait::Memory => self.shared.cluster.memory_available().await,
                Wait::Topic(name) => drop(self.shared.cluster.topic_known(&name).await),
            }
        }
        self.kick();
    }
}
