//! One error type an operation. Each says what was asked, what is allowed and what to do.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

/// A name, size or option that cannot be.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The channel's name cannot be part of a file name.
    #[error(
        "channel name {name:?} is refused: {reason}; use 1 to 200 bytes without separators or control characters"
    )]
    Name {
        /// The name asked for.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The slot count is zero or no power of two.
    #[error("slot_count {asked} is refused: it must be a power of two, at least 1")]
    SlotCount {
        /// The count asked for.
        asked: usize,
    },
    /// The slot size is too small to carry a message.
    #[error("slot_size {asked} is refused: a slot of this channel carries at least {least} bytes")]
    SlotSize {
        /// The size asked for, in bytes.
        asked: usize,
        /// The smallest size, in bytes: 1, or 16 for Cap'n Proto.
        least: usize,
    },
    /// Size times count overflows, or exceeds the largest segment.
    #[error(
        "{slot_count} slots of {slot_size} bytes exceed the largest segment of {allowed} bytes; use fewer or smaller slots"
    )]
    TooLarge {
        /// The slot size asked for, in bytes.
        slot_size: usize,
        /// The slot count asked for.
        slot_count: usize,
        /// Largest segment, in bytes.
        allowed: u64,
    },
    /// The message tag is too long.
    #[error("message_tag has {bytes} bytes, at most {allowed} are allowed")]
    Tag {
        /// Length of the tag given, in bytes.
        bytes: usize,
        /// Longest tag, in bytes.
        allowed: usize,
    },
    /// The mode has bits outside `0o777`, or takes the owner's own access away.
    #[error("permissions {asked:#o} are refused: use 0o600, or more for a group, within 0o777")]
    Permissions {
        /// The mode asked for.
        asked: u32,
    },
    /// This system has no such memory option.
    #[error("{option} is not available on this system: {reason}; leave the option out")]
    Unsupported {
        /// The option asked for.
        option: &'static str,
        /// What is missing.
        reason: String,
    },
}

/// A file that stands where a segment belongs, and is not a whole segment of this user and version.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// It is a symbolic link, a directory, a device: not a regular file.
    #[error("it is not a regular file (no symbolic link is followed)")]
    NotAFile,
    /// It belongs to another user.
    #[error(
        "it belongs to user {found}, not to user {expected}; for a channel shared in a group, give both sides the same `permissions`"
    )]
    Owner {
        /// The user id that owns the file.
        found: u32,
        /// The user id of this process.
        expected: u32,
    },
    /// Its mode lets more users in than asked for.
    #[error("its mode is {found:#o} where {expected:#o} was asked for")]
    Mode {
        /// The file's mode.
        found: u32,
        /// The mode asked for.
        expected: u32,
    },
    /// It is a descriptor whose file somebody could still shorten.
    #[error("its length is not sealed; take descriptors from `Transport::pair`")]
    NotSealed,
    /// It does not begin like a segment of this library.
    #[error("it is not a segment of this library")]
    Foreign,
    /// It is shorter (or longer) than its header says.
    #[error("it has {found} bytes where its header says {expected}")]
    Truncated {
        /// Length that the header gives, in bytes.
        expected: u64,
        /// Length of the file, in bytes.
        found: u64,
    },
    /// It has another version of the layout.
    #[error(
        "it has layout version {found}, this library speaks {supported}; use the same version on both sides"
    )]
    Version {
        /// The version found.
        found: u32,
        /// The version this library speaks.
        supported: u32,
    },
    /// It was written on a machine of another byte order.
    #[error("it has another byte order (marker {found:#010x})")]
    Endianness {
        /// The marker found.
        found: u32,
    },
    /// Its header contradicts itself.
    #[error("its header contradicts itself")]
    Geometry,
}

/// Why side A could not create a channel. Nothing was touched, unless it says so.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CreateError {
    /// A name, size or option that cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A live side A holds the name.
    #[error("channel {name:?} is in use by a live side A; choose another name or end that process")]
    InUse {
        /// The name asked for.
        name: String,
    },
    /// A file is in the way that this library did not make, or not for this user or version.
    #[error("{} is in the way: {source}; move it away", path.display())]
    Segment {
        /// The file in the way.
        path: PathBuf,
        /// What it is.
        source: SegmentError,
    },
    /// The file system cannot hold the segments.
    #[error("a segment needs {needed} bytes and {} has {available} left; use fewer or smaller slots", directory.display())]
    NoSpace {
        /// Where segments lie.
        directory: PathBuf,
        /// Bytes that one segment needs.
        needed: u64,
        /// Bytes that are free.
        available: u64,
    },
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What side B found when its wait was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missing {
    /// No side A has created the channel.
    Channel,
    /// The channel is being created.
    Ready,
    /// The channel's side A has died or gone; the next `create` reclaims what is left.
    SideA,
    /// Another side B has been there and left; side A must create the channel anew.
    FreshGeneration,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Channel => "no side A has created it",
            Self::Ready => "it is only half made",
            Self::SideA => "its side A has died or gone",
            Self::FreshGeneration => "another side B was there and left, side A must create it anew",
        })
    }
}

