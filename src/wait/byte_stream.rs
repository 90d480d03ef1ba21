//! A channel as a stream of bytes, in place of a socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};

use crate::error::RecvError;
use crate::ring::{Consumer, Partly, Producer, Waiting};
use crate::transport::Transport;

/// A [`Transport`] as a stream of bytes, which behaves as a socket does: futures' [`AsyncRead`] and [`AsyncWrite`], and
/// tokio's with the feature `tokio`. Made by [`Transport::into_io`].
///
/// A write fills as many free slots as it needs, and waits if there are none. A read takes the bytes that are there. The
/// borders of messages mean nothing, so that the peer may be a byte stream too, or a transport that sends pieces of a
/// stream. Flushing does nothing: written bytes are visible. Shutting down ends this direction only; the peer reads
/// the written bytes, then the end, and may go on to write.
///
/// For many bytes a second, choose slots as large as the writes, and a ring that leaves the writer's own cache, for example
/// `Config::new().slot_size(64 << 10).slot_count(64)`: on the machine of `docs/benchmarks.md` that carries twice what the default
/// ring does.
///
/// | what happened | reading returns | writing returns |
/// |---|---|---|
/// | the peer shut down, or dropped its side | the written bytes, then 0 | [`BrokenPipe`](io::ErrorKind::BrokenPipe) after it dropped its side |
/// | the peer died, or was superseded | the written bytes, then [`ConnectionReset`](io::ErrorKind::ConnectionReset) | the same |
/// | the peer is corrupt | [`InvalidData`](io::ErrorKind::InvalidData) | the same |
///
/// ```
/// use capnproto_shm_transport::{Config, Transport};
/// use futures_lite::io::{AsyncReadExt, AsyncWriteExt};
///
/// # let name = format!("doc-into-io-{}", std::process::id());
/// let a = Transport::create(&name, &Config::new())?;
/// let b = Transport::open(&name, std::time::Duration::from_secs(1))?;
/// let (mut a, mut b) = (a.into_io(), b.into_io());
/// futures_lite::future::block_on(async {
///     a.write_all(b"hello").await?;
///     a.close().await?;
///     let mut read = Vec::new();
///     b.read_to_end(&mut read).await?;
///     assert_eq!(read, b"hello");
///     std::io::Result::Ok(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ByteStream {
    reader: ByteReader,
    writer: ByteWriter,
}

/// The half of a [`ByteStream`] that is read from. Dropping it is like dropping a [`Consumer`].
#[derive(Debug)]
pub struct ByteReader {
    consumer: Consumer,
    partly: Partly,
    waiting: Waiting,
}

/// The half of a [`ByteStream`] that is written to. Dropping it ends its direction, like shutting it down.
#[derive(Debug)]
pub struct ByteWriter {
    producer: Producer,
    waiting: Waiting,
}

impl Transport {
    /// This side as a stream of bytes.
    #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
    pub fn into_io(self) -> ByteStream {
        let (producer, consumer) = self.split();
        let reader = ByteReader { consumer, partly: Partly::default(), waiting: Waiting::new(1) };
        ByteStream { reader, writer: ByteWriter { producer, waiting: Waiting::new(1) } }
    }
}

impl ByteStream {
    /// Splits the stream into its two directions, without a lock between them.
    pub fn into_split(self) -> (ByteReader, ByteWriter) {
        (self.reader, self.writer)
    }
}

impl ByteReader {
    fn poll_bytes(
        &mut self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(&[u8]) -> usize,
    ) -> Poll<io::Result<usize>> {
        ready!(self.consumer.poll_turn(cx));
        loop {
            if self.partly.is_none() {
                match ready!(self.consumer.poll_message(&mut self.waiting, cx)) {
                    Err(RecvError::Closed) => return Poll::Ready(Ok(0)),
                    ready => ready?,
                }
            }
            match self.consumer.read_bytes(&mut self.partly, &mut take) {
                // A message without bytes is no end. The wait shows whether more came after it.
                Ok(0) | Err(RecvError::Empty | RecvError::Closed) => {}
                read => return Poll::Ready(Ok(read?)),
            }
        }
    }
}

