//! The state of the channel under a name.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config::{Config, MessageKind};
use crate::error::{ConfigError, Failure, FileError, Missing, OpenError};
use crate::protocol::{Direction, End, EndpointStatus, PollMode, Side, check_name, file_name};
use crate::ring::RingStats;
use crate::segment::Segment;

/// The present state of the channel under a name. [`Channels::list`](crate::Channels::list) finds all of them.
///
/// Each figure is true of some recent moment, two of them not necessarily of the same. All that the two sides wrote
/// about themselves (process numbers, poll modes, figures) is a claim, and proves nothing. The
/// locks that the system keeps show which side lives.
///
/// ```
/// # use capnproto_shm_transport::{ChannelInfo, Config, Life, Transport};
/// # let name = format!("doc-info-{}", std::process::id());
/// let mut a = Transport::create(&name, &Config::new().message_tag("ticks/1"))?;
/// a.send(b"hello")?;
///
/// let info = ChannelInfo::of(&name)?;
/// assert_eq!((info.a.life, info.b.life), (Life::Alive, Life::Absent));
/// assert_eq!(info.tag.as_deref(), Some("ticks/1"));
/// assert_eq!(info.a_to_b.unwrap().stats.messages, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct ChannelInfo {
    /// The channel's name.
    pub name: String,
    /// Where its files lie.
    pub directory: PathBuf,
    /// The number of this life of the channel: another `create`, another number.
    pub generation: Option<u64>,
    /// When side A created it, by the clock of that time.
    pub created: Option<SystemTime>,
    /// The tag from [`Config::message_tag`]; empty if none was given.
    pub tag: Option<String>,
    /// The side that created the channel.
    pub a: SideInfo,
    /// The side that opens it.
    pub b: SideInfo,
    /// The ring from side A to side B, if its file is a whole segment.
    pub a_to_b: Option<RingInfo>,
    /// The ring from side B to side A, if its file is a whole segment.
    pub b_to_a: Option<RingInfo>,
    /// The fault, if this is not a whole channel that this process may join. [`ChannelInfo::of`] always gives `None`.
    pub problem: Option<OpenError>,
}

/// One side of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SideInfo {
    /// Whether it lives.
    pub life: Life,
    /// Its process number, as it wrote it down, in its own namespace.
    pub pid: Option<u32>,
    /// How it waits. Before it has come: how it was asked to wait.
    pub poll: Option<PollMode>,
    /// Whether it sleeps in the kernel until there is room to send.
    pub awaits_room: bool,
    /// Whether it sleeps in the kernel until there is a message.
    pub awaits_message: bool,
}

impl SideInfo {
    const UNKNOWN: Self =
        Self { life: Life::Unknown, pid: None, poll: None, awaits_room: false, awaits_message: false };
}

/// Whether a side lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Life {
    /// Its process holds its lock. It may be stopped (SIGSTOP).
    Alive,
    /// It has not come yet.
    Absent,
    /// It closed in order.
    Closed,
    /// Its process ended without closing.
    Dead,
    /// The file that tells cannot be read.
    Unknown,
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Alive => "alive",
            Self::Absent => "absent",
            Self::Closed => "closed",
            Self::Dead => "dead",
            Self::Unknown => "unknown",
        })
    }
}

/// One ring of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingInfo {
    /// The kind of its messages.
    pub kind: MessageKind,
    /// Length of its file, in bytes.
    pub file_bytes: u64,
    /// Sizes and figures.
    pub stats: RingStats,
}

