//! Memory of the producer's budget for what its user keeps beside a record, until it knows what became of it.

use std::{cell::Cell, sync::Arc};

use super::{
    appender::{AppendError, Appender, charge},
    cluster::Core,
};

/// Bytes of the budget, given back when it is dropped.
pub struct Reserved {
    core: Arc<Core>,
    bytes: usize,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.core.memory.release(self.bytes);
    }
}

impl std::fmt::Debug for Reserved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reserved({} bytes)", self.bytes)
    }
}

impl Appender {
    /// Takes memory for what is kept beside the next record.
    ///
    /// # Errors
    /// [`AppendError::MemoryFull`], as of [`append`](Self::append); [`AppendError::TooLarge`]: so much and its record can never be had together.
    pub fn reserve(&mut self, bytes: usize) -> Result<Reserved, AppendError> {
        let core = self.core.clone();
        if !core.memory.could_hold(bytes.saturating_mul(2)) {
            return Err(AppendError::TooLarge);
        }
        let granted = Cell::new(self.granted);
        let taken = charge(&core.memory, &granted, bytes);
        self.granted = granted.get();
        if taken {
            return Ok(Reserved { core, bytes });
        }
        self.wanted = bytes;
        core.counters.memory_full.inc();
        self.kick();
        Err(AppendError::MemoryFull)
    }

    /// Gives back what was reserved for a record that was not taken. If there was no memory for the record both are waited for: one without
    /// the other would be of no use.
    pub fn put_back(&mut self, reserved: Reserved, error: AppendError) -> AppendError {
        let bytes = reserved.bytes;
        drop(reserved);
        if error != AppendError::MemoryFull {
            return error;
        }
        self.wanted = self.wanted.saturating_add(bytes);
        if self.core.memory.could_hold(self.wanted) {
            AppendError::MemoryFull
        } else {
            AppendError::TooLarge
        }
    }

    /// What was reserved is for the next record: it finds memory whoever else has the rest.
    pub fn spend(&mut self, mut reserved: Reserved) {
        self.granted += std::mem::take(&mut reserved.bytes);
    }
}
