//! Messages as a stream of owned items.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::{FusedStream, Stream};

#[cfg(feature = "capnp")]
use crate::capnp_channel::{CapnpReceiver, OwnedMessage};
use crate::channel::Receiver;
use crate::error::RecvError;
use crate::ring::{Consumer, Waiting};
use crate::transport::ReceiveHalf;

/// The messages of a receiving half as owned items; made by [`Consumer::into_stream`] and its like.
///
/// It ends when the peer closed in order and everything is received. Another end is its last item, an error; only
/// after [`RecvError::Interrupted`] it goes on. Nothing is taken before it is asked for: a sender whose messages nobody
/// asks for finds the ring full, as ever.
pub struct MessageStream<H, T> {
    half: H,
    take: fn(&mut H) -> Result<T, RecvError>,
    waiting: Waiting,
    ended: bool,
}

impl<H: ReceiveHalf, T> MessageStream<H, T> {
    /// `take` receives one message, and never waits.
    pub(super) fn new(half: H, take: fn(&mut H) -> Result<T, RecvError>) -> Self {
        Self { half, take, waiting: Waiting::new(1), ended: false }
    }

    /// The half, to go on without a stream.
    pub fn into_inner(self) -> H {
        self.half
    }

    fn poll_taken(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, RecvError>> {
        let consumer = self.half.consumer_mut();
        ready!(consumer.poll_turn(cx));
        let ready = ready!(consumer.poll_message(&mut self.waiting, cx));
        Poll::Ready(ready.and_then(|()| (self.take)(&mut self.half)))
    }
}

impl<H: ReceiveHalf + Unpin, T> Stream for MessageStream<H, T> {
    type Item = Result<T, RecvError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let taken = ready!(this.poll_taken(cx));
        this.ended = matches!(&taken, Err(error) if !matches!(error, RecvError::Interrupted));
        Poll::Ready(match taken {
            Err(RecvError::Closed) => None,
            taken => Some(taken),
        })
    }
}

impl<H: ReceiveHalf + Unpin, T> FusedStream for MessageStream<H, T> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl<H: fmt::Debug, T> fmt::Debug for MessageStream<H, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageStream")
            .field("half", &self.half)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl Consumer {
    /// The messages as a stream, each copied once into a vector of its own.
    ///
    /// ```
    /// use capnproto_shm_transport::{Config, Transport};
    /// use futures_lite::StreamExt;
    ///
    /// # let name = format!("doc-into-stream-{}", std::process::id());
    /// let mut a = Transport::create(&name, &Config::new())?;
    /// let b = Transport::open(&name, std::time::Duration::from_secs(1))?;
    /// a.send(b"one")?;
    /// a.send(b"two")?;
    /// drop(a);
    /// let (_, from_a) = b.split();
    /// let all: Vec<_> = futures_lite::future::block_on(from_a.into_stream().try_collect())?;
    /// assert_eq!(all, [b"one", b"two"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
    pub fn into_stream(self) -> MessageStream<Self, Vec<u8>> {
        MessageStream::new(self, |half| {
            let mut message = Vec::new();
            half.try_recv_copied(&mut message)?;
            Ok(message)
        })
    }
}

impl<R: bytemuck::Pod> Receiver<R> {
    /// The values as a stream.
    #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
    pub fn into_stream(self) -> MessageStream<Self, R> {
        MessageStream::new(self, Self::try_recv_copied)
    }
}

#[cfg(feature = "capnp")]
impl<R: capnp::traits::Owned> CapnpReceiver<R> {
    /// The messages as a stream, each copied once into memory of its own.
    #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
    pub fn into_stream(self) -> MessageStream<Self, OwnedMessage<R>> {
        MessageStream::new(self, Self::try_recv_owned)
    }
}
