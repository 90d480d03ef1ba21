//! Figures of a channel, for its own sides and for anyone who may read it.

use std::fmt;
use std::sync::Arc;

use crate::config::Config;
use crate::error::{Failure, FileError, Missing, OpenError};
use crate::protocol::{Direction, check_name, file_name};
use crate::ring::RingStats;
use crate::segment::{Segment, SegmentPair};

/// Both rings of a channel, as seen from one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The ring this side sends into. For [`Stats::of`]: from side A to side B.
    pub tx: RingStats,
    /// The ring this side receives from. For [`Stats::of`]: from side B to side A.
    pub rx: RingStats,
}

impl Stats {
    pub(super) fn of_pair(pair: &SegmentPair) -> Self {
        Self { tx: RingStats::of(&pair.tx), rx: RingStats::of(&pair.rx) }
    }

    /// Looks at a channel from outside, without taking part: `tx` is the ring from A to B.
    ///
    /// ```
    /// # use capnproto_shm_transport::{Config, Stats, Transport};
    /// # let name = format!("doc-stats-{}", std::process::id());
    /// let mut a = Transport::create(&name, &Config::new())?;
    /// a.send(b"hello")?;
    /// let stats = Stats::of(&name)?;
    /// assert_eq!((stats.tx.messages, stats.tx.bytes, stats.rx.messages), (1, 5, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`OpenError::Config`] for an invalid name, [`OpenError::Timeout`] if there is no such channel,
    /// [`OpenError::Segment`] if a file there is not a whole segment of this user, [`OpenError::Io`] if the system
    /// refuses.
    pub fn of(name: &str) -> Result<Self, OpenError> {
        Self::of_with(name, &Config::new())
    }

    /// The same in the directory of a configuration, and of a channel that another user shares by its permissions; see
    /// [`Config::directory`] and [`Config::permissions`].
    ///
    /// # Errors
    ///
    /// As [`of`](Self::of).
    pub fn of_with(name: &str, config: &Config) -> Result<Self, OpenError> {
        check_name(name)?;
        let (directory, group) = (config.directory_chosen(), Some(config.permissions_checked()?));
        let ring = |direction| {
            let path = directory.join(file_name(name, direction));
            match Segment::inspect(&path, direction, group) {
                Ok(segment) => Ok(RingStats::of(&segment)),
                Err(FileError::Missing) => Err(OpenError::Timeout {
                    name: name.to_owned(),
                    waited: std::time::Duration::ZERO,
                    missing: Missing::Channel,
                }),
                Err(error) => Err(Failure::at("inspect", &path)(error).into()),
            }
        };
        Ok(Self { tx: ring(Direction::AToB)?, rx: ring(Direction::BToA)? })
    }
}

/// Reads the figures of a channel from any thread, while both halves are at work in others.
///
/// Cloning is cheap, and a clone may outlive the transport. It is of the generation that it was made for: take a new one
/// after [`reopen`](crate::Transport::reopen).
///
/// ```
/// # use capnproto_shm_transport::{Config, Transport};
/// # let name = format!("doc-stats-handle-{}", std::process::id());
/// let mut a = Transport::create(&name, &Config::new())?;
/// let stats = a.stats_handle();
/// let slot = a.reserve()?;
/// assert_eq!((stats.get().tx.messages, stats.peer_attached()), (0, false)); // while the slot is borrowed
/// # drop(slot);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct StatsHandle {
    pair: Arc<SegmentPair>,
}

impl StatsHandle {
    pub(super) fn new(pair: Arc<SegmentPair>) -> Self {
        Self { pair }
    }

    /// Figures of both rings, now.
    pub fn get(&self) -> Stats {
        Stats::of_pair(&self.pair)
    }

    /// Whether the other side has ever been there. It may have gone since.
    pub fn peer_attached(&self) -> bool {
        self.pair.peer_attached()
    }
}

impl fmt::Debug for StatsHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StatsHandle").field(&self.get()).finish()
    }
}
