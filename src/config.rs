//! The choices of each side.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::ConfigError;
use crate::protocol::{Identity, PollMode};
use crate::system::{Host, MemoryOptions, System};

/// Where named segments lie, if the configuration does not say: the environment variable.
const DIRECTORY_VARIABLE: &str = "CAPNPROTO_SHM_DIR";

/// How a channel is made ([`Transport::create`](crate::Transport::create)) and how one side of it behaves
/// ([`Transport::open_with`](crate::Transport::open_with)).
///
/// The geometry (slot sizes and counts) is side A's alone; side B reads it from the header.
///
/// ```
/// use capnproto_shm_transport::{Config, PollMode};
///
/// let config = Config::new().slot_size(256).slot_count(64).poll(PollMode::Spin).message_tag("ticks/1");
/// // Large frames one way, small commands the other:
/// let camera = Config::new().a_to_b(6 << 20, 4).b_to_a(64, 16);
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) a_to_b: Slots,
    pub(crate) b_to_a: Slots,
    pub(crate) sends: MessageKind,
    pub(crate) receives: MessageKind,
    pub(crate) poll: Option<PollMode>,
    pub(crate) tag: Option<String>,
    pub(crate) permissions: u32,
    pub(crate) memory: MemoryOptions,
    directory: Option<PathBuf>,
}

/// The kind of the messages of one direction, for a program that knows it at run time only: a binding for another
/// language, a bridge. A Rust program says it by the types of [`Channel`](crate::Channel) and `CapnpChannel`.
///
/// ```
/// use capnproto_shm_transport::{Channel, Config, MessageKind, Transport};
/// use std::time::Duration;
///
/// # let name = format!("doc-kind-{}", std::process::id());
/// # let name = name.as_str();
/// let values = MessageKind::Pod { size: 8, align: 8 };
/// let mut a = Transport::create(name, &Config::new().sends(values).receives(values))?;
/// let mut b = Channel::<u64>::open(name, Duration::from_secs(1))?; // the same identity, said by a type
///
/// a.send(&7_u64.to_ne_bytes())?;
/// assert_eq!(b.recv_copied()?, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MessageKind {
    /// Bytes, of any length. A side B that says so takes any kind for the bytes that it is.
    #[default]
    Bytes,
    /// Values of one type, as [`Channel`](crate::Channel) exchanges them. Each message is one whole value, and a slot
    /// is exactly one: the configuration's slot size does not matter. A receiver takes any other length as corrupt.
    Pod {
        /// Bytes of a value: a multiple of `align`, at least 1.
        size: usize,
        /// Its alignment: a power of two, at most 64.
        align: usize,
    },
    /// Cap'n Proto messages, as `CapnpChannel` exchanges them: each is one frame of the standard stream framing.
    Capnp {
        /// The type id of the root struct, as the schema has it.
        type_id: u64,
    },
    /// A kind that this version does not know: found in a channel of a later one, and never to be asked for.
    Other(u32),
}

impl MessageKind {
    pub(crate) fn of(identity: Identity) -> Self {
        match identity.kind {
            0 => Self::Bytes,
            Identity::POD => Self::Pod { size: identity.size as usize, align: identity.align as usize },
            Identity::CAPNP => Self::Capnp { type_id: identity.type_id },
            kind => Self::Other(kind),
        }
    }
}

impl fmt::Display for MessageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes => f.write_str("bytes"),
            Self::Pod { size, align } => write!(f, "Pod of {size} bytes, aligned to {align}"),
            Self::Capnp { type_id } => write!(f, "Cap'n Proto @{type_id:#018x}"),
            Self::Other(kind) => write!(f, "unknown kind {kind}"),
        }
    }
}

/// The slots of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slots {
    /// Payload bytes of each.
    pub(crate) size: usize,
    pub(crate) count: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

impl Config {
    /// 1024 slots of 1024 bytes in each direction, [`PollMode::Park`], mode `0o600`.
    pub fn new() -> Self {
        let slots = Slots { size: 1024, count: 1024 };
        Self {
            a_to_b: slots,
            b_to_a: slots,
            sends: MessageKind::Bytes,
            receives: MessageKind::Bytes,
            poll: None,
            tag: None,
            permissions: 0o600,
            memory: MemoryOptions::default(),
            directory: None,
        }
    }

    /// Payload bytes of a slot in both directions, at least 1. Slots of up to 64 bytes lie at the next power of two
    /// (at least 8), larger ones at a multiple of 64, so a slot's alignment is its size rounded up, at most 64 bytes.
    pub fn slot_size(mut self, bytes: usize) -> Self {
        (self.a_to_b.size, self.b_to_a.size) = (bytes, bytes);
        self
    }

