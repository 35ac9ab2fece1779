//! What is wrong with a record that cannot be used. A value, never a panic: anybody may write into the topic.

use std::fmt;

/// Why a record of `mqtt-sessions` is not taken for what its key says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Written by a build that knows more than this one.
    UnknownVersion(u32),
    /// No record this build would write; says where it was noticed.
    Damaged(&'static str),
    /// Bytes; more than [`super::MAX_VALUE`].
    TooLarge(usize),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::UnknownVersion(version) => write!(f, "version {version} is not known"),
            Fault::Damaged(what) => write!(f, "damaged: {what}"),
            Fault::TooLarge(bytes) => write!(f, "{bytes} bytes, more than {}", super::MAX_VALUE),
        }
    }
}

impl std::error::Error for Fault {}
