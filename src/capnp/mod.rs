//! Cap'n Proto messages, built and read in the slot that carries them.

mod arena;
mod builder;
mod frame;
mod reader;
mod receiver;
mod sender;

use std::fmt;
use std::time::Duration;

use ::capnp::message::ReaderOptions;
use ::capnp::traits::{HasTypeId, Owned};

pub use builder::CapnpBuilder;
pub use reader::{CapnpMessage, CapnpReader};
pub use receiver::CapnpReceiver;
pub use sender::CapnpSender;

use crate::config::Config;
use crate::error::{ConfigError, CreateError, OpenError, RecvError, SendError};
use crate::poll::PollControl;
use crate::segment::{Identity, Side};
use crate::transport::{Listener, Payload, Payloads, RingStats, Stats, Transport};

/// Bytes of a Cap'n Proto word.
const WORD: usize = 8;

/// One side of a duplex channel of Cap'n Proto messages: `M` goes out, `R` comes in. Both are the `Owned` types
/// of structs, as capnpc generates them.
///
/// [`reserve`](Self::reserve) gives a builder over the slot, [`recv`](Self::recv) a reader over the slot:
/// while a message fits its reservation, no byte of it is copied and nothing is allocated. A slot carries a
/// frame of the standard stream framing, which any implementation in any language reads.
///
/// Both sides must agree: the Cap'n Proto type id of each side's `M` is that of the other side's `R`, or the
/// open fails with [`OpenError::Type`]. The id survives evolution: an older and a newer version of a struct
/// understand each other.
///
/// ```
/// use capnp::schema_capnp::capnp_version; // any struct that capnpc generates
/// use capnproto_shm_transport::{CapnpChannel, Config};
/// use std::time::Duration;
///
/// # let name = format!("doc-capnp-{}", std::process::id());
/// # let name = name.as_str();
/// type Version = capnp_version::Owned;
/// let mut a = CapnpChannel::<Version>::create(name, &Config::new())?;             // in one process
/// let mut b = CapnpChannel::<Version>::open(name, Duration::from_secs(1))?;       // in the other
///
/// let mut message = a.reserve()?;
/// let mut version = message.init_root();       // in the slot
/// version.set_major(1);
/// version.set_minor(2);
/// message.commit()?;                           // visible now
///
/// a.send(|mut version| {                       // the same, in one call
///     version.set_major(2);
///     Ok(())
/// })?;
///
/// let message = b.recv()?;                     // borrowed from the slot, released on drop
/// assert_eq!(message.get()?.get_minor(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Sizes
///
/// Choose [`Config::slot_size`] such that most messages fit: a frame is 8 bytes and the message's own words.
/// For a message that is known to be larger, [`reserve_with_capacity`](Self::reserve_with_capacity) takes
/// several slots from the start. One that outgrows its reservation is continued on the heap and copied once on
/// commit; past [`max_message_size`](Self::max_message_size) it is [`SendError::TooLarge`].
pub struct CapnpChannel<M, R = M> {
    // The order matters: a peer that waits for us first sees the direction end that it reads from.
    sender: CapnpSender<M>,
    receiver: CapnpReceiver<R>,
    name: String,
    config: Config,
}

/// What one direction carries. The slot size is side A's to say.
fn payload<M: Owned>(slot_size: usize) -> Payload
where
    M::Reader<'static>: HasTypeId,
{
    let type_id = <M::Reader<'static> as HasTypeId>::TYPE_ID;
    Payload { slot_size, identity: Identity { kind: 2, align: WORD as u32, size: 0, type_id } }
}

fn payloads<M: Owned, R: Owned>(config: &Config) -> Payloads
where
    M::Reader<'static>: HasTypeId,
    R::Reader<'static>: HasTypeId,
{
    Payloads { out: payload::<M>(config.slot_size), back: payload::<R>(config.slot_size) }
}

impl<M: Owned, R: Owned> CapnpChannel<M, R>
where
    M::Reader<'static>: HasTypeId,
    R::Reader<'static>: HasTypeId,
{
    /// Side A: makes the channel `name` afresh.
    ///
    /// # Errors
    ///
    /// As [`Transport::create`], also for slots of less than 16 bytes, the smallest frame.
    pub fn create(name: &str, config: &Config) -> Result<Self, CreateError> {
        if config.slot_size < builder::LEAST_BYTES {
            return Err(ConfigError::SlotSize { asked: config.slot_size, least: builder::LEAST_BYTES }.into());
        }
        let transport = Transport::create_typed(name, config, payloads::<M, R>(config))?;
        Ok(Self::new(transport, name, config))
    }

    /// Side B: joins the channel `name`, waiting up to `wait` for a live side A to have made it.
    ///
    /// # Errors
    ///
    /// As [`Transport::open`], and [`OpenError::Type`] unless side A receives `M` and sends `R`.
    pub fn open(name: &str, wait: Duration) -> Result<Self, OpenError> {
        Self::open_with(name, wait, &Config::new())
    }

    /// Side B with its own poll mode, permissions and memory options, and the tag it expects.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and [`OpenError::Tag`] if side A gave another `message_tag`.
    pub fn open_with(name: &str, wait: Duration, config: &Config) -> Result<Self, OpenError> {
        let transport = Transport::open_typed(name, wait, config, Some(payloads::<M, R>(config)))?;
        Ok(Self::new(transport, name, config))
    }

    /// Side B, after the peer died, closed or was superseded: joins the next generation of the channel,
    /// waiting up to `wait` for it. On failure the channel is as it was.
    ///
    /// # Errors
    ///
    /// As [`open_with`](Self::open_with), and [`OpenError::WrongSide`] on side A, which creates anew.
    pub fn reopen(&mut self, wait: Duration) -> Result<(), OpenError> {
        if self.side() == Side::A {
            return Err(OpenError::WrongSide);
        }
        let mut next = Self::open_with(&self.name, wait, &self.config)?;
        next.receiver.limits = self.receiver.limits;
        *self = next;
        Ok(())
    }
}

