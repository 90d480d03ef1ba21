//! The parts of a transport that any thread may use at any time, also after its end.

use pyo3::PyResult;
use transport::{PollControl, PollMode, Stats, StatsHandle};

use crate::errors::closed_here;

/// Figures, and how both sides wait. Once closed, those of the end: the channel's memory is let go then.
pub(super) enum Shared {
    Open { stats: StatsHandle, poll: PollControl },
    Closed { stats: Stats, peer_attached: bool, local: PollMode, remote: PollMode },
}

impl Shared {
    pub(super) fn of(transport: &transport::Transport) -> Self {
        Self::Open { stats: transport.stats_handle(), poll: transport.poll_control() }
    }

    pub(super) fn stats(&self) -> Stats {
        match self {
            Self::Open { stats, .. } => stats.get(),
            Self::Closed { stats, .. } => *stats,
        }
    }

    pub(super) fn peer_attached(&self) -> bool {
        match self {
            Self::Open { stats, .. } => stats.peer_attached(),
            Self::Closed { peer_attached, .. } => *peer_attached,
        }
    }

    /// How this side waits.
    pub(super) fn local(&self) -> PollMode {
        match self {
            Self::Open { poll, .. } => poll.local(),
            Self::Closed { local, .. } => *local,
        }
    }

    /// How the other side waits.
    pub(super) fn remote(&self) -> PollMode {
        match self {
            Self::Open { poll, .. } => poll.remote(),
            Self::Closed { remote, .. } => *remote,
        }
    }

    /// The control over how they wait.
    ///
    /// # Errors
    ///
    /// `Closed` after the end.
    pub(super) fn poll(&self) -> PyResult<&PollControl> {
        match self {
            Self::Open { poll, .. } => Ok(poll),
            Self::Closed { .. } => Err(closed_here()),
        }
    }

    /// Leaves the memory alone: a forked child has none of it.
    pub(super) fn forget(&self) {
        if let Self::Open { stats, .. } = self {
            std::mem::forget(stats.clone());
        }
    }

    /// Keeps the figures alone.
    pub(super) fn end(&mut self) {
        *self = Self::Closed {
            stats: self.stats(),
            peer_attached: self.peer_attached(),
            local: self.local(),
            remote: self.remote(),
        };
    }
}
