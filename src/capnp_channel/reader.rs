//! A message that came in.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use ::capnp::message;
use ::capnp::traits::Owned;

use super::frame::{Borrowed, Frame, Limits};
use crate::error::RecvError;
use crate::ring::{ReadSlot, Window, waiting_forms};

/// A received message, read in the slot it arrived in. Dropping it gives the slot back to the peer.
///
/// This trusts the peer to leave a committed slot alone, as a [`ReadSlot`](crate::ReadSlot) does. What stands
/// in the slot may be anything: a frame or pointer that leads astray is an error, not a panic. For a peer that
/// is not trusted at all use [`recv_copied`](super::CapnpReceiver::recv_copied).
#[must_use = "the message is released when this is dropped"]
pub struct CapnpReader<'a, R> {
    message: message::Reader<Frame<ReadSlot<'a>, Borrowed<'a>>>,
    root: PhantomData<fn() -> R>,
}

/// A received message in bytes that are borrowed from elsewhere: the receiver's own copy of them
/// ([`recv_copied`](super::CapnpReceiver::recv_copied)), or a slot that is released later
/// ([`drain`](super::CapnpReceiver::drain), [`listen`](super::CapnpReceiver::listen)).
pub struct CapnpMessage<'a, R> {
    message: message::Reader<Frame<&'a [u8], Borrowed<'a>>>,
    root: PhantomData<fn() -> R>,
}

/// A received message in memory of its own: an item of a [stream](super::CapnpReceiver::into_stream).
#[cfg(feature = "async")]
#[cfg_attr(docsrs, doc(cfg(feature = "async")))]
pub struct OwnedMessage<R> {
    message: message::Reader<Frame<OwnedBytes, Vec<Range<usize>>>>,
    root: PhantomData<fn() -> R>,
}

/// Whole words, of which so many bytes count.
#[cfg(feature = "async")]
struct OwnedBytes(Vec<u64>, usize);

#[cfg(feature = "async")]
impl std::ops::Deref for OwnedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.0)[..self.1]
    }
}

#[cfg(feature = "async")]
impl<R: Owned> OwnedMessage<R> {
    /// `len` bytes of `words` are the message.
    pub(super) fn new(words: Vec<u64>, len: usize, limits: Limits) -> Self {
        let bytes = OwnedBytes(words, len);
        let options = limits.of(&bytes);
        Self { message: message::Reader::new(Frame::owned(bytes), options), root: PhantomData }
    }
}

macro_rules! making {
    ($type:ident, $bytes:ty) => {
        impl<'a, R: Owned> $type<'a, R> {
            #[inline(always)]
            pub(super) fn new(bytes: $bytes, table: &'a mut Vec<Range<usize>>, limits: Limits) -> Self {
                let options = limits.of(&bytes);
                let message = message::Reader::new(Frame::new(bytes, table), options);
                Self { message, root: PhantomData }
            }
        }
    };
}

making!(CapnpReader, ReadSlot<'a>);
making!(CapnpMessage, &'a [u8]);

macro_rules! reading {
    ($type:ident $(, $life:lifetime)?) => {
        impl<R: Owned> $type<$($life,)? R> {
            /// The message.
            ///
            /// # Errors
            ///
            /// capnp's, if the bytes are no frame or the root is no `R`. Fields that hold pointers are checked
            /// when they are looked at, and count towards the limits of
            /// [`reader_options`](super::CapnpReceiver::reader_options).
            #[inline(always)]
            pub fn get(&self) -> ::capnp::Result<R::Reader<'_>> {
                self.message.get_segments().check()?;
                self.message.get_root()
            }

            /// The bytes as received: one frame of the standard stream framing, as any Cap'n Proto
            /// implementation reads it.
            #[inline]
            pub fn frame_bytes(&self) -> &[u8] {
                self.message.get_segments().bytes()
            }
        }

        impl<R: Owned> fmt::Debug for $type<$($life,)? R> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($type)).field("bytes", &self.frame_bytes().len()).finish()
            }
        }
    };
}

reading!(CapnpReader, '_);
reading!(CapnpMessage, '_);
#[cfg(feature = "async")]
reading!(OwnedMessage);

/// Holds received messages, oldest first, each in the slot it arrived in, like [`Window`].
#[must_use = "dropping a window releases its messages"]
pub struct CapnpWindow<'a, R> {
    window: Window<'a>,
    table: &'a mut Vec<Range<usize>>,
    limits: Limits,
    root: PhantomData<fn() -> R>,
}

impl<'a, R: Owned> CapnpWindow<'a, R> {
    pub(super) fn new(window: Window<'a>, table: &'a mut Vec<Range<usize>>, limits: Limits) -> Self {
        Self { window, table, limits, root: PhantomData }
    }

    waiting_forms! {
        /// Receives messages until the window holds `count`, or more if it does already. Those that came before an
        /// error stay.
        #[errors("[`WindowTooLarge`](RecvError::WindowTooLarge) if `count` exceeds the slots of the ring.")]
        try_wait_for, wait_for, wait_for_timeout, wait_for_async(count: usize) -> (), RecvError
            = |half, limit| half.window.fill(count, limit), ready |polling| half.window.poll_filled(count, polling);
    }

    /// Messages that are held.
    pub fn len(&self) -> usize {
        self.window.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.window.is_empty()
    }

    /// A message that is held, counted from the oldest.
    pub fn get(&mut self, index: usize) -> Option<CapnpMessage<'_, R>> {
        let bytes = self.window.get(index)?;
        Some(CapnpMessage::new(bytes, self.table, self.limits))
    }

    /// Gives the `count` oldest messages back to the sender, all if there are no more.
    pub fn release(&mut self, count: usize) {
        self.window.release(count);
    }
}

impl<R> fmt::Debug for CapnpWindow<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CapnpWindow").field(&self.window).finish()
    }
}
