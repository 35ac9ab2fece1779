//! What one run of a program may cost. The interpreter asks for its program before each step, and every operation on values passes
//! here, so whatever a program does with whatever payload, it comes by.
//!
//! What it costs is counted in units; a run that has none left is ended by unwinding, which no `try` of a program sees. The same is done
//! when the stack has become too deep. The counters belong to the thread: a run neither waits nor leaves it.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::mapping::tables::Lack;

/// Units of one step of the interpreter, some 50 ns.
const STEP: u64 = 16;
/// Steps of a run, beside what its payload adds.
const STEPS: u64 = 20_000;
/// Units that each byte of a payload adds: what is large may be walked.
const UNITS_PER_BYTE: u64 = 2;
/// Bytes that are copied or compared for one unit.
const BYTES_PER_UNIT: usize = 32;
/// Bytes of stack that a run may take. A worker has 2 MiB at least.
const STACK: usize = 512 << 10;

thread_local! {
    /// Without a run there is no bound.
    static LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
    /// The address below which the stack is too deep; it grows downwards on all machines that we are built for.
    static FLOOR: Cell<usize> = const { Cell::new(0) };
    /// Steps of all runs of this thread so far.
    static TAKEN: Cell<u64> = const { Cell::new(0) };
}

/// Why a run did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CutOff {
    /// It has cost what it may.
    Spent,
    /// Calls or values are nested too deeply.
    TooDeep,
    /// A table that it looks into has no answer: what is said then might be wrong.
    Lacks(Lack),
    /// A panic: a fault of the interpreter, which its caller shall not feel.
    Fault,
}

/// What a run of a program over so many bytes of payload may cost, in units.
pub(super) fn budget(payload: usize) -> u64 {
    STEP * STEPS + UNITS_PER_BYTE * payload as u64
}

/// Runs with a budget; gives what came out and the steps that it took.
///
/// # Errors
/// It was cut off.
pub(super) fn within<T>(units: u64, run: impl FnOnce() -> T) -> (Result<T, CutOff>, u64) {
    LEFT.set(units);
    FLOOR.set(here().saturating_sub(STACK));
    let outcome = catch_unwind(AssertUnwindSafe(run));
    let used = units - LEFT.replace(u64::MAX).min(units);
    FLOOR.set(0);
    let steps = used.div_ceil(STEP);
    TAKEN.set(TAKEN.get().wrapping_add(steps));
    (outcome.map_err(|reason| cut_off(&*reason)), steps)
}

/// Steps that all runs of this thread have taken so far. One run is bounded; whoever has many, one after the other, sees here what they
/// come to.
pub fn steps_taken() -> u64 {
    TAKEN.get()
}

fn cut_off(reason: &(dyn Any + Send)) -> CutOff {
    reason.downcast_ref().copied().unwrap_or(CutOff::Fault)
}

/// One step of the interpreter.
pub(super) fn step() {
    charge(STEP);
    if here() < FLOOR.get() {
        end(CutOff::TooDeep);
    }
}

/// Something that costs so many units.
pub(super) fn charge(units: u64) {
    match LEFT.get().checked_sub(units) {
        Some(left) => LEFT.set(left),
        None => {
            LEFT.set(0);
            end(CutOff::Spent);
        }
    }
}

/// Values that are walked, compared or copied.
pub(super) fn charge_values(count: usize) {
    charge(1 + count as u64);
}

/// Bytes that are walked, compared or copied.
pub(super) fn charge_bytes(count: usize) {
    charge(1 + (count / BYTES_PER_UNIT) as u64);
}

/// Ends the run. No message is written: it is what a limit does, and no fault of ours.
pub(super) fn end(why: CutOff) -> ! {
    resume_unwind(Box::new(why))
}

/// About where the stack ends at the moment.
#[inline(never)]
fn here() -> usize {
    let mark = 0_u8;
    std::ptr::from_ref(&mark).addr()
}
