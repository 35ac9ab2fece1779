//! From a CONNECT to its place in the registry: what it needs of Kafka, whether its will has a rule, which id it gets.

use std::{
    hash::{BuildHasher, RandomState},
    time::Instant,
};

use tokio::sync::watch;

use super::{desk::Desk, mailbox::Ending};
use crate::{
    session::{Accepted, Session},
    upstream::State,
};

/// A CONNECT that waits for Kafka.
pub struct Admission {
    kafka: watch::Receiver<State>,
    /// For a client that sent none.
    assigned: Option<String>,
}

impl Desk {
    /// A CONNECT the session has no objection to.
    pub(super) fn offer(&mut self, session: &mut Session, now: Instant) {
        let assigned = session.client_id().is_empty().then(fresh_client_id);
        if let Some(will) = session.will() {
            let client = assigned.as_deref().unwrap_or(session.client_id());
            if let Some(reason) = self.will_refused(&will.publish(), client) {
                return session.refuse(reason, now);
            }
        }
        let kafka = self.shared.cluster.state();
        self.admission = Some(Box::new(Admission { kafka, assigned }));
        self.admit(session, now);
    }

    /// Accepts a CONNECT that waits. Without Kafka only a session that needs nothing of it is accepted; every other waits
    /// until Kafka is there or its connect deadline, when the session refuses it (0x88).
    pub(super) fn admit(&mut self, session: &mut Session, now: Instant) {
        let Some(admission) = &mut self.admission else { return };
        let ready = matches!(*admission.kafka.borrow_and_update(), State::Ready);
        if !ready && (session.will().is_some() || !session.clean_start()) {
            return;
        }
        let assigned_client_id = admission.assigned.take();
        self.admission = None;
        let accepted = Accepted {
            assigned_client_id,
            present: None,
        };
        session.accept(accepted, now);
        if !session.is_live() {
            return;
        }
        self.entered = true;
        if self.shared.registry.enter(session.client_id(), &self.mailbox) {
            tracing::info!(
                client = session.client_id(),
                "a client id connected again: its former connection ends"
            );
        }
    }

    /// What a connection waits for that stands in no registry yet: Kafka, if its CONNECT needs it, and the end of the process,
    /// of which nobody else could tell it.
    pub(super) async fn admissible(&mut self) {
        let mut draining = self.shared.registry.draining();
        let kafka = async {
            let changed = match &mut self.admission {
                Some(admission) => admission.kafka.changed().await.is_ok(),
                None => false,
            };
            // An error means that the cluster is shut down; the connect deadline ends the wait then.
            if !changed {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            _ = draining.wait_for(|draining| *draining) => self.mailbox.end(Ending::ShutDown),
            () = kafka => {}
        }
    }
}

/// An identifier that no other client has [MQTT-3.1.3-6], on this instance or another: 128 bits of the system's chance.
fn fresh_client_id() -> String {
    let chance = || RandomState::new().hash_one(());
    format!("auto-{:016x}{:016x}", chance(), chance())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_id_comes_twice() {
        let ids: HashSet<_> = (0..10_000).map(|_| fresh_client_id()).collect();
        assert_eq!(ids.len(), 10_000);
        let halves: HashSet<_> = ids.iter().map(|id| &id[5..21]).collect();
        assert_eq!(halves.len(), 10_000, "each half has its own chance");
    }
}
