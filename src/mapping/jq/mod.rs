//! jq programs: compiled when the file is loaded, run over one value at a time, bounded in steps, memory and stack.

mod access;
mod arithmetic;
mod expression;
mod fuel;
mod json;
mod library;
mod matching;
mod natives;
mod program;
mod recursion;
mod size;
mod value;
mod variables;

pub use fuel::steps_taken;
pub(super) use program::{Output, Program, Trouble};
pub(super) use size::on_large_stack;
pub use value::{Array, Envelope, Fields, Object, Value};
pub(super) use variables::variables;

#[cfg(test)]
mod tests;
