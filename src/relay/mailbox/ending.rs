//! What a connection is told of its end.

use super::Mailbox;
use crate::relay::store::Letter;

/// Why a connection must end, told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// The process stops (0x8B).
    ShutDown,
    /// The same client id connected again (0x8E) [MQTT-3.1.4-3].
    TakenOver,
    /// An operator has ended its session (0x98).
    ByOperator,
}

impl Mailbox {
    /// Asks the connection to end.
    pub fn end(&self, ending: Ending) {
        let mut inner = self.lock();
        inner.ending = inner.ending.max(Some(ending));
        drop(inner);
        self.wake.notify_one();
    }

    /// Whether the store, or an operator, has said that the connection must end.
    pub fn is_to_end(&self) -> bool {
        let inner = self.lock();
        let ends = |letter: &Letter| matches!(letter, Letter::Close(_) | Letter::Refuse(_));
        matches!(inner.ending, Some(Ending::TakenOver | Ending::ByOperator)) || inner.store.iter().any(ends)
    }
}
