//! How a side waits, and the word that says so in both headers.

use std::time::Duration;

/// The way a side waits for a message, or for a free slot.
///
/// ```
/// use capnproto_shm_transport::{Config, PollMode};
/// use std::time::Duration;
///
/// let eager = Config::new().poll(PollMode::Spin);
/// let seldom = Config::new().poll(PollMode::Interval(Duration::from_millis(1)));
/// let both = Config::new().poll(PollMode::Park); // the default
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PollMode {
    /// Looks again at once, all the time: the lowest latency, and a whole processor. It lets other threads run now and
    /// then, and gives way to its peer if that needs the very same processor. An interval of zero is this.
    Spin,
    /// Sleeps this long between two looks, at most 20 ms at a stretch. Costs its peer no system call.
    Interval(Duration),
    /// Spins for as long as that pays, then sleeps until the peer wakes it: on Linux and from macOS 14.4 on a futex between
    /// the processes, on Windows on a named event, on an older macOS on a FIFO.
    Park,
}

const SPIN: u64 = 1;
const PARK: u64 = 2;
/// Anything from here on is an interval: nanoseconds, plus this.
const INTERVAL: u64 = 3;

impl PollMode {
    /// The word before any mode was asked for: the default holds.
    pub(crate) const UNSET: u64 = 0;

    /// The word that stands for it in both headers.
    pub(crate) fn encode(self) -> u64 {
        match self {
            Self::Spin | Self::Interval(Duration::ZERO) => SPIN,
            Self::Park => PARK,
            Self::Interval(pause) => {
                u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX).saturating_add(INTERVAL)
            }
        }
    }

    /// Any word is some mode, so a corrupt one changes how long a side waits and nothing else.
    #[inline]
    pub(crate) fn decode(word: u64) -> Self {
        match word {
            Self::UNSET | PARK => Self::Park,
            SPIN => Self::Spin,
            pause => Self::Interval(Duration::from_nanos(pause - INTERVAL)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_survive_the_header_and_zero_spins() {
        let pauses = [1, 1_000, u64::MAX / 2].map(|n| PollMode::Interval(Duration::from_nanos(n)));
        for mode in [PollMode::Spin, PollMode::Park].into_iter().chain(pauses) {
            assert_eq!(PollMode::decode(mode.encode()), mode);
        }
        assert_eq!(PollMode::decode(PollMode::Interval(Duration::ZERO).encode()), PollMode::Spin);
        assert!(matches!(
            PollMode::decode(PollMode::Interval(Duration::MAX).encode()),
            PollMode::Interval(_)
        ));
        assert_eq!(PollMode::decode(PollMode::UNSET), PollMode::Park);
    }
}
