//! Bytes of a client that carry nothing: headers of frames, pings and the like, and what fills up TLS records. They cost as much to read as what carries something.

/// So many of them may come before it is known who sends them: a CONNECT in frames of one byte each has six of them for each, and may have 10 KiB.
const STRANGERS: usize = 64 << 10;
/// After so many of them others have their turn, and whoever reads is told, as after a read of data.
const AT_A_TIME: usize = 64 << 10;

/// Counts them.
#[derive(Debug)]
pub(super) struct Nothing {
    /// Before so many have come it must be known who sends them; `None`: it is.
    spare: Option<usize>,
    /// Those that came since this was asked last.
    empty: usize,
    /// Those that came since the reader was told of anything.
    untold: usize,
    /// The reader is to be told of them.
    paused: bool,
}

impl Nothing {
    /// It is not known who sends them.
    pub(super) fn of_stranger() -> Self {
        Self {
            spare: Some(STRANGERS),
            empty: 0,
            untold: 0,
            paused: false,
        }
    }

    /// It is known who sends them from now on.
    pub(super) fn let_in(&mut self) {
        self.spare = None;
    }

    /// So many have come.
    pub(super) fn add(&mut self, bytes: usize) {
        self.empty = self.empty.saturating_add(bytes);
        self.untold = self.untold.saturating_add(bytes);
        if let Some(spare) = &mut self.spare {
            *spare = spare.saturating_sub(bytes);
        }
    }

    /// Whether it is too much for one who is not let in.
    pub(super) fn is_too_much(&self) -> bool {
        self.spare == Some(0)
    }

    /// The reader is given something.
    pub(super) fn is_told(&mut self) {
        self.untold = 0;
    }

    /// There was enough of them below.
    pub(super) fn pause(&mut self) {
        self.untold = AT_A_TIME;
    }

    /// Whether the reader is to make a pause.
    pub(super) fn pauses(&mut self) -> bool {
        let pauses = self.untold >= AT_A_TIME;
        if pauses {
            (self.untold, self.paused) = (0, true);
        }
        pauses
    }

    /// Whether there was such a pause; once for each.
    pub(super) fn has_paused(&mut self) -> bool {
        std::mem::take(&mut self.paused)
    }

    /// Those that came since this was asked last.
    pub(super) fn take(&mut self) -> usize {
        std::mem::take(&mut self.empty)
    }
}
