//! Read buffers, lent by the thread that reads.
//!
//! A connection has one of these only between a read that brought bytes and the moment those bytes are used up. The
//! pool is per thread, so lending takes no lock; a buffer may come home on another thread, and a thread that has
//! enough lets it go.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// One read takes up to this many bytes.
pub(super) const BUFFER_SIZE: usize = 64 * 1024;

/// A thread polls one task at a time and few of those keep bytes over an await: more would only lie about.
const KEPT_PER_THREAD: usize = 8;

/// By one pointer, for each connection has room for it.
pub(super) type Buffer = Box<[u8; BUFFER_SIZE]>;

thread_local! {
    static POOL: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of [`BUFFER_SIZE`] bytes; their content is whatever the last reader left, so only what was read may be shown.
pub(super) fn lend() -> Buffer {
    #[cfg(test)]
    count::add(1);
    let fresh = || vec![0; BUFFER_SIZE].try_into().expect("it has that size");
    POOL.with_borrow_mut(Vec::pop).unwrap_or_else(fresh)
}

/// Takes a lent buffer home.
pub(super) fn give_back(buffer: Buffer) {
    #[cfg(test)]
    count::add(-1);
    // At the end of a thread its pool may be gone already: then the buffer is simply freed.
    let _ = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        if pool.len() < KEPT_PER_THREAD {
            pool.push(buffer);
        }
    });
}

/// A buffer that is lent, if one is; it goes home when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Loan(Option<Buffer>);

impl Deref for Loan {
    type Target = Option<Buffer>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Loan {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let Some(buffer) = self.take() {
            give_back(buffer);
        }
    }
}

/// Buffers out on loan, for the tests: exact where one thread does all.
#[cfg(test)]
pub(super) mod count {
    use std::cell::Cell;

    thread_local! {
        static LENT: Cell<i64> = const { Cell::new(0) };
    }

    pub(super) fn add(n: i64) {
        LENT.set(LENT.get() + n);
    }

    pub(in crate::downstream) fn lent() -> i64 {
        LENT.get()
    }
}
