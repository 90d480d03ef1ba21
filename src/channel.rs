//! Typed messages of a fixed size: a `Pod` value, built and read in the slot that carries it.

mod halves;
mod value;

use std::fmt;
use std::time::Duration;

use bytemuck::Pod;
pub use halves::{Receiver, Sender};
pub use value::{PodBatch, PodMut, PodRef};

use crate::config::{Config, MAX_SLOT_ALIGN};
use crate::error::{CreateError, OpenError, RecvError, SendError};
use crate::poll::PollControl;
use crate::segment::{Identity, Side};
use crate::transport::{Listener, Payload, Payloads, RingStats, Stats, Transport};

/// One side of a duplex channel of values: `T` goes out, `R` comes in.
///
/// A slot is exactly one value, so [`Config::slot_size`] does not matter here. The value that
/// [`reserve`](Self::reserve) gives is the slot itself, and so is the one that [`recv`](Self::recv) gives.
/// Both sides must agree: size and alignment of each side's `T` are those of the other side's `R`, or the open
/// fails with [`OpenError::Type`]. Give a [`message_tag`](Config::message_tag) where two types of equal
/// size could be mistaken for each other.
///
/// ```
/// use bytemuck::{Pod, Zeroable};
/// use capnproto_shm_transport::{Channel, Config};
/// use std::time::Duration;
///
/// #[derive(Clone, Copy, Pod, Zeroable)]
/// #[repr(C)]
/// struct Order { id: u64, price: f64, amount: u64 }
///
/// #[derive(Clone, Copy, Pod, Zeroable)]
/// #[repr(C)]
/// struct Fill { id: u64, amount: u64 }
///
/// # let name = format!("doc-channel-{}", std::process::id());
/// # let name = name.as_str();
/// let mut desk = Channel::<Order, Fill>::create(name, &Config::new())?;              // in one process
/// let mut market = Channel::<Fill, Order>::open(name, Duration::from_secs(1))?;      // in the other
///
/// let mut order = desk.reserve()?; // zeroed, in the slot
/// order.id = 7;
/// order.amount = 100;
/// order.commit();
///
/// let (fills, orders) = market.halves();
/// let order = orders.recv()?;      // borrowed from the slot, released on drop
/// fills.send(&Fill { id: order.id, amount: order.amount })?;
/// assert_eq!(desk.recv()?.amount, 100);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Which types
///
/// Those that are [`Pod`]: every bit pattern is a value and no byte is padding, which is what makes bytes
/// from another process safe to look at as a `T`. Derive it with bytemuck's `derive` feature. Types of zero
/// size, and types aligned to more than a slot's 64 bytes, do not compile:
///
/// ```compile_fail,E0080
/// # use capnproto_shm_transport::{Channel, Config};
/// let nothing = Channel::<()>::create("nothing", &Config::new());
/// ```
///
/// zerocopy's `FromBytes + IntoBytes + Immutable` promise the same. A `Copy` type may derive both families:
///
/// ```
/// use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
///
/// #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
/// #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
/// #[repr(C)]
/// struct Quote { bid: u64, ask: u64 }
///
/// # use capnproto_shm_transport::{Channel, Config};
/// # let name = format!("doc-zerocopy-{}", std::process::id());
/// let mut quotes = Channel::<Quote>::create(&name, &Config::new())?;
/// # quotes.send(&Quote { bid: 1, ask: 2 })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A type that zerocopy alone vouches for goes over a [`Transport`]: build it with
/// `Quote::mut_from_bytes(&mut slot[..size_of::<Quote>()])`, read it with `Quote::ref_from_bytes(&slot)`.
pub struct Channel<T, R = T> {
    // The order matters: a peer that waits for us first sees the direction end that it reads from.
    sender: Sender<T>,
    receiver: Receiver<R>,
    name: String,
    config: Config,
}

impl<T: Pod, R: Pod> Channel<T, R> {
    /// Side A: makes the channel `name` afresh. [`Config::slot_size`] is ignored: the types give it.
    ///
    /// # Errors
    ///
    /// As [`Transport::create`].
    pub fn create(name: &str, config: &Config) -> Result<Self, CreateError> {
        let transport = Transport::create_typed(name, config, payloads::<T, R>())?;
        Ok(Self::new(transport, name, config))
    }

    /// Side B: joins the channel `name`, waiting up to `wait` for a live side A to have made it.
    ///
    /// # Errors
    ///
    /// As [`Transport::open`], and [`OpenError::Type`] unless side A receives a type of `T`'s size and
    /// alignment and sends one of `R`'s.
    pub fn open(name: &str, wait: Duration) -> Result<Self, OpenError> {
        Self::open_with(name, wait, &Config::new())
    }

