//! A third process reads a channel's messages in passing.

use std::fmt;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::info::{Life, life, open};
use super::passing::Passing;
use crate::config::Config;
use crate::error::{Failure, OpenError, RecvError};
use crate::protocol::{Direction, End, Side, check_name};
use crate::ring::WaitLimit;
use crate::segment::Segment;
use crate::system::{Host, System};

/// The shortest and the longest rest between two looks at the rings: each look takes a cache line away from the sides.
const SHORT: Duration = Duration::from_micros(50);
const LONG: Duration = Duration::from_millis(2);
/// How often it is asked whether the sides live.
const PROBE: Duration = Duration::from_millis(50);

/// Reads the messages of a channel in passing, as a third process.
///
/// A tap takes no part: it writes nothing, holds nothing up, and needs nothing from the two sides. It works on a named
/// channel of any kind, and gives a message as its bytes. It begins at the oldest unreleased message in each
/// direction. It delivers only whole messages, in the order of their direction. Messages that were
/// overwritten before the tap came to them are lost to it, and counted.
///
/// ```
/// use capnproto_shm_transport::{Config, Direction, Tap, Transport};
///
/// # let name = format!("doc-tap-{}", std::process::id());
/// # let name = name.as_str();
/// let mut a = Transport::create(name, &Config::new())?;   // one process
/// let mut tap = Tap::open(name)?;                         // another that looks on
///
/// a.send(b"hello")?;
/// let mut message = Vec::new();
/// let tapped = tap.next(&mut message)?;
/// assert_eq!((tapped.direction, tapped.missed), (Direction::AToB, 0));
/// assert_eq!(message, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Messages that it misses
///
/// A ring keeps a message until its slot is written again: about a lap. A tap that falls behind by more goes on
/// half a lap before the newest message, or with the oldest one that a stopped receiver has not released.
/// While a sender gathers a batch, up to a quarter of the ring cannot be read. So give a channel that is to be tapped at
/// full speed many slots.
///
/// `missed` is exact for every sender that keeps totals, as this library's do. For one that does not, it counts slots.
///
/// # Ends
///
/// A tap ends when both directions have: [`Closed`](RecvError::Closed) if both sides closed in order,
/// [`PeerDead`](RecvError::PeerDead) if one died, [`Superseded`](RecvError::Superseded) if a new side A took the name of a
/// dead one. Open the name again for the next life of the channel.
pub struct Tap {
    rings: [Passing; 2],
    /// The ring that is read next.
    turn: usize,
    /// How long to rest before the next look.
    rest: Duration,
    /// Whether the last look found little, so that the next one can wait.
    quiet: bool,
    lives: [Life; 2],
    probed: Option<Duration>,
}

/// Where a message came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tapped {
    /// Which way it went.
    pub direction: Direction,
    /// The number of its first slot: they are counted from 0 in each direction. So it grows from one message to the next
    /// of its direction, by one for messages of one slot.
    pub sequence: u64,
    /// Messages of this direction that were lost to the tap since the last that it delivered.
    pub missed: u64,
}

impl Tap {
    /// Opens the channel `name` for looking on. If its sides are gone, the tap reads the messages that they left.
    ///
    /// # Errors
    ///
    /// [`OpenError::Timeout`] if there is no whole channel of that name, [`OpenError::Segment`] if a file there is
    /// not a whole segment of this user and version, [`OpenError::Config`] for an invalid name, [`OpenError::Io`] if
    /// the system refuses.
    pub fn open(name: &str) -> Result<Self, OpenError> {
        Self::open_with(name, &Config::new())
    }

    /// The same in the directory of a configuration, and of a channel that another user shares by its permissions; see
    /// [`Config::directory`] and [`Config::permissions`].
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_with(name: &str, config: &Config) -> Result<Self, OpenError> {
        check_name(name)?;
        let group = config.permissions_checked()?;
        let directory = config.directory_chosen();
        let open = |direction| open(name, &directory, direction, group);
        let (a_to_b, b_to_a) = (open(Direction::AToB)?, open(Direction::BToA)?);
        if a_to_b.fixed.generation != b_to_a.fixed.generation {
            let missing = crate::error::Missing::Ready;
            return Err(OpenError::Timeout { name: name.to_owned(), waited: Duration::ZERO, missing });
        }
        Self::new(a_to_b, b_to_a)
    }

    fn new(a_to_b: Segment, b_to_a: Segment) -> Result<Self, OpenError> {
        let rings = [Passing::new(Direction::AToB, a_to_b), Passing::new(Direction::BToA, b_to_a)];
        if let Some(ring) = rings.iter().find(|ring| !ring.is_readable()) {
            // On this processor only the barrier tells, and the sides leave their fences to it.
            let error = io::Error::new(io::ErrorKind::Unsupported, "a tap needs `membarrier` here");
            return Err(Failure::at("tap", &ring.segment.path())(error).into());
        }
        let lives = [Life::Unknown; 2];
        Ok(Self { rings, turn: 0, rest: SHORT, quiet: false, lives, probed: None })
    }

