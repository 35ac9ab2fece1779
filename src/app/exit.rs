//! Exit codes, in the numbers of `sysexits.h`, and the two ways out for words.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

/// How the process ends. Each is in `--help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// All was done.
    Done,
    /// Faults in the configuration or in a file that a listener names, or the command line was not understood (EX_USAGE).
    Usage,
    /// Nothing comes of what was asked about: no record, no message, nothing to read (EX_DATAERR).
    Nothing,
    /// No such configuration file, or not for us (EX_NOINPUT).
    NoInput,
    /// Kafka is not reached, or is not as the configuration needs it (EX_UNAVAILABLE).
    Unavailable,
    /// A fault of the program itself (EX_SOFTWARE).
    Internal,
    /// The system refuses what is needed, for example a port (EX_OSERR).
    System,
    /// What was asked for cannot be written (EX_IOERR).
    Unwritten,
    /// A second signal came before all in flight was finished (EX_TEMPFAIL).
    Hurried,
}

impl Exit {
    #[cfg(test)]
    pub(super) const ALL: [Self; 9] = [
        Self::Done,
        Self::Usage,
        Self::Nothing,
        Self::NoInput,
        Self::Unavailable,
        Self::Internal,
        Self::System,
        Self::Unwritten,
        Self::Hurried,
    ];

    /// The number.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Usage => 64,
            Self::Nothing => 65,
            Self::NoInput => 66,
            Self::Unavailable => 69,
            Self::Internal => 70,
            Self::System => 71,
            Self::Unwritten => 74,
            Self::Hurried => 75,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An error, to stderr. A closed stderr is no reason to panic.
pub(super) fn tell(error: &impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{error}");
}

/// What was asked for, to stdout.
pub(super) fn answer(words: &str) -> Exit {
    match writeln!(std::io::stdout().lock(), "{words}") {
        Ok(()) => Exit::Done,
        Err(_) => Exit::Unwritten,
    }
}
