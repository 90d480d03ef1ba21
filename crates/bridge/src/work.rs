//! What the threads of a session are told to do.

use crate::frame::End;

/// What the session's own thread has to do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Work {
    /// Something waits in the queue.
    pub(crate) queued: bool,
    /// The other bridge misses frames.
    pub(crate) again: bool,
    /// This one does.
    pub(crate) ask: bool,
    /// The other bridge is to be told of credit.
    pub(crate) credit: bool,
    /// Something ended.
    pub(crate) ended: bool,
}

impl Work {
    pub(crate) fn any(&self) -> bool {
        self.queued || self.again || self.ask || self.credit || self.ended
    }
}

/// Why the sender stops receiving from the ring here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The program over there does not receive any more.
    There(End),
    /// This bridge leaves.
    Here(End),
}
