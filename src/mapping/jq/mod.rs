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

pub use fuel::steps_taken;
pub(super) use program::{Output, Program, Trouble};
pub use value::{Array, Envelope, Fields, Object, Value};

#[cfg(test)]
mod tests;
