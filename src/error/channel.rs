//! Why there is no channel: to make, open, accept or remove one failed.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use super::missing::{self, Missing};

/// An invalid name, size or option.
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
        /// The fault in it.
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
    /// No value has this size and alignment.
    #[error(
        "values of {size} bytes aligned to {align} are refused: the alignment is a power of two up to 64, and the size a multiple of it, at least 1"
    )]
    Pod {
        /// The size asked for, in bytes.
        size: usize,
        /// The alignment asked for, in bytes.
        align: usize,
    },
    /// A channel was given a configuration of a kind of message that it cannot carry.
    #[error("the configuration says {asked}, and this channel carries {carried}; leave the kind out")]
    Kind {
        /// The kind in the configuration.
        asked: String,
        /// The kind that the channel carries.
        carried: String,
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
        /// The reason.
        reason: String,
    },
}

/// Why a file that stands in the place of a segment is refused: it is not a whole segment of this user and version.
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
    /// Its owner has no number in this user namespace, so the file may belong to anybody.
    #[error(
        "its owner has no number in this user namespace (it is shown as {overflow}) and may be anybody; map the user into the namespace"
    )]
    OwnerUnknown {
        /// The number that stands for every user without a number of its own.
        overflow: u32,
    },
    /// Its mode lets more users in than this side asked for.
    #[error(
        "its mode is {found:#o}, and this side asked for {expected:#o}; give both sides the same `permissions`"
    )]
    Mode {
        /// The file's mode.
        found: u32,
        /// The mode asked for.
        expected: u32,
    },
    /// It is a descriptor of memory that somebody could still shorten.
    #[error("its length is not sealed; take descriptors from `Transport::pair`")]
    NotSealed,
    /// It does not begin with the mark of this library.
    #[error("it is not a segment of this library")]
    Foreign,
    /// It is shorter (or longer) than its header says.
    #[error("it has {found} bytes, and its header says {expected}")]
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

/// Why side A could not create a channel. Nothing of a living channel was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CreateError {
    /// An invalid name, size or option.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A live side A, or a live server, holds the name.
    #[error("{name:?} is in use by a live side A or server; choose another name or end that process")]
    InUse {
        /// The name asked for.
        name: String,
    },
    /// A file is in the way. This library did not make it, or made it for another user or version.
    #[error("{} is in the way: {source}; move it away", path.display())]
    Segment {
        /// The file in the way.
        path: PathBuf,
        /// Why it is refused.
        source: SegmentError,
    },
    /// The file system cannot hold the segments.
    #[error("a segment needs {needed} bytes and {} has {available} left; use fewer or smaller slots", directory.display())]
    NoSpace {
        /// The directory of the segments.
        directory: PathBuf,
        /// Bytes that one segment needs.
        needed: u64,
        /// Bytes that are free.
        available: u64,
    },
    /// The file system has room for bytes, but not for another file.
    #[error("{} cannot hold another file (it is out of inodes); remove files there, or use another directory", directory.display())]
    NoInodes {
        /// The directory of the segments.
        directory: PathBuf,
    },
    /// A segment is larger than this process may make a file (`RLIMIT_FSIZE`).
    #[error(
        "a segment needs {needed} bytes and this process may make files of {allowed}; raise RLIMIT_FSIZE (`ulimit -f`), or use fewer or smaller slots"
    )]
    FileSizeLimit {
        /// Bytes that one segment needs.
        needed: u64,
        /// Bytes that the limit allows.
        allowed: u64,
    },
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The operation that failed.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// Why side B could not open a channel. The channel is as it was.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// An invalid name or option.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The wait is over and there is no channel to join.
    #[error(fmt = missing::explain)]
    Timeout {
        /// The name asked for.
        name: String,
        /// The time waited.
        waited: Duration,
        /// The part that was missing at the end.
        missing: Missing,
    },
    /// A live side B is there already.
    #[error("channel {name:?} has a live side B already; one channel joins exactly two processes")]
    InUse {
        /// The name asked for.
        name: String,
    },
    /// A file of the channel is not a whole segment of this user and version.
    #[error("cannot open {}: {source}", path.display())]
    Segment {
        /// The file.
        path: PathBuf,
        /// Why it is refused.
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
        /// The type that side A declared.
        found: String,
        /// The type that this side declares.
        expected: String,
    },
    /// The server's filter refuses this client.
    #[error("server {name:?} refuses this client; its filter says who may connect")]
    Refused {
        /// The name asked for.
        name: String,
    },
    /// The server speaks another version of the handshake, or is no server of this library.
    #[error(
        "server {name:?} speaks version {found} of the handshake, this side {supported}; use one version on both sides"
    )]
    Handshake {
        /// The name asked for.
        name: String,
        /// The server's version; 0 if it is no server of this library.
        found: u32,
        /// This side's version.
        supported: u32,
    },
    /// An anonymous channel has no name to open again.
    #[error("an anonymous channel cannot be reopened; take new descriptors from `Transport::pair`")]
    NoName,
    /// Only side B can open a channel again; side A creates a new one.
    #[error("only side B reopens; drop this side A and create the channel again")]
    WrongSide,
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The operation that failed.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// Why a server gave no client.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// No client has connected, and the call does not wait.
    #[error("no client has connected yet; wait with `accept`")]
    Empty,
    /// No client connected until the deadline.
    #[error("no client connected until the deadline")]
    Timeout,
    /// A channel for a client could not be made. That client is refused; the server goes on.
    #[error("a client was refused because its channel could not be made: {0}")]
    Create(#[from] CreateError),
    /// The system refused.
    #[error("cannot {action}: {source}")]
    Io {
        /// The operation that failed.
        action: &'static str,
        /// The system's reason.
        source: io::Error,
    },
}

/// Why a channel's files could not be removed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// An invalid name.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is nothing of that name.
    #[error("there is nothing of the name {name:?} to remove")]
    NotFound {
        /// The name asked for.
        name: String,
    },
    /// A live side A, or a live server, holds the name.
    #[error("{name:?} is in use by a live side A or server; end that process first")]
    InUse {
        /// The name asked for.
        name: String,
    },
    /// A file of that name is not a segment of this user.
    #[error("{} is not removed: {source}", path.display())]
    Segment {
        /// The file.
        path: PathBuf,
        /// Why it is refused.
        source: SegmentError,
    },
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The operation that failed.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}
