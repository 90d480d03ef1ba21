//! A poll mode as a word in both headers.

use std::time::Duration;

use super::PollMode;

/// No mode was ever asked for: the default holds.
const UNSET: u64 = 0;
const SPIN: u64 = 1;
const PARK: u64 = 2;
/// Anything from here on is an interval: nanoseconds, plus this.
const INTERVAL: u64 = 3;

impl PollMode {
    /// As it is kept in both headers.
    pub(crate) fn encode(self) -> u64 {
        match self {
            Self::Spin | Self::Interval(Duration::ZERO) => SPIN,
            Self::Park => PARK,
            Self::Interval(pause) => {
                u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX).saturating_add(INTERVAL)
            }
        }
    }

    /// Any word is some mode, so a lie here costs patience and nothing else.
    #[inline]
    pub(crate) fn decode(word: u64) -> Self {
        match word {
            UNSET | PARK => Self::Park,
            SPIN => Self::Spin,
            pause => Self::Interval(Duration::from_nanos(pause - INTERVAL)),
        }
    }

    /// Whether the word in a header was ever written.
    pub(crate) const fn is_set(word: u64) -> bool {
        word != UNSET
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
        assert_eq!(PollMode::decode(UNSET), PollMode::Park);
    }
}
