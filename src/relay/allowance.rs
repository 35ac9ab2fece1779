//! What programs may take of one turn of a task. One run is bounded, but what a client has sent with one write, or what one fetch brings,
//! may start thousands: without an end to the turn they would hold a thread of the runtime, and all who wait for it, for seconds.
//!
//! Steps are counted by thread (`mapping::steps_taken`), and a turn neither waits nor leaves its thread: what was taken since it began is its own.

use std::{cell::Cell, future::poll_fn, task::Poll};

use crate::mapping::steps_taken;

/// Steps of a turn, some 5 ms. The message that goes beyond it is finished.
const STEPS: u64 = 100_000;

thread_local! {
    /// Steps that programs of this thread had taken when its turn began.
    static BEGAN: Cell<u64> = const { Cell::new(0) };
}

/// A turn begins.
pub fn begin() {
    BEGAN.set(steps_taken());
}

/// Whether programs have had what they may take of this turn: what is left is for the next.
pub fn is_used_up() -> bool {
    steps_taken().wrapping_sub(BEGAN.get()) >= STEPS
}

/// Until the task's next turn, which begins: behind all who are ready, and behind those of whom the sockets have something to tell by now.
pub async fn next_turn() {
    // The runtime wakes it when it has looked at the sockets, but then lets it go before all whom they have woken.
    tokio::task::yield_now().await;
    // Whoever wakes itself goes to the end of the queue.
    let mut is_first = true;
    poll_fn(|context| {
        if !std::mem::take(&mut is_first) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
    begin();
}
