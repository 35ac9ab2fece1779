//! Who has the few cores of this machine: tests beside each other, or one that measures.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

static TAKEN: Mutex<Taken> = Mutex::new(Taken { tests: 0, measured: false });
static CHANGED: Condvar = Condvar::new();

struct Taken {
    /// [`Beside`]s that live.
    tests: usize,
    /// Whether one is [`Alone`].
    measured: bool,
}

fn taken() -> MutexGuard<'static, Taken> {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One of several. It waits for who measures, never for who waits to do so: a test may have several.
pub struct Beside(());

/// The only one.
pub struct Alone(());

impl Beside {
    pub fn others() -> Self {
        let free = CHANGED.wait_while(taken(), |taken| taken.measured);
        free.unwrap_or_else(PoisonError::into_inner).tests += 1;
        Self(())
    }
}

impl Alone {
    /// Waits for the others, at the latest until no test is left.
    pub fn on_it() -> Self {
        let free = CHANGED.wait_while(taken(), |taken| taken.measured || taken.tests > 0);
        free.unwrap_or_else(PoisonError::into_inner).measured = true;
        Self(())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        taken().tests -= 1;
        CHANGED.notify_all();
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        taken().measured = false;
        CHANGED.notify_all();
    }
}