impl<M: Owned, R: Owned> CapnpChannel<M, R> {
    fn new(transport: Transport, name: &str, config: &Config) -> Self {
        let (producer, consumer) = transport.split();
        Self {
            sender: CapnpSender::new(producer),
            receiver: CapnpReceiver::new(consumer),
            name: name.to_owned(),
            config: config.clone(),
        }
    }

    /// Gives the two halves to whoever needs them: each is `Send`. The channel's name goes with the last.
    pub fn split(self) -> (CapnpSender<M>, CapnpReceiver<R>) {
        (self.sender, self.receiver)
    }

    /// Both halves at once, for a caller that answers a message while it reads it.
    pub fn halves(&mut self) -> (&mut CapnpSender<M>, &mut CapnpReceiver<R>) {
        (&mut self.sender, &mut self.receiver)
    }

    /// Receives in a thread of its own; see [`CapnpReceiver::listen`].
    pub fn listen(
        self,
        callback: impl for<'m> FnMut(CapnpMessage<'m, R>) + Send + 'static,
    ) -> (CapnpSender<M>, Listener) {
        let (sender, receiver) = self.split();
        (sender, receiver.listen(callback))
    }

    /// How far readers go into each message; see [`CapnpReceiver::reader_options`].
    pub fn reader_options(&mut self, options: ReaderOptions) {
        self.receiver.reader_options(options);
    }

    /// Which side of the channel this is.
    pub fn side(&self) -> Side {
        self.sender.producer.side()
    }

    /// Payload bytes of a slot in the direction this side sends.
    pub fn slot_size(&self) -> usize {
        self.sender.slot_size()
    }

    /// Slots in each direction.
    pub fn slot_count(&self) -> usize {
        self.sender.slot_count()
    }

    /// Largest frame this side can send, as a span: `slot_size * slot_count` bytes.
    pub fn max_message_size(&self) -> usize {
        self.sender.max_message_size()
    }

    /// Figures of both rings, now.
    pub fn stats(&self) -> Stats {
        let link = &self.sender.producer.lease().link;
        Stats { tx: RingStats::of(&link.tx), rx: RingStats::of(&link.rx) }
    }

    /// A handle on both sides' poll modes.
    pub fn poll_control(&self) -> PollControl {
        self.sender.poll_control()
    }
}

/// Repeats a half's method on the whole.
macro_rules! delegate {
    ($half:ident: $type:ident {
        $( $name:ident ( $($arg:ident : $kind:ty),* ) -> $result:ty; )*
    }) => {
        impl<M: Owned, R: Owned> CapnpChannel<M, R> {
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

delegate!(sender: CapnpSender {
    try_reserve() -> Result<CapnpBuilder<'_, M>, SendError>;
    reserve() -> Result<CapnpBuilder<'_, M>, SendError>;
    reserve_timeout(wait: Duration) -> Result<CapnpBuilder<'_, M>, SendError>;
    try_reserve_with_capacity(bytes: usize) -> Result<CapnpBuilder<'_, M>, SendError>;
    reserve_with_capacity(bytes: usize) -> Result<CapnpBuilder<'_, M>, SendError>;
    reserve_with_capacity_timeout(bytes: usize, wait: Duration) -> Result<CapnpBuilder<'_, M>, SendError>;
    try_send(build: impl for<'b> FnOnce(M::Builder<'b>) -> ::capnp::Result<()>) -> Result<(), SendError>;
    send(build: impl for<'b> FnOnce(M::Builder<'b>) -> ::capnp::Result<()>) -> Result<(), SendError>;
    send_timeout(
        build: impl for<'b> FnOnce(M::Builder<'b>) -> ::capnp::Result<()>,
        wait: Duration
    ) -> Result<(), SendError>;
    send_reader(reader: M::Reader<'_>) -> Result<(), SendError>;
});

delegate!(receiver: CapnpReceiver {
    try_recv() -> Result<CapnpReader<'_, R>, RecvError>;
    recv() -> Result<CapnpReader<'_, R>, RecvError>;
    recv_timeout(wait: Duration) -> Result<CapnpReader<'_, R>, RecvError>;
    try_recv_copied() -> Result<CapnpMessage<'_, R>, RecvError>;
    recv_copied() -> Result<CapnpMessage<'_, R>, RecvError>;
    recv_copied_timeout(wait: Duration) -> Result<CapnpMessage<'_, R>, RecvError>;
    drain(max: usize, each: impl for<'m> FnMut(CapnpMessage<'m, R>)) -> Result<usize, RecvError>;
});

impl<M, R> fmt::Debug for CapnpChannel<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CapnpChannel")
            .field("sender", &self.sender)
            .field("receiver", &self.receiver)
            .finish()
    }
}