    /// Side B with its own poll mode, permissions and memory options, and the tag it expects.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and [`OpenError::Tag`] if side A gave another `message_tag`.
    pub fn open_with(name: &str, wait: Duration, config: &Config) -> Result<Self, OpenError> {
        let transport = Transport::open_typed(name, wait, config, Some(payloads::<T, R>()))?;
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
        *self = Self::open_with(&self.name, wait, &self.config)?;
        Ok(())
    }

    fn new(transport: Transport, name: &str, config: &Config) -> Self {
        let (producer, consumer) = transport.split();
        let (sender, receiver) = (Sender::new(producer), Receiver::new(consumer));
        Self { sender, receiver, name: name.to_owned(), config: config.clone() }
    }

    /// Gives the two halves to whoever needs them: each is `Send`. The channel's name goes with the last.
    pub fn split(self) -> (Sender<T>, Receiver<R>) {
        (self.sender, self.receiver)
    }

    /// Both halves at once, for a caller that answers a message while it reads it.
    pub fn halves(&mut self) -> (&mut Sender<T>, &mut Receiver<R>) {
        (&mut self.sender, &mut self.receiver)
    }

    /// Receives in a thread of its own; see [`Receiver::listen`].
    pub fn listen(self, callback: impl FnMut(&R) + Send + 'static) -> (Sender<T>, Listener) {
        let (sender, receiver) = self.split();
        (sender, receiver.listen(callback))
    }

    /// Begins to gather values that become visible together; see [`Sender::batch`].
    pub fn batch(&mut self) -> PodBatch<'_, T> {
        self.sender.batch()
    }

    /// Which side of the channel this is.
    pub fn side(&self) -> Side {
        self.sender.producer.side()
    }

    /// Slots in each direction, of one value each.
    pub fn slot_count(&self) -> usize {
        self.sender.producer.slot_count()
    }

    /// Figures of both rings, now.
    pub fn stats(&self) -> Stats {
        let link = &self.sender.producer.lease().link;
        Stats { tx: RingStats::of(&link.tx), rx: RingStats::of(&link.rx) }
    }

    /// A handle on both sides' poll modes.
    pub fn poll_control(&self) -> PollControl {
        self.sender.producer.poll_control()
    }
}

impl<T: Pod, R: Pod> fmt::Debug for Channel<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("name", &self.name)
            .field("side", &self.side())
            .finish_non_exhaustive()
    }
}

/// Repeats a half's method on the whole.
macro_rules! delegate {
    ($half:ident: $type:ident {
        $( $name:ident ( $($arg:ident : $kind:ty),* ) -> $result:ty; )*
    }) => {
        impl<T: Pod, R: Pod> Channel<T, R> {
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

delegate!(sender: Sender {
    try_reserve() -> Result<PodMut<'_, T>, SendError>;
    reserve() -> Result<PodMut<'_, T>, SendError>;
    reserve_timeout(wait: Duration) -> Result<PodMut<'_, T>, SendError>;
    try_send(value: &T) -> Result<(), SendError>;
    send(value: &T) -> Result<(), SendError>;
    send_timeout(value: &T, wait: Duration) -> Result<(), SendError>;
});

delegate!(receiver: Receiver {
    try_recv() -> Result<PodRef<'_, R>, RecvError>;
    recv() -> Result<PodRef<'_, R>, RecvError>;
    recv_timeout(wait: Duration) -> Result<PodRef<'_, R>, RecvError>;
    try_recv_copied() -> Result<R, RecvError>;
    recv_copied() -> Result<R, RecvError>;
    recv_copied_timeout(wait: Duration) -> Result<R, RecvError>;
    drain(max: usize, each: impl FnMut(&R)) -> Result<usize, RecvError>;
});

fn payloads<T: Pod, R: Pod>() -> Payloads {
    Payloads { out: payload::<T>(), back: payload::<R>() }
}

/// What a direction of `T` carries. Compiles for types only that a slot can hold.
fn payload<T: Pod>() -> Payload {
    const {
        assert!(size_of::<T>() > 0, "a message type of zero size carries nothing: give it at least one byte");
        assert!(
            align_of::<T>() <= MAX_SLOT_ALIGN,
            "a message type aligned to more than 64 bytes does not fit: slots are aligned to 64 bytes"
        );
    }
    let identity = Identity {
        kind: Identity::POD,
        align: align_of::<T>() as u32,
        size: size_of::<T>() as u64,
        type_id: 0,
    };
    Payload { slot_size: size_of::<T>(), identity }
}
