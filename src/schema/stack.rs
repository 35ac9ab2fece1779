//! A stack for what goes down as deep as a stranger's schema leads it.

use std::{io, thread};

/// Bytes, of which only what is used takes memory.
const STACK: usize = 256 << 20;

/// Runs there. It costs a thread, some 30 µs.
///
/// # Errors
/// The system has no thread.
pub(super) fn on_large_stack<T: Send>(run: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let started = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, run)?;
        Ok(started.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}