impl ByteWriter {
    fn poll_bytes(
        &mut self,
        cx: &mut Context<'_>,
        fill: impl FnMut(&mut [u8]) -> usize,
    ) -> Poll<io::Result<usize>> {
        ready!(self.producer.poll_turn(cx));
        ready!(self.producer.poll_slot(&mut self.waiting, cx))?;
        Poll::Ready(Ok(self.producer.write_bytes(fill)?))
    }

    fn poll_slices(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if slices.iter().all(|slice| slice.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        let (mut slices, mut rest) = (slices.iter(), &[][..]);
        self.poll_bytes(cx, |slot| {
            let mut put = 0;
            while put < slot.len() {
                if rest.is_empty() {
                    let Some(next) = slices.next() else { break };
                    rest = next;
                }
                let (now, later) = rest.split_at(rest.len().min(slot.len() - put));
                slot[put..put + now.len()].copy_from_slice(now);
                (put, rest) = (put + now.len(), later);
            }
            put
        })
    }
}

/// Puts bytes into buffers one after the other.
fn scatter<'a, 'b: 'a>(slices: &'a mut [IoSliceMut<'b>]) -> impl FnMut(&[u8]) -> usize + use<'a, 'b> {
    let (mut slices, mut filled) = (slices.iter_mut().peekable(), 0);
    move |bytes| {
        let mut taken = 0;
        while taken < bytes.len() {
            let Some(slice) = slices.peek_mut() else { break };
            let free = &mut slice[filled..];
            let now = free.len().min(bytes.len() - taken);
            free[..now].copy_from_slice(&bytes[taken..taken + now]);
            (taken, filled) = (taken + now, filled + now);
            if filled == slice.len() {
                slices.next();
                filled = 0;
            }
        }
        taken
    }
}

impl AsyncRead for ByteReader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll_read_vectored(cx, &mut [IoSliceMut::new(out)])
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        if out.iter().all(|slice| slice.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        self.get_mut().poll_bytes(cx, scatter(out))
    }
}

impl AsyncWrite for ByteWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_slices(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_slices(cx, slices)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().producer.shut_down();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().reader).poll_read(cx, out)
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().reader).poll_read_vectored(cx, out)
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().writer).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().writer).poll_write_vectored(cx, slices)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().writer).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().writer).poll_close(cx)
    }
}

/// tokio's traits, by way of futures'.
#[cfg(feature = "tokio")]
mod for_tokio {
    use tokio::io::ReadBuf;

    use super::*;

    macro_rules! reads {
        ($type:ident, $reader:ident => $part:expr) => {
            #[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
            impl tokio::io::AsyncRead for $type {
                fn poll_read(
                    self: Pin<&mut Self>,
                    cx: &mut Context<'_>,
                    out: &mut ReadBuf<'_>,
                ) -> Poll<io::Result<()>> {
                    if out.remaining() == 0 {
                        return Poll::Ready(Ok(()));
                    }
                    let $reader = self.get_mut();
                    let take = |bytes: &[u8]| {
                        let now = bytes.len().min(out.remaining());
                        out.put_slice(&bytes[..now]);
                        now
                    };
                    $part.poll_bytes(cx, take).map_ok(|_| ())
                }
            }
        };
    }

    reads!(ByteReader, reader => reader);
    reads!(ByteStream, stream => stream.reader);

    macro_rules! writes {
        ($type:ident) => {
            #[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
            impl tokio::io::AsyncWrite for $type {
                fn poll_write(
                    self: Pin<&mut Self>,
                    cx: &mut Context<'_>,
                    bytes: &[u8],
                ) -> Poll<io::Result<usize>> {
                    AsyncWrite::poll_write(self, cx, bytes)
                }

                fn poll_write_vectored(
                    self: Pin<&mut Self>,
                    cx: &mut Context<'_>,
                    slices: &[IoSlice<'_>],
                ) -> Poll<io::Result<usize>> {
                    AsyncWrite::poll_write_vectored(self, cx, slices)
                }

                fn is_write_vectored(&self) -> bool {
                    true
                }

                fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                    AsyncWrite::poll_flush(self, cx)
                }

                fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                    AsyncWrite::poll_close(self, cx)
                }
            }
        };
    }

    writes!(ByteWriter);
    writes!(ByteStream);
}
