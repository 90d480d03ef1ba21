//! Typed messages of a fixed size: a `Pod` value, built and read in the slot that carries it.

mod halves;
mod value;

use std::ops::ControlFlow;
use std::time::Duration;

use bytemuck::Pod;
pub use halves::{Receiver, Sender};
pub use value::{PodBatch, PodMut, PodRef, PodWindow};

use crate::config::Config;
use crate::error::{CreateError, OpenError, RecvError, SendError};
use crate::poll::PollControl;
use crate::protocol::Side;
use crate::ring::Interrupter;
use crate::transport::{Duplex, Listener, ReceiveHalf, SendHalf, Stats, delegate, duplex_methods};

/// One side of a duplex channel of values: `T` goes out, `R` comes in.
///
/// A slot is exactly one value, so the configuration's slot sizes do not matter here. The value that
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
/// A type that only zerocopy vouches for goes over a [`Transport`](crate::Transport): build it with
/// `Quote::mut_from_bytes(&mut slot[..size_of::<Quote>()])`, read it with `Quote::ref_from_bytes(&slot)`.
///
/// A large array is [`Pod`] too with bytemuck's feature `min_const_generics`. Receive it by reference, or by
/// [`recv_into`](Self::recv_into): [`recv_copied`](Self::recv_copied) returns the value on the stack.
pub struct Channel<T, R = T>(Duplex<Sender<T>, Receiver<R>>);

duplex_methods!([T: Pod, R: Pod] Channel [T, R] where []; Sender<T>, Receiver<R>; "Channel");

impl<T: Pod, R: Pod> Channel<T, R> {
    /// Receives in a thread of its own; see [`Receiver::listen`].
    pub fn listen(self, callback: impl FnMut(&R) + Send + 'static) -> (Sender<T>, Listener<Receiver<R>>) {
        let (sender, receiver) = self.split();
        (sender, receiver.listen(callback))
    }

    /// Begins to gather values that become visible together; see [`Sender::batch`].
    pub fn batch(&mut self) -> PodBatch<'_, T> {
        self.0.sender.batch()
    }

    /// A window that holds several received values; see [`Receiver::window`].
    pub fn window(&mut self) -> PodWindow<'_, R> {
        self.0.receiver.window()
    }
}

delegate!([T: Pod, R: Pod] Channel [T, R], sender: Sender {
    try_reserve() -> Result<PodMut<'_, T>, SendError>;
    reserve() -> Result<PodMut<'_, T>, SendError>;
    reserve_timeout(wait: Duration) -> Result<PodMut<'_, T>, SendError>;
    try_send(value: &T) -> Result<(), SendError>;
    send(value: &T) -> Result<(), SendError>;
    send_timeout(value: &T, wait: Duration) -> Result<(), SendError>;
} async {
    reserve_async() -> Result<PodMut<'_, T>, SendError>;
    send_async(value: &T) -> Result<(), SendError>;
});

delegate!([T: Pod, R: Pod] Channel [T, R], receiver: Receiver {
    try_recv() -> Result<PodRef<'_, R>, RecvError>;
    recv() -> Result<PodRef<'_, R>, RecvError>;
    recv_timeout(wait: Duration) -> Result<PodRef<'_, R>, RecvError>;
    try_recv_latest() -> Result<PodRef<'_, R>, RecvError>;
    recv_latest() -> Result<PodRef<'_, R>, RecvError>;
    recv_latest_timeout(wait: Duration) -> Result<PodRef<'_, R>, RecvError>;
    try_recv_copied() -> Result<R, RecvError>;
    recv_copied() -> Result<R, RecvError>;
    recv_copied_timeout(wait: Duration) -> Result<R, RecvError>;
    try_recv_into(out: &mut R) -> Result<(), RecvError>;
    recv_into(out: &mut R) -> Result<(), RecvError>;
    recv_into_timeout(out: &mut R, wait: Duration) -> Result<(), RecvError>;
    drain(max: usize, each: impl FnMut(&R)) -> Result<usize, RecvError>;
    drain_while(max: usize, each: impl FnMut(&R) -> ControlFlow<()>) -> Result<usize, RecvError>;
} async {
    recv_async() -> Result<PodRef<'_, R>, RecvError>;
    recv_latest_async() -> Result<PodRef<'_, R>, RecvError>;
    recv_copied_async() -> Result<R, RecvError>;
    recv_into_async(out: &mut R) -> Result<(), RecvError>;
});
