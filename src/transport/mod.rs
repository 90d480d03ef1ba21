//! One side of a channel: both rings, from creation to the end. [`Transport`] carries bytes.

mod duplex;
mod half;
mod kind;
mod lifecycle;
mod listener;
mod methods;
mod payload;
mod stats;

use std::time::Duration;

pub(crate) use duplex::{Carries, Duplex, ReceiveHalf, SendHalf};
pub(crate) use half::half_methods;
pub use kind::{Declared, Kind, NewSide, Peer};
pub(crate) use lifecycle::{bytes, remove};
#[cfg(any(not(target_os = "linux"), test))]
pub(crate) use lifecycle::{create, open};
#[cfg(target_os = "linux")]
pub(crate) use lifecycle::{create_anonymous, open_anonymous};
pub use listener::Listener;
pub(crate) use methods::{delegate, duplex_methods};
#[cfg(feature = "capnp")]
pub(crate) use payload::LEAST_FRAME;
#[cfg(target_os = "linux")]
pub(crate) use payload::fits;
pub(crate) use payload::{Payload, Payloads};
pub use stats::{Stats, StatsHandle};

use crate::config::{Config, MessageKind};
use crate::error::{CreateError, OpenError, RecvError, SendError};
use crate::poll::PollControl;
use crate::protocol::Side;
use crate::ring::{Batch, Consumer, Interrupter, Producer, ReadSlot, Window, WriteSlot};

/// One side of a duplex channel: a [`Producer`] and a [`Consumer`] with a common life.
///
/// Side A [`create`](Self::create)s the channel, side B [`open`](Self::open)s it. Dropping a transport closes both
/// directions in order; side A also removes the channel's name. Every sending method is the [`Producer`]'s, every
/// receiving one the [`Consumer`]'s; [`split`](Self::split) gives the two to two threads. A raw transport may join a
/// typed channel as side B: it exchanges the same bytes, and the typed side checks them.
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
///
/// An anonymous channel, for a child or over a Unix socket:
///
/// ```
/// # #[cfg(target_os = "linux")] {
/// use capnproto_shm_transport::{Config, Transport};
///
/// let (mut a, fds) = Transport::pair(&Config::new())?;
/// let mut b = Transport::from_fds(fds, &Config::new())?; // in the other process
/// a.send(b"hello")?;
/// assert_eq!(&*b.recv()?, b"hello");
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Transport(Duplex<Producer, Consumer>);

impl SendHalf for Producer {
    fn new(producer: Producer) -> Self {
        producer
    }

    fn producer(&self) -> &Producer {
        self
    }

    fn producer_mut(&mut self) -> &mut Producer {
        self
    }
}

impl ReceiveHalf for Consumer {
    fn new(consumer: Consumer) -> Self {
        consumer
    }

    fn consumer(&self) -> &Consumer {
        self
    }

    fn consumer_mut(&mut self) -> &mut Consumer {
        self
    }
}

impl Carries for Producer {
    fn payload() -> Payload {
        Payload::RAW
    }
}

impl Carries for Consumer {
    fn payload() -> Payload {
        Payload::RAW
    }
}

duplex_methods!([] Transport [] where []; Producer, Consumer; "Transport");

impl Transport {
    /// Receives in a thread of its own; see [`Consumer::listen`].
    pub fn listen(self, callback: impl FnMut(&[u8]) + Send + 'static) -> (Producer, Listener) {
        let (producer, consumer) = self.split();
        (producer, consumer.listen(callback))
    }

    /// The kind of the messages that this side sends, as side A wrote it into the channel.
    ///
    /// ```
    /// # use capnproto_shm_transport::{Channel, Config, MessageKind, Transport};
    /// # use std::time::Duration;
    /// # let name = format!("doc-sends-{}", std::process::id());
    /// let a = Channel::<u64, u32>::create(&name, &Config::new().message_tag("ticks/1"))?;
    /// let b = Transport::open(&name, Duration::from_secs(1))?; // takes any type, for the bytes that it is
    ///
    /// assert_eq!(b.receives(), MessageKind::Pod { size: 8, align: 8 });
    /// assert_eq!(b.sends(), MessageKind::Pod { size: 4, align: 4 });
    /// assert_eq!(b.message_tag(), "ticks/1");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn sends(&self) -> MessageKind {
        MessageKind::of(self.0.sender.guard().pair.tx.identity())
    }

    /// The kind of the messages that this side receives, as side A wrote it into the channel.
    pub fn receives(&self) -> MessageKind {
        MessageKind::of(self.0.sender.guard().pair.rx.identity())
    }

    /// Largest message this side can send, as a span: `slot_size * slot_count` bytes.
    pub fn max_message_size(&self) -> usize {
        self.0.sender.max_message_size()
    }

    /// Begins to gather messages that become visible together; see [`Producer::batch`].
    pub fn batch(&mut self) -> Batch<'_> {
        self.0.sender.batch()
    }

    /// A window that holds several received messages; see [`Consumer::window`].
    pub fn window(&mut self) -> Window<'_> {
        self.0.receiver.window()
    }
}

delegate!([] Transport [], sender: Producer {
    try_reserve() -> Result<WriteSlot<'_>, SendError>;
    reserve() -> Result<WriteSlot<'_>, SendError>;
    reserve_timeout(wait: Duration) -> Result<WriteSlot<'_>, SendError>;
    try_reserve_span(bytes: usize) -> Result<WriteSlot<'_>, SendError>;
    reserve_span(bytes: usize) -> Result<WriteSlot<'_>, SendError>;
    reserve_span_timeout(bytes: usize, wait: Duration) -> Result<WriteSlot<'_>, SendError>;
    try_send(message: &[u8]) -> Result<(), SendError>;
    send(message: &[u8]) -> Result<(), SendError>;
    send_timeout(message: &[u8], wait: Duration) -> Result<(), SendError>;
} async {
    reserve_async() -> Result<WriteSlot<'_>, SendError>;
    reserve_span_async(bytes: usize) -> Result<WriteSlot<'_>, SendError>;
    send_async(message: &[u8]) -> Result<(), SendError>;
});

delegate!([] Transport [], receiver: Consumer {
    try_recv() -> Result<ReadSlot<'_>, RecvError>;
    recv() -> Result<ReadSlot<'_>, RecvError>;
    recv_timeout(wait: Duration) -> Result<ReadSlot<'_>, RecvError>;
    try_recv_latest() -> Result<ReadSlot<'_>, RecvError>;
    recv_latest() -> Result<ReadSlot<'_>, RecvError>;
    recv_latest_timeout(wait: Duration) -> Result<ReadSlot<'_>, RecvError>;
    try_recv_copied(out: &mut Vec<u8>) -> Result<usize, RecvError>;
    recv_copied(out: &mut Vec<u8>) -> Result<usize, RecvError>;
    recv_copied_timeout(out: &mut Vec<u8>, wait: Duration) -> Result<usize, RecvError>;
    drain(max: usize, each: impl FnMut(&[u8])) -> Result<usize, RecvError>;
    drain_while(max: usize, each: impl FnMut(&[u8]) -> std::ops::ControlFlow<()>) -> Result<usize, RecvError>;
} async {
    recv_async() -> Result<ReadSlot<'_>, RecvError>;
    recv_latest_async() -> Result<ReadSlot<'_>, RecvError>;
    recv_copied_async(out: &mut Vec<u8>) -> Result<usize, RecvError>;
});
