//! Produce requests on their way, and what is waited for; of those that are not answered, the end of their connection.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use kafka_protocol::messages::ProduceResponse;

use super::{
    connection::CallError,
    produce::{Awaited, Part},
    sender::Sender,
};
use crate::kafka::Acks;

/// Kafka looks at a request within this time. A connection that ends later ends for another reason (`connections.max.idle.ms`).
const LOOKED_AT: Duration = Duration::from_secs(10);

/// A request without an answer.
pub(super) struct Flying {
    pub(super) awaited: Awaited,
    pub(super) parts: Vec<Part>,
    pub(super) since: Instant,
}

/// The answer to the oldest request, or `None` if it is written and none will come; never, if nothing is in flight. Cancel-safe.
pub(super) async fn front_answer(flying: &mut VecDeque<Flying>) -> Result<Option<ProduceResponse>, CallError> {
    match flying.front_mut() {
        Some(front) => front.awaited.wait().await,
        None => std::future::pending().await,
    }
}

impl Sender {
    /// The connection of `acks: none` has ended, with nothing on its way.
    pub(super) fn close_unanswered(&mut self) {
        self.tell_unanswered();
        self.break_off();
    }

    /// Says that records may be lost, if the broker closes the connection soon after it was given some: it has no other way to tell.
    pub(super) fn tell_unanswered(&mut self) {
        // There is no answer that would tell that the broker is well.
        if self.acks == Acks::None && self.opened.elapsed() > LOOKED_AT {
            self.failures = 0;
        }
        if self.acks != Acks::None || self.written.take().is_none_or(|at| at.elapsed() > LOOKED_AT) {
            return;
        }
        self.core.counters.unanswered_ends.inc();
        tracing::warn!(
            broker = self.broker.id,
            "a broker closed the connection of the rules with acks: none; records that were just sent may be lost"
        );
    }
}

/// Ends with the connection that is given; never without one. Cancel-safe.
pub(super) async fn closed(connection: Option<impl Future<Output = ()>>) {
    match connection {
        Some(ends) => ends.await,
        None => std::future::pending().await,
    }
}
