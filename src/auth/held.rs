//! What was read of a file of users or keys, and when the file was looked at last. Reading it is others' work.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};
use std::time::{Duration, Instant, SystemTime};

/// What was read of a file, replaced as a whole when the file has changed.
#[derive(Debug)]
pub struct Held<T> {
    /// Of the file.
    pub path: PathBuf,
    now: RwLock<Arc<T>>,
    /// Its own, not the path's: each chain that names a file has a reading of its own to replace.
    look: Mutex<Look>,
}

/// The last look at a file.
#[derive(Debug, Default)]
pub struct Look {
    at: Option<Instant>,
    /// Time of its last change and bytes of the file whose reading is in force; `None`: not known.
    pub read: Option<(SystemTime, u64)>,
    /// Why it cannot be used, as it was told last.
    pub told: Option<String>,
}

impl<T> Held<T> {
    /// The first reading.
    pub fn new(path: PathBuf, value: T) -> Self {
        Self {
            path,
            now: RwLock::new(Arc::new(value)),
            look: Mutex::default(),
        }
    }

    /// The last reading.
    pub fn get(&self) -> Arc<T> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A new one, for all who ask from now on.
    pub fn set(&self, value: T) {
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }

    /// Begins a look at the file, unless somebody has looked within `again` or is looking now: then the last reading will do.
    pub fn look(&self, now: Instant, again: Duration) -> Option<MutexGuard<'_, Look>> {
        let mut look = match self.look.try_lock() {
            Ok(look) => look,
            Err(TryLockError::Poisoned(broken)) => broken.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        if look.at.is_some_and(|last| now.saturating_duration_since(last) < again) {
            return None;
        }
        look.at = Some(now);
        Some(look)
    }

    /// Begins a look that forgets all former ones, behind one that is going on. Blocks for as long as that takes.
    pub fn look_anew(&self, now: Instant) -> MutexGuard<'_, Look> {
        let mut look = self.look.lock().unwrap_or_else(PoisonError::into_inner);
        *look = Look {
            at: Some(now),
            ..Look::default()
        };
        look
    }
}
