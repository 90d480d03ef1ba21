//! Cap'n Proto messages, built and read in the slot that carries them.

mod arena;
mod builder;
mod frame;
mod reader;
mod receiver;
mod sender;

use std::ops::ControlFlow;
use std::time::Duration;

use ::capnp::message::ReaderOptions;
use ::capnp::traits::{HasTypeId, Owned};

pub use builder::{CapnpBatch, CapnpBuilder};
#[cfg(feature = "rpc")]
pub(crate) use frame::{Frame, announced};
#[cfg(feature = "async")]
pub use reader::OwnedMessage;
pub use reader::{CapnpMessage, CapnpReader, CapnpWindow};
pub use receiver::CapnpReceiver;
pub use sender::CapnpSender;

use crate::config::Config;
use crate::error::{CreateError, OpenError, RecvError, SendError};
use crate::poll::PollControl;
use crate::protocol::Side;
use crate::ring::Interrupter;
use crate::transport::{
    Carries, Duplex, Listener, Payload, ReceiveHalf, SendHalf, Stats, delegate, duplex_methods,
};

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
pub struct CapnpChannel<M, R = M>(Duplex<CapnpSender<M>, CapnpReceiver<R>>);

/// The payload of a direction of `M`. The slot size is side A's to say.
fn payload<M: Owned>() -> Payload
where
    M::Reader<'static>: HasTypeId,
{
    Payload::capnp(<M::Reader<'static> as HasTypeId>::TYPE_ID)
}

impl<M: Owned> Carries for CapnpSender<M>
where
    M::Reader<'static>: HasTypeId,
{
    fn payload() -> Payload {
        payload::<M>()
    }
}

impl<R: Owned> Carries for CapnpReceiver<R>
where
    R::Reader<'static>: HasTypeId,
{
    fn payload() -> Payload {
        payload::<R>()
    }
}

duplex_methods!(
    [M: Owned, R: Owned] CapnpChannel [M, R]
    where [M::Reader<'static>: HasTypeId, R::Reader<'static>: HasTypeId];
    CapnpSender<M>, CapnpReceiver<R>; "CapnpChannel"
);

impl<M: Owned, R: Owned> CapnpChannel<M, R> {
    /// Receives in a thread of its own; see [`CapnpReceiver::listen`].
    pub fn listen(
        self,
        callback: impl for<'m> FnMut(CapnpMessage<'m, R>) + Send + 'static,
    ) -> (CapnpSender<M>, Listener<CapnpReceiver<R>>)
    where
        R: 'static,
    {
        let (sender, receiver) = self.split();
        (sender, receiver.listen(callback))
    }

    /// How far readers go into each message; see [`CapnpReceiver::reader_options`].
    pub fn reader_options(&mut self, options: ReaderOptions) {
        self.0.receiver.reader_options(options);
    }

    /// Largest frame this side can send, as a span: `slot_size * slot_count` bytes.
    pub fn max_message_size(&self) -> usize {
        self.0.sender.max_message_size()
    }

    /// Begins to gather messages that become visible together; see [`CapnpSender::batch`].
    pub fn batch(&mut self) -> CapnpBatch<'_, M> {
        self.0.sender.batch()
    }

    /// A window that holds several received messages; see [`CapnpReceiver::window`].
    pub fn window(&mut self) -> CapnpWindow<'_, R> {
        self.0.receiver.window()
    }
}

delegate!([M: Owned, R: Owned] CapnpChannel [M, R], sender: CapnpSender {
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
    try_send_reader(reader: M::Reader<'_>) -> Result<(), SendError>;
    send_reader(reader: M::Reader<'_>) -> Result<(), SendError>;
    send_reader_timeout(reader: M::Reader<'_>, wait: Duration) -> Result<(), SendError>;
    try_send_frame(frame: &[u8]) -> Result<(), SendError>;
    send_frame(frame: &[u8]) -> Result<(), SendError>;
    send_frame_timeout(frame: &[u8], wait: Duration) -> Result<(), SendError>;
} async {
    reserve_async() -> Result<CapnpBuilder<'_, M>, SendError>;
    reserve_with_capacity_async(bytes: usize) -> Result<CapnpBuilder<'_, M>, SendError>;
    send_async(build: impl for<'b> FnOnce(M::Builder<'b>) -> ::capnp::Result<()>) -> Result<(), SendError>;
    send_reader_async(reader: M::Reader<'_>) -> Result<(), SendError>;
    send_frame_async(frame: &[u8]) -> Result<(), SendError>;
});

delegate!([M: Owned, R: Owned] CapnpChannel [M, R], receiver: CapnpReceiver {
    try_recv() -> Result<CapnpReader<'_, R>, RecvError>;
    recv() -> Result<CapnpReader<'_, R>, RecvError>;
    recv_timeout(wait: Duration) -> Result<CapnpReader<'_, R>, RecvError>;
    try_recv_latest() -> Result<CapnpReader<'_, R>, RecvError>;
    recv_latest() -> Result<CapnpReader<'_, R>, RecvError>;
    recv_latest_timeout(wait: Duration) -> Result<CapnpReader<'_, R>, RecvError>;
    try_recv_copied() -> Result<CapnpMessage<'_, R>, RecvError>;
    recv_copied() -> Result<CapnpMessage<'_, R>, RecvError>;
    recv_copied_timeout(wait: Duration) -> Result<CapnpMessage<'_, R>, RecvError>;
    drain(max: usize, each: impl for<'m> FnMut(CapnpMessage<'m, R>)) -> Result<usize, RecvError>;
    drain_while(
        max: usize,
        each: impl for<'m> FnMut(CapnpMessage<'m, R>) -> ControlFlow<()>
    ) -> Result<usize, RecvError>;
} async {
    recv_async() -> Result<CapnpReader<'_, R>, RecvError>;
    recv_latest_async() -> Result<CapnpReader<'_, R>, RecvError>;
    recv_copied_async() -> Result<CapnpMessage<'_, R>, RecvError>;
});
