//! Produce requests on their way: what goes into one, and what is waited for.

use std::{collections::VecDeque, time::Instant};

use kafka_protocol::messages::ProduceResponse;

use super::{
    connection::CallError,
    produce::{Awaited, Part},
};

/// A request without an answer.
pub(super) struct Flying {
    pub(super) awaited: Awaited,
    pub(super) parts: Vec<Part>,
    pub(super) since: Instant,
}

/// Parts of one request each: those of other `acks` cannot share one.
pub(super) fn by_acks(parts: Vec<Part>) -> impl Iterator<Item = Vec<Part>> {
    let mut rest = parts;
    std::iter::from_fn(move || {
        let acks = rest.first()?.partition.acks();
        let (taken, others) = std::mem::take(&mut rest).into_iter().partition(|p| p.partition.acks() == acks);
        rest = others;
        Some(taken)
    })
}

/// The answer to the oldest request, or `None` if it is written and none will come; never, if nothing is in flight. Cancel-safe.
pub(super) async fn front_answer(flying: &mut VecDeque<Flying>) -> Result<Option<ProduceResponse>, CallError> {
    match flying.front_mut() {
        Some(front) => front.awaited.wait().await,
        None => std::future::pending().await,
    }
}
