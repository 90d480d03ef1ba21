//! One side of a channel: both rings, from creation to the end.

#[cfg(target_os = "linux")]
mod anonymous;
mod lifecycle;
mod listener;
mod payload;
mod stats;

use std::sync::Arc;
use std::time::Duration;

pub use listener::Listener;
pub(crate) use payload::{Payload, Payloads};
pub use stats::{RingStats, Stats};

use crate::config::Config;
use crate::error::{CreateError, OpenError, RecvError, RemoveError, SendError};
use crate::poll::PollControl;
use crate::ring::{Batch, Consumer, Producer, ReadSlot, WriteSlot};
use crate::segment::{Lease, Side};

/// One side of a duplex channel: a [`Producer`] and a [`Consumer`] with a common life.
///
/// Side A [`create`](Self::create)s the channel, side B [`open`](Self::open)s it. Dropping a transport closes
/// both directions in order; side A also removes the channel's name. Every sending method is the
/// [`Producer`]'s, every receiving one the [`Consumer`]'s; [`split`](Self::split) gives the two to two threads.
///
/// ```
/// use capnproto_shm_transport::{Config, Transport};
/// use std::time::Duration;
///
/// # let name = format!("doc-transport-{}", std::process::id());
/// # let name = name.as_str();
/// let mut a = Transport::create(name, &Config::new().slot_size(64))?; // in one process
/// let mut b = Transport::open(name, Duration::from_secs(1))?;         // in the other
///
/// let mut slot = a.reserve()?;            // exclusive use of a slot
/// slot[..5].copy_from_slice(b"hello");    // build the message where the peer reads it
/// slot.commit(5);                         // visible now
///
/// assert_eq!(&*b.recv()?, b"hello");      // borrowed from the slot, released on drop
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Transport {
    // The order matters: a peer that waits for us first sees the direction end that it reads from.
    producer: Producer,
    consumer: Consumer,
    /// None if the channel is anonymous.
    name: Option<String>,
    config: Config,
    payloads: Option<Payloads>,
}

impl Transport {
    /// Side A: makes the channel `name` afresh. What a dead side A left under the name is reclaimed.
    ///
    /// # Errors
    ///
    /// [`CreateError::Config`] for a name or size that cannot be, [`CreateError::InUse`] if a live side A
    /// holds the name, [`CreateError::Segment`] if a file is in the way that is not a leftover of ours,
    /// [`CreateError::NoSpace`] if the segments do not fit, [`CreateError::Io`] if the system refuses.
    pub fn create(name: &str, config: &Config) -> Result<Self, CreateError> {
        Self::create_typed(name, config, Payloads::raw(config))
    }

    /// Side B: joins the channel `name`, waiting up to `wait` for a live side A to have made it.
    ///
    /// # Errors
    ///
    /// [`OpenError::Timeout`] if there was none to join, with what was missing; [`OpenError::InUse`] if a live
    /// side B is there; [`OpenError::Segment`] if what stands there is not a whole segment of this user and
    /// version; [`OpenError::Config`] for a name that cannot be, [`OpenError::Io`] if the system refuses.
    pub fn open(name: &str, wait: Duration) -> Result<Self, OpenError> {
        Self::open_with(name, wait, &Config::new())
    }

    /// Side B with its own poll mode, permissions and memory options, and the tag it expects. The geometry is
    /// side A's.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and [`OpenError::Tag`] if side A gave another `message_tag`.
    pub fn open_with(name: &str, wait: Duration, config: &Config) -> Result<Self, OpenError> {
        Self::open_typed(name, wait, config, None)
    }

    /// Removes what a dead side A left under `name`.
    ///
    /// # Errors
    ///
    /// [`RemoveError::NotFound`] if there is nothing, [`RemoveError::InUse`] if a live side A holds the name,
    /// [`RemoveError::Segment`] if what stands there is not ours, [`RemoveError::Config`] for a name that
    /// cannot be, [`RemoveError::Io`] if the system refuses.
    pub fn remove(name: &str) -> Result<(), RemoveError> {
        lifecycle::remove(name)
    }

    /// Side B, after [`RecvError::PeerDead`], [`RecvError::Superseded`] or [`RecvError::Closed`]: joins the next
    /// generation of the channel, waiting up to `wait` for it. On failure the transport is as it was.
    ///
    /// # Errors
    ///
    /// As [`open_with`](Self::open_with), [`OpenError::WrongSide`] on side A, which creates anew, and
    /// [`OpenError::NoName`] for an anonymous channel.
    pub fn reopen(&mut self, wait: Duration) -> Result<(), OpenError> {
        if self.side() == Side::A {
            return Err(OpenError::WrongSide);
        }
        let name = self.name.as_deref().ok_or(OpenError::NoName)?;
        let left = self.producer.lease().link.rx.fixed.generation;
        let lease = lifecycle::open(name, wait, &self.config, self.payloads, Some(left))?;
        *self = Self::from_lease(lease, self.name.as_deref(), &self.config, self.payloads);
        Ok(())
    }

