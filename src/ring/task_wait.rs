//! The state of a task's wait between one poll and the next.

use std::time::Instant;

use crate::poll::Pause;

/// Waits in which others ran first, after which one tries to look first.
const TRIED: u32 = 16;

/// A task's wait until a half has a number of slots, or an end.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(super) need: u64,
    /// When the first looks had found nothing.
    pub(super) began: Option<Instant>,
    /// Whether the half sleeps on its event, or has slept.
    pub(super) armed: bool,
    pub(super) armed_at: Option<Instant>,
    pub(super) slept: bool,
    pub(super) looks: u32,
    /// Of a half that looks at intervals.
    pub(super) timer: Option<Pause>,
    /// Whether others run before the first looks.
    pub(super) manners: Option<Manners>,
    /// Whether there was a turn of this wait.
    pub(super) begun: bool,
}

/// Whether what is waited for comes by itself, or only after other tasks of this thread have run: then they run first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manners {
    comes_alone: bool,
    /// Waits in which others ran first since it was last tried to look first.
    waits: u32,
}

impl Manners {
    /// Whether others run first in this wait.
    pub(super) fn yields(&mut self) -> bool {
        self.waits += 1;
        !self.comes_alone && self.waits < TRIED
    }

    /// After looking first.
    pub(super) fn looked(&mut self, found: bool) {
        *self = Self { comes_alone: found, waits: 0 };
    }
}

impl Default for Waiting {
    fn default() -> Self {
        Self::new(1)
    }
}

impl Waiting {
    pub(crate) fn new(need: u64) -> Self {
        let (began, armed_at, timer) = (None, None, None);
        let (armed, slept, manners, begun) = (false, false, None, false);
        Self { need, began, armed, armed_at, slept, looks: 0, timer, manners, begun }
    }

    /// A wait in which others run before the first looks, unless what is waited for comes by itself.
    #[cfg(feature = "rpc")]
    pub(crate) fn polite(need: u64) -> Self {
        Self { manners: Some(Manners::default()), ..Self::new(need) }
    }
}
