//! The will of a connection that ended abnormally (§3.1.2.5): mapped and produced like any PUBLISH, after its socket is closed.

use tokio::time::timeout;

use super::{
    desk::Desk,
    inbound::{DRAFT, Placed, Wait, inbound, now_ms},
};
use crate::{
    audit::cut,
    mapping::{Draft, NoRoute, OnError, RefusalReason},
    mqtt::{Publish, ReasonCode},
    session::{Answer, OwnedWill},
};

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
                client = &*cut(client),
                topic = &*cut(will.publish().topic),
                "a will could not be stored: Kafka was not reachable in time"
            );
        }
    }

    /// Why no record could be made of a will, if so: its client is told at CONNECT, when it can still do something about it.
    pub(super) fn will_refused(&self, publish: &Publish<'_>, client: &str) -> Option<ReasonCode> {
        let identity = self.identity();
        let inbound = inbound(publish, publish.topic, client, identity.as_deref(), now_ms());
        let routed = DRAFT.with_borrow_mut(|draft| {
            self.shared.rules.route(&inbound, draft)?;
            if self.shared.retain_denied(publish, draft) {
                return Ok(Some(ReasonCode::RetainNotSupported));
            }
            Ok(self.own_state_among(draft))
        });
        let none = match routed {
            Ok(refused) => return refused,
            // There may be when the will is sent.
            Err(NoRoute::Refused(refusal)) if matches!(refusal.reason, RefusalReason::NoTable | RefusalReason::TableFull) => return None,
            Err(none) => none,
        };
        match self.no_route(none, &inbound) {
            Answer::Refused { reason, .. } => Some(reason),
            Answer::Acked | Answer::Unknown => None,
        }
    }

    /// Why a record is refused that would go to the proxy's own state; one that its rule skips, or has a dead letter topic for, is left out
    /// when the will is sent.
    fn own_state_among(&self, draft: &Draft) -> Option<ReasonCode> {
        let rules = &self.shared.rules;
        let own = |at: &usize| self.shared.is_state_topic(draft.kafka_topic(*at, rules));
        let told = |at: &usize| rules.rule(draft.rule(*at)).on_error != OnError::DeadLetter;
        (0..draft.len())
            .filter(|at| own(at) && told(at))
            .find_map(|at| match self.refuse_state_topic(draft.rule(at)) {
                Answer::Refused { reason, .. } => Some(reason),
                Answer::Acked | Answer::Unknown => None,
            })
    }

    async fn place_will(&mut self, will: &OwnedWill, client: &str) {
        let (mut done, now_ms) = (0, now_ms());
        while let Some(wait) = self.place_from(&will.publish(), client, now_ms, &mut done) {
            match wait {
                Wait::Memory => self.appender.memory_available().await,
                Wait::Retained(weight) => match &self.shared.retained {
                    Some(retained) => retained.room(weight).await,
                    None => return,
                },
                Wait::Topic(name) => drop(self.shared.cluster.topic_known(&name).await),
                Wait::Table(pending) => self.shared.hub.tables.progressed(pending).await,
                Wait::Order => unreachable!("only a PUBLISH of a connection waits for others"),
            }
        }
        self.kick();
    }

    /// Appends the records of a will from `done` on, for which nobody waits; what it must wait for comes back.
    fn place_from(&mut self, publish: &Publish<'_>, client: &str, now_ms: i64, done: &mut usize) -> Option<Wait> {
        let identity = self.identity();
        DRAFT.with_borrow_mut(|draft| {
            let inbound = inbound(publish, publish.topic, client, identity.as_deref(), now_ms);
            match self.shared.route(&inbound, draft) {
                Ok(Ok(())) => {}
                Ok(Err(none)) => {
                    self.no_route(none, &inbound);
                    return None;
                }
                Err(wait) => return Some(wait),
            }
            while *done < draft.len() + draft.dead_letters().len() {
                if let Placed::Wait(wait) = self.place_any(draft, *done, &inbound, None) {
                    return Some(wait);
                }
                *done += 1;
            }
            None
        })
    }
}
