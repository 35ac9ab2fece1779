//! Where the keys of tokens come from: a file, or a server that others ask.

use std::sync::{Arc, PoisonError, RwLock};

use super::held::Held;
use super::jwt::KeySet;

/// The key set of a method.
#[derive(Debug)]
pub enum Keys {
    /// Of a file.
    File(Held<KeySet>),
    /// Of a server. Methods that name the same one share it.
    Fetched(Arc<Fetched>),
}

impl Keys {
    /// The set as it is now; `None`: none was fetched yet.
    pub fn get(&self) -> Option<Arc<KeySet>> {
        match self {
            Self::File(held) => Some(held.get()),
            Self::Fetched(fetched) => fetched.get(),
        }
    }
}

/// What was fetched last, if that could be used.
#[derive(Debug, Default)]
pub struct Fetched {
    now: RwLock<Option<Arc<KeySet>>>,
}

impl Fetched {
    /// The last set; `None`: there was none yet.
    pub fn get(&self) -> Option<Arc<KeySet>> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another one, for all who ask from now on.
    pub fn set(&self, keys: KeySet) {
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(keys));
    }
}