    /// Slots in both directions, a power of two. All of them are usable.
    pub fn slot_count(mut self, slots: usize) -> Self {
        (self.a_to_b.count, self.b_to_a.count) = (slots, slots);
        self
    }

    /// The slots in which side A sends to side B: their payload bytes and their number.
    pub fn a_to_b(mut self, slot_size: usize, slot_count: usize) -> Self {
        self.a_to_b = Slots { size: slot_size, count: slot_count };
        self
    }

    /// The slots in which side B sends to side A: their payload bytes and their number.
    pub fn b_to_a(mut self, slot_size: usize, slot_count: usize) -> Self {
        self.b_to_a = Slots { size: slot_size, count: slot_count };
        self
    }

    /// The kind of the messages that this side sends, for a [`Transport`](crate::Transport). Side A writes it into the
    /// channel; a side B is refused with [`OpenError::Type`](crate::OpenError::Type) unless side A receives the same.
    /// A typed channel says it by its type, and refuses a configuration that says otherwise.
    pub fn sends(mut self, kind: MessageKind) -> Self {
        self.sends = kind;
        self
    }

    /// The kind of the messages that this side receives; see [`sends`](Self::sends).
    pub fn receives(mut self, kind: MessageKind) -> Self {
        self.receives = kind;
        self
    }

    /// How this side waits at first; see [`PollControl`](crate::PollControl) for changing it later.
    pub fn poll(mut self, mode: PollMode) -> Self {
        self.poll = Some(mode);
        self
    }

    /// Names the protocol spoken, in up to 64 bytes. Side A writes it into the channel; a side B that gives one is
    /// refused with [`OpenError::Tag`](crate::OpenError::Tag) unless the two are equal.
    pub fn message_tag(mut self, tag: &str) -> Self {
        self.tag = Some(tag.to_owned());
        self
    }

    /// Unix mode of the segments, `0o600` by default. With bits for the group or others, side B must give the same to
    /// [`Transport::open_with`](crate::Transport::open_with), or it refuses a segment of another owner. No effect on
    /// Windows.
    pub fn permissions(mut self, mode: u32) -> Self {
        self.permissions = mode;
        self
    }

    /// The directory in which named segments lie, the same for both sides: for containers that share a volume and not
    /// `/dev/shm`. It should be in memory (a tmpfs), and every directory on the way to it writable only for users
    /// that you trust.
    ///
    /// Otherwise the environment variable `CAPNPROTO_SHM_DIR` says, or else it is the system's: `/dev/shm` on Linux,
    /// the user's temporary directory on macOS and Windows.
    pub fn directory(mut self, path: impl AsRef<Path>) -> Self {
        self.directory = Some(path.as_ref().to_owned());
        self
    }

    /// Maps every page at once, so that the first lap takes no page fault.
    pub fn prefault(mut self, yes: bool) -> Self {
        self.memory.prefault = yes;
        self
    }

    /// Keeps this side's mapping in memory (`mlock`), so that it is never paged out; for real-time users. Refused
    /// with an error where the limit is too low (`ulimit -l`), and on Windows.
    pub fn lock_memory(mut self, yes: bool) -> Self {
        self.memory.lock = yes;
        self
    }

    /// Asks for transparent huge pages (Linux, where `/sys/kernel/mm/transparent_hugepage/shmem_enabled` permits).
    /// Refused with an error where the system has none.
    pub fn huge_pages(mut self, yes: bool) -> Self {
        self.memory.huge_pages = yes;
        self
    }

    /// Places the memory on one NUMA node (Linux). Refused with an error where the system cannot.
    pub fn numa_node(mut self, node: u32) -> Self {
        self.memory.numa_node = Some(node);
        self
    }

    pub(crate) fn permissions_checked(&self) -> Result<u32, ConfigError> {
        if self.permissions & !0o777 != 0 || self.permissions & 0o600 != 0o600 {
            return Err(ConfigError::Permissions { asked: self.permissions });
        }
        Ok(self.permissions)
    }

    /// Where named segments lie.
    pub(crate) fn directory_chosen(&self) -> PathBuf {
        let by_environment = || std::env::var_os(DIRECTORY_VARIABLE).filter(|value| !value.is_empty());
        self.directory.clone().or_else(|| by_environment().map(PathBuf::from)).unwrap_or_else(Host::directory)
    }
}