impl ChannelInfo {
    /// Looks at the channel `name`.
    ///
    /// # Errors
    ///
    /// [`OpenError::Timeout`] if there is no whole channel of that name, [`OpenError::Segment`] if a file there is
    /// not a whole segment of this user and version, [`OpenError::Config`] for an invalid name, [`OpenError::Io`] if
    /// the system refuses. A channel whose sides are gone is no error: see [`Life`].
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
        let mut info = Self::look(name, config)?;
        info.problem.take().map_or(Ok(info), Err)
    }

    /// The state of the channel, with its fault if any. Only an impossible configuration is an error.
    pub(super) fn look(name: &str, config: &Config) -> Result<Self, ConfigError> {
        check_name(name)?;
        let group = config.permissions_checked()?;
        let directory = config.directory_chosen();
        let open = |direction| open(name, &directory, direction, group);
        // Side B's file after side A's: a creator makes them in this order.
        let (a_to_b, b_to_a) = (open(Direction::AToB), open(Direction::BToA));
        let of_one_life = match (&a_to_b, &b_to_a) {
            (Ok(a_to_b), Ok(b_to_a)) => a_to_b.fixed.generation == b_to_a.fixed.generation,
            _ => false,
        };
        let rings = [a_to_b.as_ref().ok(), b_to_a.as_ref().ok()];
        let header = rings.into_iter().flatten().next().map(|segment| &segment.fixed);
        let mut info = Self {
            name: name.to_owned(),
            generation: header.map(|fixed| fixed.generation),
            created: header.map(|fixed| UNIX_EPOCH + Duration::from_nanos(fixed.created_at)),
            tag: header.map(|fixed| fixed.tag()),
            a: side(Side::A, rings),
            b: side(Side::B, rings),
            a_to_b: rings[0].map(ring),
            b_to_a: rings[1].map(ring),
            problem: None,
            directory,
        };
        info.problem = match (a_to_b.err(), b_to_a.err()) {
            (None, None) if of_one_life => None,
            (None, None) => Some(missing(name, Missing::Ready)),
            // A half-made channel has one file.
            (None, Some(OpenError::Timeout { .. })) => Some(missing(name, Missing::Ready)),
            (Some(OpenError::Timeout { .. }), None) => Some(missing(name, Missing::SideA)),
            (Some(OpenError::Timeout { .. }), Some(error)) | (Some(error), _) | (None, Some(error)) => {
                Some(error)
            }
        };
        Ok(info)
    }

    /// How long ago side A created it, by this machine's clock.
    pub fn age(&self) -> Option<Duration> {
        self.created.and_then(|created| created.elapsed().ok())
    }

    /// Whether side A is gone, so that the name is free: [`Transport::remove`](crate::Transport::remove) takes the files
    /// away, and so does the next `create`.
    pub fn is_leftover(&self) -> bool {
        matches!(self.a.life, Life::Dead | Life::Closed)
            || matches!(self.problem, Some(OpenError::Timeout { missing: Missing::SideA, .. }))
    }
}

/// One direction's segment, mapped for looking.
pub(super) fn open(
    name: &str,
    directory: &Path,
    direction: Direction,
    permissions: u32,
) -> Result<Segment, OpenError> {
    let path = directory.join(file_name(name, direction));
    Segment::inspect(&path, direction, Some(permissions)).map_err(|error| match error {
        FileError::Missing => missing(name, Missing::Channel),
        error => Failure::at("inspect", &path)(error).into(),
    })
}

fn missing(name: &str, missing: Missing) -> OpenError {
    OpenError::Timeout { name: name.to_owned(), waited: Duration::ZERO, missing }
}

fn ring(segment: &Segment) -> RingInfo {
    RingInfo {
        kind: MessageKind::of(segment.identity()),
        file_bytes: segment.fixed.file_bytes,
        stats: RingStats::of(segment),
    }
}

/// One side's claims about itself, and whether it lives.
fn side(side: Side, rings: [Option<&Segment>; 2]) -> SideInfo {
    let [sends, receives] = match side {
        Side::A => rings,
        Side::B => [rings[1], rings[0]],
    };
    let Some(any) = sends.or(receives) else { return SideInfo::UNKNOWN };
    let control = &any.words().control;
    let pid = control.pid[side.index()].load(Ordering::Relaxed);
    let poll = control.poll[side.index()].load(Ordering::Relaxed);
    let sleeps = |status: &EndpointStatus| status.parked.load(Ordering::Relaxed) != 0;
    SideInfo {
        life: sends.map_or(Life::Unknown, |sends| life(side, sends, receives)),
        pid: (pid != 0).then_some(pid),
        poll: (poll != PollMode::UNSET).then_some(PollMode::decode(poll)),
        awaits_room: sends.is_some_and(|ring| sleeps(&ring.words().producer_status)),
        awaits_message: receives.is_some_and(|ring| sleeps(&ring.words().consumer_status)),
    }
}

/// Whether the side that writes `sends` lives.
pub(super) fn life(side: Side, sends: &Segment, receives: Option<&Segment>) -> Life {
    let words = sends.words();
    match sends.is_locked() {
        Ok(true) => return Life::Alive,
        Ok(false) => {}
        Err(_) => return Life::Unknown,
    }
    // Side A's file is locked before it has its name.
    if side == Side::B && words.control.attached.load(Ordering::Acquire) == 0 {
        return Life::Absent;
    }
    let closed = |status: &EndpointStatus| status.ended() == Ok(End::Closed);
    let ended = closed(&words.producer_status)
        && receives.is_none_or(|receives| closed(&receives.words().consumer_status));
    if ended { Life::Closed } else { Life::Dead }
}