    pub(crate) fn create_typed(name: &str, config: &Config, payloads: Payloads) -> Result<Self, CreateError> {
        let lease = lifecycle::create(name, config, payloads)?;
        Ok(Self::from_lease(lease, Some(name), config, Some(payloads)))
    }

    pub(crate) fn open_typed(
        name: &str,
        wait: Duration,
        config: &Config,
        expected: Option<Payloads>,
    ) -> Result<Self, OpenError> {
        let lease = lifecycle::open(name, wait, config, expected, None)?;
        Ok(Self::from_lease(lease, Some(name), config, expected))
    }

    fn from_lease(
        lease: Arc<Lease>,
        name: Option<&str>,
        config: &Config,
        payloads: Option<Payloads>,
    ) -> Self {
        Self {
            producer: Producer::new(Arc::clone(&lease)),
            consumer: Consumer::new(lease),
            name: name.map(str::to_owned),
            config: config.clone(),
            payloads,
        }
    }

    /// Gives the two halves to whoever needs them: each is `Send`. The channel's name goes with the last.
    pub fn split(self) -> (Producer, Consumer) {
        (self.producer, self.consumer)
    }

    /// Both halves at once, for a caller that fills a slot while it reads one.
    pub fn halves(&mut self) -> (&mut Producer, &mut Consumer) {
        (&mut self.producer, &mut self.consumer)
    }

    /// Receives in a thread of its own; see [`Consumer::listen`].
    pub fn listen(self, callback: impl FnMut(&[u8]) + Send + 'static) -> (Producer, Listener) {
        let (producer, consumer) = self.split();
        (producer, consumer.listen(callback))
    }

    /// Which side of the channel this is.
    pub fn side(&self) -> Side {
        self.producer.side()
    }

    /// Whether the other side has ever been there. It may have gone since.
    pub fn peer_attached(&self) -> bool {
        self.producer.lease().link.peer_attached()
    }

    /// Payload bytes of a slot in the direction this side sends.
    pub fn slot_size(&self) -> usize {
        self.producer.slot_size()
    }

    /// Slots in each direction.
    pub fn slot_count(&self) -> usize {
        self.producer.slot_count()
    }

    /// Largest message this side can send, as a span: `slot_size * slot_count` bytes.
    pub fn max_message_size(&self) -> usize {
        self.producer.max_message_size()
    }

    /// Figures of both rings, now.
    pub fn stats(&self) -> Stats {
        let link = &self.producer.lease().link;
        Stats { tx: RingStats::of(&link.tx), rx: RingStats::of(&link.rx) }
    }

    /// A handle on both sides' poll modes.
    pub fn poll_control(&self) -> PollControl {
        self.producer.poll_control()
    }
}

/// Repeats a half's method on the whole.
macro_rules! delegate {
    ($half:ident: $type:ident {
        $( $name:ident ( $($arg:ident : $kind:ty),* ) -> $result:ty; )*
    }) => {
        impl Transport {
            $(
                #[doc = concat!("[`", stringify!($type), "::", stringify!($name), "`] of this side.")]
                ///
                /// # Errors
                ///
                #[doc = concat!("As [`", stringify!($type), "::", stringify!($name), "`].")]
                #[inline(always)]
                pub fn $name(&mut self, $($arg: $kind),*) -> $result {
                    self.$half.$name($($arg),*)
                }
            )*
        }
    };
}

delegate!(producer: Producer {
    try_reserve() -> Result<WriteSlot<'_>, SendError>;
    reserve() -> Result<WriteSlot<'_>, SendError>;
    reserve_timeout(wait: Duration) -> Result<WriteSlot<'_>, SendError>;
    try_reserve_span(bytes: usize) -> Result<WriteSlot<'_>, SendError>;
    reserve_span(bytes: usize) -> Result<WriteSlot<'_>, SendError>;
    reserve_span_timeout(bytes: usize, wait: Duration) -> Result<WriteSlot<'_>, SendError>;
    try_send(message: &[u8]) -> Result<(), SendError>;
    send(message: &[u8]) -> Result<(), SendError>;
    send_timeout(message: &[u8], wait: Duration) -> Result<(), SendError>;
});

delegate!(consumer: Consumer {
    try_recv() -> Result<ReadSlot<'_>, RecvError>;
    recv() -> Result<ReadSlot<'_>, RecvError>;
    recv_timeout(wait: Duration) -> Result<ReadSlot<'_>, RecvError>;
    try_recv_copied(out: &mut Vec<u8>) -> Result<usize, RecvError>;
    recv_copied(out: &mut Vec<u8>) -> Result<usize, RecvError>;
    recv_copied_timeout(out: &mut Vec<u8>, wait: Duration) -> Result<usize, RecvError>;
    drain(max: usize, each: impl FnMut(&[u8])) -> Result<usize, RecvError>;
});

impl Transport {
    /// Begins to gather messages that become visible together; see [`Producer::batch`].
    pub fn batch(&mut self) -> Batch<'_> {
        self.producer.batch()
    }
}