    /// The next message, in `out`, whose former content goes. Never waits.
    ///
    /// # Errors
    ///
    /// [`RecvError::Empty`] if there is none now; [`Closed`](RecvError::Closed), [`PeerDead`](RecvError::PeerDead) or
    /// [`Superseded`](RecvError::Superseded) if everything is delivered and no more will come; [`Corrupt`](RecvError::Corrupt)
    /// if something impossible stands in shared memory.
    pub fn try_next(&mut self, out: &mut Vec<u8>) -> Result<Tapped, RecvError> {
        if let Some(tapped) = self.take(out) {
            return Ok(tapped);
        }
        // The end first: messages sent before it are seen after it.
        let end = self.end();
        let (mut little, mut corruption) = (true, None);
        for ring in &mut self.rings {
            let share = |part: u64| (ring.slots() / part).max(1);
            let (few, many) = (share(16), share(8));
            match ring.look() {
                Ok(found) => {
                    little &= found < few;
                    // A ring that fills faster than it is looked at needs a shorter rest.
                    self.rest = if found >= many { self.rest / 2 } else { self.rest };
                }
                Err(found) => corruption = Some(RecvError::Corrupt(found)),
            }
        }
        self.quiet = little;
        self.take(out).ok_or(corruption.or(end).unwrap_or(RecvError::Empty))
    }

    /// The next message, in `out`, whose former content goes. Waits as long as it takes.
    ///
    /// It looks at the rings at intervals of 50 µs to 2 ms, because nobody wakes a tap.
    ///
    /// # Errors
    ///
    /// As [`try_next`](Self::try_next), but not [`RecvError::Empty`].
    pub fn next(&mut self, out: &mut Vec<u8>) -> Result<Tapped, RecvError> {
        self.next_within(out, WaitLimit::Endless)
    }

    /// The next message, in `out`, whose former content goes. Waits at most `wait`.
    ///
    /// # Errors
    ///
    /// As [`try_next`](Self::try_next), but [`RecvError::Timeout`] in place of [`RecvError::Empty`].
    pub fn next_timeout(&mut self, out: &mut Vec<u8>, wait: Duration) -> Result<Tapped, RecvError> {
        self.next_within(out, WaitLimit::AtMost(wait))
    }

    fn next_within(&mut self, out: &mut Vec<u8>, limit: WaitLimit) -> Result<Tapped, RecvError> {
        if let Some(tapped) = self.take(out) {
            return Ok(tapped);
        }
        let deadline = limit.started().instant();
        let left = || deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // A call that comes back for more leaves the rings alone for a while.
        let mut rests = self.quiet;
        loop {
            if rests {
                self.pause(left());
            }
            rests = true;
            match self.try_next(out) {
                Err(RecvError::Empty) if left().is_some_and(|left| left.is_zero()) => {
                    return Err(RecvError::Timeout);
                }
                Err(RecvError::Empty) => {}
                done => return done,
            }
        }
    }

    /// Messages that were lost to this tap so far, in both directions together: also those after which none was
    /// delivered yet.
    pub fn missed(&self) -> u64 {
        self.rings.iter().fold(0, |sum, ring| sum.wrapping_add(ring.missed))
    }

    /// Lets messages gather, longer each time that it was in vain.
    fn pause(&mut self, left: Option<Duration>) {
        let rest = left.map_or(self.rest, |left| left.min(self.rest));
        if rest < SHORT {
            thread::yield_now()
        } else {
            thread::sleep(rest)
        }
        self.rest = (self.rest * 2).clamp(SHORT, LONG);
    }

    /// A message that was copied already.
    fn take(&mut self, out: &mut Vec<u8>) -> Option<Tapped> {
        for _ in 0..self.rings.len() {
            let ring = &mut self.rings[self.turn];
            let direction = ring.direction;
            if let Some(message) = ring.deliver() {
                out.clear();
                out.extend_from_slice(message.bytes);
                return Some(Tapped { direction, sequence: message.sequence, missed: message.missed });
            }
            self.turn = (self.turn + 1) % self.rings.len();
        }
        None
    }

    /// How both directions have ended, if they have.
    fn end(&mut self) -> Option<RecvError> {
        self.probe();
        let ends = [self.direction_end(0)?, self.direction_end(1)?];
        // A side whose death the other one did not see is dead by its lock alone, perhaps only since the last probe.
        self.ask();
        Some(if ends.contains(&End::Superseded) {
            RecvError::Superseded
        } else if ends.contains(&End::Died) || self.lives.contains(&Life::Dead) {
            RecvError::PeerDead
        } else {
            RecvError::Closed
        })
    }

    /// How a direction has ended: by its producer, or by a consumer that takes no more. An unknown word is no end: who
    /// lives is told by the locks.
    fn direction_end(&self, ring: usize) -> Option<End> {
        let words = self.rings[ring].segment.words();
        let said = [words.producer_status.ended(), words.consumer_status.ended()];
        let said = said.into_iter().flatten().find(|end| *end != End::Open);
        said.or(match self.lives[ring] {
            Life::Dead => Some(End::Died),
            Life::Closed => Some(End::Closed),
            // Nobody joins a dead side A's life.
            Life::Absent if matches!(self.lives[0], Life::Dead) => Some(End::Died),
            Life::Absent if matches!(self.lives[0], Life::Closed) => Some(End::Closed),
            _ => None,
        })
    }

    /// Asks now and then whether the sides live.
    fn probe(&mut self) {
        let now = Host::coarse_now();
        if self.probed.is_some_and(|probed| now.saturating_sub(probed) < PROBE) {
            return;
        }
        self.probed = Some(now);
        self.ask();
    }

    /// Asks whether the sides live.
    fn ask(&mut self) {
        let [a_to_b, b_to_a] = [&self.rings[0].segment, &self.rings[1].segment];
        self.lives = [life(Side::A, a_to_b, Some(b_to_a)), life(Side::B, b_to_a, Some(a_to_b))];
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap")
            .field("generation", &self.rings[0].segment.fixed.generation)
            .field("missed", &self.missed())
            .finish_non_exhaustive()
    }
}