/// Why side B could not open a channel. The channel is as it was.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A name or option that cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The wait is over and there is no channel to join.
    #[error("no channel {name:?} to open after {waited:?}: {missing}; start side A, or wait longer")]
    Timeout {
        /// The name asked for.
        name: String,
        /// How long was waited.
        waited: Duration,
        /// What was missing in the end.
        missing: Missing,
    },
    /// A live side B is there already.
    #[error("channel {name:?} has a live side B already; one channel joins exactly two processes")]
    InUse {
        /// The name asked for.
        name: String,
    },
    /// What stands there is not a whole segment of this user and version.
    #[error("cannot open {}: {source}", path.display())]
    Segment {
        /// The file.
        path: PathBuf,
        /// What it is.
        source: SegmentError,
    },
    /// The two sides speak different protocols.
    #[error(
        "channel {name:?} speaks {found:?}, this side expects {expected:?}; use the same message_tag on both sides"
    )]
    Tag {
        /// The name asked for.
        name: String,
        /// The tag that side A wrote.
        found: String,
        /// The tag that this side expects.
        expected: String,
    },
    /// The two sides exchange different types.
    #[error(
        "channel {name:?}: {direction} carries {found}, this side expects {expected}; compile both sides with the same types"
    )]
    Type {
        /// The name asked for.
        name: String,
        /// Which of the two directions, seen from this side.
        direction: &'static str,
        /// What side A declared.
        found: String,
        /// What this side declares.
        expected: String,
    },
    /// An anonymous channel has no name to open again.
    #[error("an anonymous channel cannot be reopened; take new descriptors from `Transport::pair`")]
    NoName,
    /// Only side B can open a channel again; side A creates a new one.
    #[error("reopen is for side B; drop this transport and create the channel again")]
    WrongSide,
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a channel's files could not be removed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// A name that cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is nothing of that name.
    #[error("there is no channel {name:?} to remove")]
    NotFound {
        /// The name asked for.
        name: String,
    },
    /// A live side A holds the name.
    #[error("channel {name:?} is in use by a live side A; end that process first")]
    InUse {
        /// The name asked for.
        name: String,
    },
    /// What stands there is not ours to remove.
    #[error("{} is not removed: {source}", path.display())]
    Segment {
        /// The file.
        path: PathBuf,
        /// What it is.
        source: SegmentError,
    },
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What the shared memory said that cannot be. The endpoint that found it stays poisoned: every later call
/// gives the same error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("shared memory says {word} = {found}, which cannot be: the limit is {allowed}")]
#[non_exhaustive]
pub struct Lie {
    /// Which word.
    pub word: &'static str,
    /// Its value.
    pub found: u64,
    /// The limit that it breaks.
    pub allowed: u64,
}

/// Why a message was not sent. Nothing was published.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SendError {
    /// Every slot is taken, and the call was not one to wait.
    #[error("the ring is full; wait with `reserve` or `send`, or let the peer catch up")]
    Full,
    /// Every slot stayed taken until the deadline.
    #[error("the ring stayed full until the deadline")]
    Timeout,
    /// The peer closed its receiving end in order.
    #[error("the peer has closed the channel")]
    Closed,
    /// The peer died.
    #[error("the peer has died; create or reopen the channel")]
    PeerDead,
    /// The peer died and a new side A took the name.
    #[error("a new side A has taken the channel's name; reopen it")]
    Superseded,
    /// The message cannot fit.
    #[error("a message of {needed} bytes does not fit {capacity} bytes; use a span or larger slots")]
    TooLarge {
        /// Bytes asked for.
        needed: usize,
        /// Bytes allowed.
        capacity: usize,
    },
    /// The peer put something impossible into shared memory; this half stays poisoned.
    #[error("the channel is corrupt and no longer usable: {0}")]
    Corrupt(Lie),
    /// Building the Cap'n Proto message failed.
    #[cfg(feature = "capnp")]
    #[error("building the message failed: {0}")]
    Capnp(#[from] ::capnp::Error),
}

/// Why no message was received.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecvError {
    /// Nothing is there yet, and the call was not one to wait.
    #[error("no message yet; wait with `recv`")]
    Empty,
    /// Nothing came until the deadline.
    #[error("no message came until the deadline")]
    Timeout,
    /// All that was sent is received, and the peer closed its sending end in order.
    #[error("the peer has closed the channel")]
    Closed,
    /// All that was sent is received, and the peer has died.
    #[error("the peer has died; create or reopen the channel")]
    PeerDead,
    /// All that was sent is received; the peer died and a new side A took the name.
    #[error("a new side A has taken the channel's name; reopen it")]
    Superseded,
    /// The peer put something impossible into shared memory; this half stays poisoned.
    #[error("the channel is corrupt and no longer usable: {0}")]
    Corrupt(Lie),
}
