//! What may be taken of one turn of a task, by programs and by packets. One run of a program is bounded, but what a client has sent with one write, or
//! what one fetch brings, may start thousands: without an end to the turn they would hold a thread of the runtime, and all who wait for it, for seconds.
//! Of the smallest packets a read brings tens of thousands, and each may want an answer.
//!
//! Steps are counted by thread (`mapping::steps_taken`), as packets are, and a turn neither waits nor leaves its thread: what was taken since it began
//! is its own.

use std::{cell::Cell, future::poll_fn, task::Poll};

use crate::mapping::steps_taken;

/// Steps of a turn, some 5 ms. The message that goes beyond it is finished.
const STEPS: u64 = 100_000;
/// Packets of a turn, some 0.1 ms if they are small. Far fewer would cost what a turn costs for too few of them.
const PACKETS: u32 = 1_024;

thread_local! {
    /// Steps that programs of this thread had taken when its turn began.
    static BEGAN: Cell<u64> = const { Cell::new(0) };
    /// Packets of a client that were taken in it.
    static TAKEN: Cell<u32> = const { Cell::new(0) };
}

/// A turn begins.
pub fn begin() {
    BEGAN.set(steps_taken());
    TAKEN.set(0);
}

/// A packet of a client was taken.
pub fn take_packet() {
    TAKEN.set(TAKEN.get().saturating_add(1));
}

/// Whether programs or packets have had what they may take of this turn: what is left is for the next.
pub fn is_used_up() -> bool {
    TAKEN.get() >= PACKETS || steps_taken().wrapping_sub(BEGAN.get()) >= STEPS
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
