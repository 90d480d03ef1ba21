//! Figures of a channel, for its own sides and for anyone who may read it.

use std::sync::atomic::Ordering;

use crate::config::{Mapping, check_name};
use crate::error::{Missing, OpenError};
use crate::ring::Tally;
use crate::segment::{Access, Direction, End, Segment, SegmentOpenError, path_of};

/// Both rings of a channel, as seen from one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The ring this side sends into. For [`Stats::of`]: from side A to side B.
    pub tx: RingStats,
    /// The ring this side receives from. For [`Stats::of`]: from side B to side A.
    pub rx: RingStats,
}

/// One ring. Read word by word while both sides work: each figure is true of some recent moment, two of
/// them not necessarily of the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingStats {
    /// Payload bytes of a slot.
    pub slot_size: usize,
    /// Slots of the ring.
    pub slot_count: usize,
    /// Slots published and not yet released.
    pub used_slots: usize,
    /// Whether either end has closed, died or been superseded, as far as it is known.
    pub closed: bool,
    /// Messages published. Counted by the lengths in the ring, so it costs the sender nothing.
    pub messages: u64,
    /// Payload bytes published.
    pub bytes: u64,
    /// Times the producer found the ring full.
    pub full_waits: u64,
    /// Times either end went to sleep.
    pub parks: u64,
    /// Times either end woke the other.
    pub wakes: u64,
}

impl Stats {
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
    /// [`OpenError::Config`] for a name that cannot be, [`OpenError::Timeout`] if there is no such channel,
    /// [`OpenError::Segment`] if what stands there is not a whole segment of this user, [`OpenError::Io`] if
    /// the system refuses.
    pub fn of(name: &str) -> Result<Self, OpenError> {
        check_name(name)?;
        let ring = |direction| {
            let path = path_of(name, direction);
            Segment::open(&path, direction, Access::Inspect, None, Mapping::default())
                .map(|s| RingStats::of(&s))
                .map_err(|e| match e {
                    SegmentOpenError::Missing => OpenError::Timeout {
                        name: name.to_owned(),
                        waited: std::time::Duration::ZERO,
                        missing: Missing::Channel,
                    },
                    SegmentOpenError::Segment(source) => OpenError::Segment { path, source },
                    SegmentOpenError::Config(source) => OpenError::Config(source),
                    SegmentOpenError::Io(source) => OpenError::Io { action: "inspect", path, source },
                })
        };
        Ok(Self { tx: ring(Direction::AToB)?, rx: ring(Direction::BToA)? })
    }
}

impl RingStats {
    pub(crate) fn of(segment: &Segment) -> Self {
        let words = segment.words();
        let sum = |counters: [&std::sync::atomic::AtomicU64; 2]| {
            counters.into_iter().map(|c| c.load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
        };
        // The head first: it never passes the tail, so an honest pair never comes out negative.
        let head = words.consumer.head.load(Ordering::Acquire);
        let tail = words.producer.tail.load(Ordering::Acquire);
        let tally = Tally::of(words, segment.lengths(), &segment.geometry);
        let used = tail.wrapping_sub(head).min(segment.geometry.slot_count as u64);
        Self {
            slot_size: segment.geometry.slot_size,
            slot_count: segment.geometry.slot_count,
            used_slots: used as usize,
            closed: [&words.producer_notice, &words.consumer_notice]
                .iter()
                .any(|n| n.ended() != Ok(End::Open)),
            messages: tally.messages,
            bytes: tally.bytes,
            full_waits: words.producer_counters.full_waits.load(Ordering::Relaxed),
            parks: sum([&words.producer_counters.parks, &words.consumer_counters.parks]),
            wakes: sum([&words.producer_counters.wakes, &words.consumer_counters.wakes]),
        }
    }
}
